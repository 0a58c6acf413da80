"""Reads the rows of a dataset, checks and chooses them, and keeps prepared rows in files."""
