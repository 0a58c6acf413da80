"""Where a trial's rows come from and in which order: streams, samplers, seeds."""
