"""Puts a worker process back as it was before a job, and finds what it cannot put back.

Runs in the workers, between jobs; `driver/caller.py` restores the caller's process with it.
"""
