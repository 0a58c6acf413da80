"""The page of `sweeps report` and `sweeps compare`: what each picture shows, and one HTML file.

Runs wherever someone looks; reads a sweep's folder and needs no cluster.
"""
