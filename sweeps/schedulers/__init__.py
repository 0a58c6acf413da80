"""Schedulers: which trials stop, pause or continue after a report, with one algorithm per file.

Run in the sweep process. They must not know how a decision reaches a worker.
"""
