"""What defines a sweep: pure functions and dataclasses. Starts nothing, runs in any process."""
