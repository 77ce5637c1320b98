"""The hub: takes jobs from JetStream, finishes plates into print files, stores them, then acks.

Nothing here needs an edge in order to finish.
"""
