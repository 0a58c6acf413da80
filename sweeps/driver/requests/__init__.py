"""From what was asked to a checked request: new sweeps, reruns, resumes and confirmations."""
