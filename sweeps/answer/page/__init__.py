"""The pages of `sweeps report` and `sweeps compare`: the data of each picture, and one HTML file.

Runs in any process; reads a sweep's folder and needs no cluster.
"""
