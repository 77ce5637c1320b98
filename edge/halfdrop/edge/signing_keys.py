"""The secrets that sign addresses, at rest: one small object for each, under access/signing/. See docs/adr/0012.

The first is made by whichever edge of the region starts first. A new one is known to every edge before the first
address is signed with it, and an old one goes on verifying until the last address that it signed has expired; both
follow from the times when they were made, so that no record is ever changed.
"""

import secrets
from collections.abc import Sequence

import msgspec

from halfdrop.edge.keys import CHANGED_PATH
from halfdrop.edge.names import new_order_id
from halfdrop.edge.settings import ADDRESS_TTL_MAX_S
from halfdrop.runtime.objects import ObjectStore

FOLDER = "access/signing"
FIRST_ID = "first"

SECRET_BYTES = 32
"""As long as SHA-256's digest: RFC 2104 advises against fewer, and more adds nothing."""

SETTLE_S = 30.0
"""From when a key is made to when it signs. Edges read keys once a second; the rest is for clocks that differ."""


class SigningKey(msgspec.Struct, frozen=True, kw_only=True, tag="signing.v1"):
    """One secret. Whoever reads it can sign, so it is in no log and in no answer."""

    id: str
    secret: bytes
    made_at: float
    """Unix seconds."""

    def __repr__(self) -> str:
        return f"SigningKey(id={self.id!r}, made_at={self.made_at!r})"


async def ensure_signing_keys(objects: ObjectStore, *, now: float) -> list[SigningKey]:
    """Return all keys, oldest first, after making one where there is none. Raises Unavailable, msgspec.MsgspecError.

    Edges that start at the same moment end up with the same key: it can be created once only.
    """
    known = await read_signing_keys(objects)
    if not known:
        await objects.create(_path(FIRST_ID), msgspec.json.encode(_make(FIRST_ID, now)))
        known = await read_signing_keys(objects)
    return known


async def read_signing_keys(objects: ObjectStore) -> list[SigningKey]:
    """Return all keys, oldest first. Raises Unavailable, and msgspec.MsgspecError for one that is damaged."""
    found = [await objects.get(path) for path in await objects.list(FOLDER)]
    keys = [msgspec.json.decode(data, type=SigningKey) for data in found if data is not None]
    return sorted(keys, key=lambda key: (key.made_at, key.id))


async def rotate_signing_key(objects: ObjectStore, *, now: float, is_at_once: bool = False) -> SigningKey:
    """Make a key that signs from SETTLE_S on, and return it; those before it verify until their addresses are over.

    is_at_once: remove them instead, which ends every address that they signed: for a secret that somebody has seen.
    """
    known = await read_signing_keys(objects)
    key = _make(new_order_id(), now)
    await objects.put(_path(key.id), msgspec.json.encode(key), media_type="application/json")
    for index, old in enumerate(known):
        if is_at_once or verifies_until([*known, key], index) < now:
            await objects.delete(_path(old.id))
    # The records before the marker, as with API keys.
    await objects.put(CHANGED_PATH, new_order_id().encode(), media_type="text/plain")
    return key


def choose_signing_key(keys: Sequence[SigningKey], now: float) -> SigningKey:
    """Return the newest key that every edge knows by now; the oldest where all are younger than that."""
    settled = [key for key in keys if key.made_at + SETTLE_S <= now]
    return settled[-1] if settled else keys[0]


def verifies_until(keys: Sequence[SigningKey], index: int) -> float:
    """Return when the last address that `keys[index]` signed has expired."""
    if index + 1 == len(keys):
        return float("inf")
    return keys[index + 1].made_at + SETTLE_S + ADDRESS_TTL_MAX_S


def _make(key_id: str, now: float) -> SigningKey:
    return SigningKey(id=key_id, secret=secrets.token_bytes(SECRET_BYTES), made_at=now)


def _path(key_id: str) -> str:
    return f"{FOLDER}/{key_id}.json"
