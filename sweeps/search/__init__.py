"""Deciding: what is tried next, who is stopped, what is saved; the sweep process itself."""
