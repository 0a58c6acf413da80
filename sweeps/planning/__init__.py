"""Planning: a sweep's layout, disk, forecast and warnings.

Runs in the sweep process before Ray starts, and in `plan`. Starts nothing.
"""
