"""Turns data and a model into an HF `Trainer`: the callables for `build_trainer`.

Checked in the sweep process, called in the workers and in the model process. Nothing here knows
about Ray, trials or sweeps.
"""
