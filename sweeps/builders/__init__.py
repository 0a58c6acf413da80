"""Data and model to a HF `Trainer`: the callables that a search space names as `build_trainer`.

Checked in the sweep process, called in the workers. Nothing here knows Ray, trials or sweeps.
"""
