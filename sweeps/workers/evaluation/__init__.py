"""Which evaluations of a trial count, over which rows, and which of their numbers are reported."""
