"""API keys at rest: one small object for each, under access/ in the object store. See docs/adr/0009.

Only the SHA-256 of a key is stored. A key holds 260 bits of chance, so nothing slower would protect it better. Each
change also rewrites one marker, which every edge reads once a second: a revoked key is refused within that time.
"""

import asyncio
import hashlib
import re
import secrets
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from halfdrop.contracts.errors import InvalidInput, NotFound
from halfdrop.edge.names import new_order_id
from halfdrop.runtime.objects import ObjectStore

Scope = Literal["previews", "orders", "admin"]
"""What a key may do: draw and fetch previews; place, follow and fetch orders; all of that, and see the edge's state."""

Tier = Literal["standard", "plus", "unlimited"]
"""How much a tenant may ask for."""

SCOPES: tuple[Scope, ...] = ("previews", "orders", "admin")
TIERS: tuple[Tier, ...] = ("standard", "plus", "unlimited")
"""From the tightest to the most generous."""

CHANGED_PATH = "access/changed"
"""The marker: other bytes after each change."""

KEYS_FOLDER = "access/keys"
READS_MAX = 32
"""Records read at once: a thousand keys in a distant store take a second."""

TENANT_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
"""A tenant's name becomes part of subjects and object paths."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_LENGTH, _SECRET_LENGTH = 10, 52
_ID_PATTERN = re.compile(f"[{_ALPHABET}]{{{_ID_LENGTH}}}")


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True, tag="key.v1"):
    """What is kept of a key: everything but the key."""

    id: str
    """The part of the key after "hd_": names it in lists and logs, and opens nothing."""

    sha256: str
    tenant: Annotated[str, Meta(pattern=TENANT_PATTERN)]
    scopes: tuple[Scope, ...]
    tier: Tier = "standard"
    label: str = ""
    created_at: float
    """Unix seconds, as the next two."""

    expires_at: float | None = None
    revoked_at: float | None = None

    def is_valid(self, now: float) -> bool:
        """True if the key opens anything at `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def digest_key(key: bytes) -> bytes:
    """Return what is stored and looked up in place of a key."""
    return hashlib.sha256(key).digest()


async def create_key(
    objects: ObjectStore,
    *,
    tenant: str,
    scopes: tuple[Scope, ...],
    tier: Tier,
    label: str,
    now: float,
    expires_at: float | None,
) -> tuple[str, KeyRecord]:
    """Make a key and store its record; return both. The key is in no file: who loses it makes another.

    Raises InvalidInput for a tenant that cannot be part of a path, Unavailable if the store is away.
    """
    if not re.fullmatch(TENANT_PATTERN, tenant):
        allowed = "1 to 40 lower-case letters, digits and hyphens, no hyphen at either end"
        raise InvalidInput("--tenant", got=tenant, allowed=allowed)
    key_id, secret = _random(_ID_LENGTH), _random(_SECRET_LENGTH)
    key = f"hd_{key_id}_{secret}"
    record = KeyRecord(
        id=key_id,
        sha256=digest_key(key.encode()).hex(),
        tenant=tenant,
        scopes=scopes,
        tier=tier,
        label=label,
        created_at=now,
        expires_at=expires_at,
    )
    await _write(objects, record)
    return key, record


async def revoke_key(objects: ObjectStore, key_id: str, *, now: float) -> KeyRecord:
    """Mark a key as revoked and return its record; revoking twice keeps the first time. Raises NotFound."""
    data = await objects.get(_path(key_id)) if _ID_PATTERN.fullmatch(key_id) else None
    if data is None:
        raise NotFound(f"no key has the id {key_id[:40]!r}; `halfdrop keys list` shows them")
    record = msgspec.json.decode(data, type=KeyRecord)
    if record.revoked_at is None:
        record = msgspec.structs.replace(record, revoked_at=now)
    await _write(objects, record)  # again, too: whoever revokes twice doubts that the first time was heard
    return record


async def read_keys(objects: ObjectStore) -> list[KeyRecord]:
    """Return every record, oldest first. Raises Unavailable, and msgspec.MsgspecError for one that is damaged."""
    limit = asyncio.Semaphore(READS_MAX)

    async def read(path: str) -> bytes | None:
        async with limit:
            return await objects.get(path)

    found = await asyncio.gather(*(read(path) for path in await objects.list(KEYS_FOLDER)))
    records = [msgspec.json.decode(data, type=KeyRecord) for data in found if data is not None]
    return sorted(records, key=lambda record: record.created_at)


async def _write(objects: ObjectStore, record: KeyRecord) -> None:
    # The record before the marker: who sees the new marker finds the new record.
    await objects.put(_path(record.id), msgspec.json.encode(record), media_type="application/json")
    await objects.put(CHANGED_PATH, new_order_id().encode(), media_type="text/plain")


def _path(key_id: str) -> str:
    return f"{KEYS_FOLDER}/{key_id}.json"


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
