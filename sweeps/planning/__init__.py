"""What a sweep would do: its layout, its disk, the forecast of its scheduler, and what is doubtful.

Runs in the sweep process before Ray starts, and in `plan`. Starts nothing.
"""
