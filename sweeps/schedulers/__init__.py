"""Schedulers: which trials stop, pause or continue at a report, one algorithm a file.

Run in the sweep process. They must not know how a decision reaches a worker.
"""
