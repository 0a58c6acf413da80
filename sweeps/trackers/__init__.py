"""Trackers: copies of a sweep in other tools, each kept by a process of its own.

They follow the event log and must not touch the sweep.
"""
