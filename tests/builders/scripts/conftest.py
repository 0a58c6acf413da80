"""Each test runs as a job of a worker does, and makes its dry runs in forks."""

from tests.builders.scripts.scripted import forked_dry_runs, process, tutorial_data

__all__ = ["forked_dry_runs", "process", "tutorial_data"]
