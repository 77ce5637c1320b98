"""What every Halfdrop process needs to live: settings, logs, NATS, the object store, start and stop.

Nothing here knows what a pattern looks like or what a job does.
"""
