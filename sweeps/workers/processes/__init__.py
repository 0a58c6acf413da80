"""Forks Ray's worker processes from one process that has imported the libraries.

Runs in the process server, and in each process that Ray starts by it.
"""
