"""Searchers: which params are tried next, with one algorithm per file.

Run in the sweep process. They must not know how a trial is trained.
"""
