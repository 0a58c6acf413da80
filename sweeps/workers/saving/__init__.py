"""Saves checkpoints and states while a trial trains on, and takes states up again.

Runs in the workers.
"""
