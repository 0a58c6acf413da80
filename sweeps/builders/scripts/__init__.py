"""The builder that runs a training script of one's own, and the dry run that reads its flags.

Runs in the sweep process, in the process of a dry run, in the workers and in the model process.
"""
