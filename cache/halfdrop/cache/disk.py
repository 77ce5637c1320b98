"""The tier on local disk: LMDB, memory-mapped, used straight from the event loop.

A read takes a few microseconds and a write some tens; a hop to a thread alone costs 23. It is a cache: whatever goes
wrong with the file, it is begun anew, and only time is lost.
"""

import asyncio
import os
import time
from pathlib import Path

import lmdb
import structlog

from halfdrop.cache.circuit import Clock
from halfdrop.cache.lmdb_file import UNREADABLE, LmdbFile, mark_synced, remove_file, set_aside
from halfdrop.cache.seal import SEAL_BYTES, has_seal, make_seal
from halfdrop.contracts.errors import PermanentError, Unavailable

log = structlog.get_logger()

CAPACITY_BYTES = 2**30
"""Some 30,000 previews of 30 KB."""

FREE_CHECK_S = 1.0
"""Free space is asked for at most this often, not at each write."""

VALUE_SHARE_MAX = 8
"""A value larger than the capacity divided by this is not kept: it would push out too much for one thing."""


class LmdbTier:
    """Sealed bytes in one LMDB file. Made by `open_lmdb_tier`."""

    name = "lmdb"
    is_remote = False

    def __init__(
        self, file: LmdbFile, *, directory: Path, capacity_bytes: int, free_min_bytes: int, clock: Clock
    ) -> None:
        self._file = file
        self._free_min_bytes = free_min_bytes
        self._clock = clock
        self._check_at_s = float("-inf")
        self._shortage = ""
        self.refused = 0
        """Values not taken because the disk was nearly full."""

        self._directory = directory
        self._capacity_bytes = capacity_bytes
        self.damaged = 0

    @property
    def used_bytes(self) -> int:
        """Bytes of the pages that hold values now."""
        return self._file.used_bytes

    @property
    def shortage(self) -> str:
        """Why nothing is taken in, or "": the disk has less free space than is to be left to others."""
        now_s = self._clock()
        if self._free_min_bytes and now_s >= self._check_at_s:
            self._check_at_s = now_s + FREE_CHECK_S
            self._look_at_disk()
        return self._shortage

    async def get(self, key: str) -> bytes | None:
        try:
            stored = self._file.read(key.encode())
        except (lmdb.Error, OSError) as error:
            raise self._failed("read", error) from error
        if stored is None:
            return None
        seal, data = stored[:SEAL_BYTES], stored[SEAL_BYTES:]
        if has_seal(seal, key, data):
            return data
        self.damaged += 1
        log.warning("cache_value_damaged", tier=self.name, key=key)
        return None

    async def put(self, key: str, data: bytes) -> None:
        if len(data) * VALUE_SHARE_MAX > self._capacity_bytes:
            await self.delete(key)
            return
        if self.shortage:
            self.refused += 1
            if await self.get(key) not in (None, data):
                await self.delete(key)
            return
        try:
            self._file.write(key.encode(), make_seal(key, data) + data)
        except (lmdb.Error, OSError) as error:
            raise self._failed("write", error) from error

    async def delete(self, key: str) -> None:
        try:
            self._file.remove(key.encode())
        except (lmdb.Error, OSError) as error:
            raise self._failed("delete", error) from error

    async def clear(self) -> None:
        # A new file takes a millisecond; walking the old one's pages would hold the event loop.
        self._file.close()
        try:
            remove_file(self._directory)
            self._file = LmdbFile.open(self._directory, capacity_bytes=self._capacity_bytes)
        except (lmdb.Error, OSError) as error:
            raise Unavailable(f"lmdb cannot begin a new file: {error}") from error

    async def aclose(self) -> None:
        try:
            await asyncio.to_thread(self._file.sync)
            self._file.close()
            mark_synced(self._directory)
        except (lmdb.Error, OSError) as error:
            log.warning("cache_not_synced", tier=self.name, error=str(error))

    def _look_at_disk(self) -> None:
        try:
            disk = os.statvfs(self._directory)
        except OSError:  # the directory is gone; what is open serves on
            self._shortage = ""
            return
        free_bytes = disk.f_bavail * disk.f_frsize
        was_short, is_short = bool(self._shortage), free_bytes < self._free_min_bytes
        # No figure in it that changes from second to second: it is logged and compared.
        self._shortage = f"less than {self._free_min_bytes // 2**20} MiB free; reads go on" if is_short else ""
        if is_short != was_short:
            log.warning("cache_disk_nearly_full" if is_short else "cache_disk_has_room", free_mib=free_bytes // 2**20)

    def _failed(self, verb: str, error: Exception) -> Unavailable:
        """Return what to raise for `error`; after damage the next call finds a new, empty file."""
        if isinstance(error, UNREADABLE):
            self._file.close()
            try:
                set_aside(self._directory, cause=str(error))
                self._file = LmdbFile.open(self._directory, capacity_bytes=self._capacity_bytes)
            except (lmdb.Error, OSError) as again:
                return Unavailable(f"lmdb cannot begin a new file: {again}")
        return Unavailable(f"lmdb cannot {verb}: {error}")


def open_lmdb_tier(
    directory: Path,
    *,
    capacity_bytes: int = CAPACITY_BYTES,
    free_min_bytes: int = 0,
    clock: Clock = time.monotonic,
) -> LmdbTier:
    """Return the tier in `directory`, which is made if missing and belongs to one process at a time.

    With less than `free_min_bytes` free on its disk it takes nothing in, and still answers.

    A file that is damaged, not LMDB's, or left open by a crash of the machine is renamed (one such file is kept) and a
    new one begun. Raises PermanentError(bad-cache-dir) if the directory cannot be used at all.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = LmdbFile.open(directory, capacity_bytes=capacity_bytes)
    except (lmdb.Error, OSError) as error:
        raise PermanentError(f"cache directory {directory}: {error}", code="bad-cache-dir") from error
    return LmdbTier(
        file, directory=directory, capacity_bytes=capacity_bytes, free_min_bytes=free_min_bytes, clock=clock
    )
