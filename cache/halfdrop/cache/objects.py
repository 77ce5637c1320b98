"""The last tier: the object store, the truth at rest.

Values are plain files that other programs read, so they carry no seal; the store's writes are atomic.
"""

import asyncio
import mimetypes
from collections.abc import Callable

from halfdrop.contracts.errors import Unavailable
from halfdrop.runtime.objects import ObjectStore

TIMEOUT_S = 5.0
"""Limit of one operation. A store across the ocean answers in a fraction; longer is an outage."""

PathOf = Callable[[str], str | None]
"""The object path of a key; None for keys that do not belong in the store."""


class ObjectTier:
    """Bytes in an object store, each under the path that `path_of` gives for its key. Forgets nothing."""

    name = "objects"
    is_remote = True

    def __init__(self, objects: ObjectStore, *, path_of: PathOf, timeout_s: float = TIMEOUT_S) -> None:
        self._objects = objects
        self._path_of = path_of
        self._timeout_s = timeout_s

    async def get(self, key: str) -> bytes | None:
        path = self._path_of(key)
        if path is None:
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._objects.get(path)
        except TimeoutError as error:
            raise self._too_slow("read", path) from error

    async def put(self, key: str, data: bytes) -> None:
        path = self._path_of(key)
        if path is None:
            return
        media_type = mimetypes.guess_type(path, strict=False)[0] or "application/octet-stream"
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._objects.put(path, data, media_type=media_type)
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

    async def aclose(self) -> None:
        """Nothing to let go of: the store belongs to whoever opened it."""

    def _too_slow(self, verb: str, path: str) -> Unavailable:
        return Unavailable(f"object store did not {verb} {path} within {self._timeout_s:g} s")
