"""The sweep process: takes a request, starts Ray and the worker groups, decides, writes the log.

One process per sweep. It must not print: followers do.
"""
