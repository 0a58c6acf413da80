"""What the errors and deaths of workers say about why an attempt ended.

Runs in the workers, which describe them, and in the exchange and the sweep process, which judge.
"""
