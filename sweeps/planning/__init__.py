"""Planning a sweep: its layout, disk usage, forecast and warnings.

Runs in the sweep process before Ray starts, and in `plan`. Starts nothing.
"""
