"""The outcome of a sweep: the answer, results, the export of the best checkpoint.

Runs in the sweep process, the verbs, the trackers and the model process. Reads a sweep's folder and
needs no cluster.
"""
