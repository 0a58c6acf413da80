"""Searchers: which params are tried next, with one algorithm per file.

Run in the sweep process; `report` uses parts of them for the importance of arguments. They must not
know how a trial is trained.
"""
