"""The builder that runs a training script of one's own, and the dry run that reads its flags."""
