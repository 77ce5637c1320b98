"""Idempotency-Key: the same order sent twice is one order (draft-ietf-httpapi-idempotency-key-header).

What a key stands for is in a bucket on this edge's own NATS server before the order is accepted: the order's id, chosen
beforehand, and a digest of what was asked. Whatever dies in between, the same request finds its order, or places it
under the same id. Orders are known to the edge that took them, and so are their keys.
"""

import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue

from halfdrop.contracts.errors import InvalidInput, PermanentError, TransientError
from halfdrop.edge.names import new_order_id
from halfdrop.edge.orders import translated

HEADER = "Idempotency-Key"
KEY_MAX_CHARS = 255

_KEY = re.compile(rf'"?([ !#-\[\]-~]{{1,{KEY_MAX_CHARS}}})"?')
"""A structured field's string, as the draft wants it, or the same without quotes, as most clients send it."""


class InFlight(TransientError):
    """The first request with this key has not been answered yet."""


class KeyReused(PermanentError):
    """The key was used for something else."""


class Remembered(msgspec.Struct, frozen=True, kw_only=True, tag="idempotency.v1"):
    """What a key stands for."""

    fingerprint: str
    order_id: str
    answer: bytes = b""
    """Body of the first answer; empty until it was given."""


class Attempt:
    """One request with a key. `remembered.answer` is what to say again, if it was said before."""

    def __init__(self, bucket: KeyValue, name: str, remembered: Remembered) -> None:
        self._bucket = bucket
        self._name = name
        self.remembered = remembered

    async def finish(self, answer: bytes) -> None:
        """Keep the answer. Raises Unavailable; the order stands then, and a repetition finds it by its id."""
        with translated("keep an answer"):
            finished = msgspec.structs.replace(self.remembered, answer=answer)
            await self._bucket.put(self._name, msgspec.msgpack.encode(finished))


class IdempotencyKeys:
    """The keys of this edge; this process is the only writer of its bucket."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket
        self._in_flight: set[str] = set()

    @asynccontextmanager
    async def attempt(self, tenant: str, key: str, body: msgspec.Struct) -> AsyncIterator[Attempt]:
        """Hold `key` of `tenant` for this request inside the block; a PermanentError in it frees the key again.

        Raises InvalidInput for what is no key, InFlight, KeyReused for another body, and Unavailable.
        """
        name = f"{tenant}.{hashlib.sha256(_read_key(key).encode()).hexdigest()}"
        if name in self._in_flight:
            raise InFlight("the first request with this Idempotency-Key is still being answered")
        self._in_flight.add(name)
        try:
            remembered = await self._recall(name, hashlib.sha256(msgspec.json.encode(body)).hexdigest())
            try:
                yield Attempt(self._bucket, name, remembered)
            except PermanentError:
                with translated("free an Idempotency-Key"):
                    await self._bucket.delete(name)
                raise
        finally:
            self._in_flight.discard(name)

    async def _recall(self, name: str, fingerprint: str) -> Remembered:
        with translated("look up an Idempotency-Key"):
            try:
                entry = await self._bucket.get(name)
            except KeyNotFoundError:
                fresh = Remembered(fingerprint=fingerprint, order_id=new_order_id())
                await self._bucket.put(name, msgspec.msgpack.encode(fresh))
                return fresh
        remembered = msgspec.msgpack.decode(entry.value or b"", type=Remembered)
        if remembered.fingerprint != fingerprint:
            detail = f"{HEADER}: it was used for another order; allowed: a new key, or the same body as the first time"
            raise KeyReused(detail, code="idempotency-key-reused")
        return remembered


def _read_key(text: str) -> str:
    found = _KEY.fullmatch(text.strip())
    if found is None:
        raise InvalidInput(HEADER, got=text, allowed=f"1 to {KEY_MAX_CHARS} printable ASCII characters, best a UUID")
    return found[1]
