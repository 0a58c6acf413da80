"""From what was asked to a checked request: new sweeps, reruns, resumes and confirmations.

Runs in the sweep process, before Ray starts, and in `plan`.
"""
