"""Puts a worker process back as it was before a job, and finds what it cannot put back."""
