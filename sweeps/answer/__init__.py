"""What a sweep comes to: results, the answer, the export of its best checkpoint.

Runs wherever someone looks: in the sweep process, the verbs, the trackers. Reads a sweep's folder
and needs no cluster.
"""
