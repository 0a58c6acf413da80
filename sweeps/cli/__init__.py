"""The command line: the verbs, one a file, and the only place that prints."""
