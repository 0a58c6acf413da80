"""Defining a sweep: pure functions and dataclasses that start nothing and run anywhere."""
