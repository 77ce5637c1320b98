"""A cache of bytes in tiers: memory, LMDB, Redis or Valkey, object store.

Nothing here knows what the bytes are. Any tier can fail at any moment; a failure makes an answer slower, never wrong.
"""
