"""The sweep process: takes a request, starts Ray and the worker groups, decides, writes the log.

One process a sweep. It must not print: followers are told.
"""
