"""Trackers: copies of a sweep in other tools, each written by a separate process.

They follow the event log and must not touch the sweep. A new one is a class (`base.py`) and a name
(`known.py`).
"""
