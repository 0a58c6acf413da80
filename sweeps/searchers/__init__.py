"""Searchers: which params are tried next, one algorithm a file.

Run in the sweep process. They must not know how a trial is trained.
"""
