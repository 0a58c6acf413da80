"""A helper beside the scripts."""


def accuracy(predictions, labels):
    return float((predictions == labels).mean())
