"""Schedulers: which trials stop, pause or continue after a report, with one algorithm per file.

Run in the sweep process, `plan` and `report`. They must not know how a decision reaches a worker.
"""
