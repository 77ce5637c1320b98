"""The edge: previews and cached patterns at once, orders accepted durably and passed on.

Nothing here imports torch, and no answer here ever waits for a hub.
"""
