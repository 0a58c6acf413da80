"""The outcome of a sweep: the answer, results, the export of the best checkpoint.

Runs in the sweep process, the verbs and the trackers. Reads a sweep's folder
and needs no cluster.
"""
