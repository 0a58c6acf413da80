"""The outcome of a sweep: the answer, results, the export of the best checkpoint.

Runs wherever someone looks: in the sweep process, the verbs, the trackers. Reads a sweep's folder
and needs no cluster.
"""
