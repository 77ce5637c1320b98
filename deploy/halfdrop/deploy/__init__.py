"""Starts the other parts: `halfdrop up` on one machine with embedded servers, and the command line.

Nobody imports this package.
"""
