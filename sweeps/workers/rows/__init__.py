"""Where a trial's rows come from and in which order: streams, samplers, seeds.

Runs in the workers; the sweep process starts the streams.
"""
