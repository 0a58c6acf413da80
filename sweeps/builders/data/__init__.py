"""Reads the rows of a dataset, checks and chooses them, and keeps prepared rows in files.

Runs in the sweep process before Ray starts, and in the workers, which find the prepared rows.
"""
