"""The last tier: the object store, the truth at rest.

Other programs read the same files, so how they are told from damaged ones is the caller's to say (`Form`): by a seal
behind the data unless it says otherwise. The store's writes are atomic.
"""

import asyncio
import mimetypes
from collections.abc import Callable
from typing import Protocol

import structlog

from halfdrop.cache.seal import append_seal, strip_seal
from halfdrop.contracts.errors import Unavailable
from halfdrop.runtime.objects import ObjectStore

log = structlog.get_logger()

TIMEOUT_S = 5.0
"""Limit of one operation. A store across the ocean answers in a fraction; longer is an outage."""

PathOf = Callable[[str], str | None]
"""The object path of a key; None for keys that do not belong in the store."""


class Form(Protocol):
    """How values lie in the store, so that damaged ones are found out."""

    def pack(self, key: str, data: bytes) -> bytes:
        """Return what to store."""

    def unpack(self, key: str, stored: bytes) -> bytes | None:
        """Return what was packed under `key`; None if `stored` is anything else."""


class Sealed:
    """The data, and a seal behind it."""

    def pack(self, key: str, data: bytes) -> bytes:
        return append_seal(key, data)

    def unpack(self, key: str, stored: bytes) -> bytes | None:
        return strip_seal(key, stored)


SEALED = Sealed()


class ObjectTier:
    """Bytes in an object store, each under the path that `path_of` gives for its key. Forgets nothing."""

    name = "objects"
    is_remote = True

    def __init__(
        self, objects: ObjectStore, *, path_of: PathOf, form: Form = SEALED, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._objects = objects
        self._path_of = path_of
        self._form = form
        self.damaged = 0
        self._timeout_s = timeout_s

    async def get(self, key: str) -> bytes | None:
        path = self._path_of(key)
        if path is None:
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                stored = await self._objects.get(path)
        except TimeoutError as error:
            raise self._too_slow("read", path) from error
        if stored is None:
            return None
        data = self._form.unpack(key, stored)
        if data is None:
            self.damaged += 1
            log.warning("cache_value_damaged", tier=self.name, key=key)
        return data

    async def put(self, key: str, data: bytes) -> None:
        path = self._path_of(key)
        if path is None:
            return
        media_type = mimetypes.guess_type(path, strict=False)[0] or "application/octet-stream"
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._objects.put(path, self._form.pack(key, data), media_type=media_type)
        except TimeoutError as error:
            raise self._too_slow("write", path) from error

    async def delete(self, key: str) -> None:
        path = self._path_of(key)
        if path is None:
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._objects.delete(path)
        except TimeoutError as error:
            raise self._too_slow("delete", path) from error

    async def clear(self) -> None:
        """Nothing: what is here is not this process's alone."""

    async def aclose(self) -> None:
        """Nothing to let go of: the store belongs to whoever opened it."""

    def _too_slow(self, verb: str, path: str) -> Unavailable:
        return Unavailable(f"object store did not {verb} {path} within {self._timeout_s:g} s")
