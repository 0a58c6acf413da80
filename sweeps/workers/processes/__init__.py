"""Forks Ray's worker processes from one process that has imported the libraries."""
