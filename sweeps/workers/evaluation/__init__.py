"""Which evaluations of a trial count, over which rows, and which of their numbers are reported.

Runs in the workers, and in the model process of an export.
"""
