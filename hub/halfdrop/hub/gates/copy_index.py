"""Where the prints of patterns lie, so that a near-copy of another tenant's is found: objects, in bounded buckets.

A sketch is cut into bands; each print lies once below each of its bands, so that sketches which share a band, as
near-copies do, are found by listing a few folders whatever the number of patterns. An object's name carries sketch,
tenant and key; its bytes are the print, 1 KiB. Nothing of it leaves this module but a distance: neither the other
pattern nor its owner.

A bucket takes BUCKET_MAX prints. What finds it full is not remembered there: plain dots are everybody's.
"""

import asyncio
import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from halfdrop.hub.gates.copies import (
    PRINT_BYTES,
    PRINT_PX,
    SKETCH_BITS,
    SKETCH_DIGITS,
    print_distance,
    sketch_distance,
    sketch_of,
)
from halfdrop.runtime.objects import ObjectStore

FOLDER = "likenesses"
BANDS = 6
BAND_BITS = SKETCH_BITS // BANDS
BUCKET_MAX = 256
COMPARED_MAX = 16
"""Prints that are read and compared, those with the nearest sketches: 16 KiB."""


@dataclass(frozen=True, kw_only=True, order=True)
class _Entry:
    bits: int
    """By which its sketch differs from the one looked for."""

    path: str


class CopyIndex:
    """The prints of all tenants' patterns."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    async def distance(self, printed: NDArray[np.uint8], *, tenant: str) -> float:
        """Return how far the nearest pattern of another tenant is, 0 to 1; 1 if none is near enough to be looked at.

        Raises Unavailable when the store is away.
        """
        sketch = sketch_of(printed)
        listed = await asyncio.gather(*(self._objects.list(folder) for folder in _folders(sketch)))
        entries = sorted({entry.path.rpartition("/")[2]: entry for entry in _others(listed, sketch, tenant)}.values())
        found = await asyncio.gather(*(self._objects.get(entry.path) for entry in entries[:COMPARED_MAX]))
        prints = [data for data in found if data is not None and len(data) == PRINT_BYTES]
        return min((print_distance(printed, _as_print(data)) for data in prints), default=1.0)

    async def remember(self, printed: NDArray[np.uint8], *, tenant: str, pattern_key: str) -> None:
        """Keep the print of a pattern that was made; keeping it again changes nothing. Raises Unavailable."""
        sketch = sketch_of(printed)
        name = f"{sketch:0{SKETCH_DIGITS}x}-{_owner(tenant)}-{pattern_key}"
        await asyncio.gather(*(self._keep(folder, name, printed.tobytes()) for folder in _folders(sketch)))

    async def _keep(self, folder: str, name: str, data: bytes) -> None:
        if len(await self._objects.list(folder)) < BUCKET_MAX:
            await self._objects.put(f"{folder}/{name}", data)


def _folders(sketch: int) -> list[str]:
    mask = (1 << BAND_BITS) - 1
    return [f"{FOLDER}/{band}/{(sketch >> band * BAND_BITS) & mask:04x}" for band in range(BANDS)]


def _others(listed: list[list[str]], sketch: int, tenant: str) -> list[_Entry]:
    """Return what was listed of other tenants."""
    own = _owner(tenant)
    entries = []
    for path in (path for paths in listed for path in paths):
        written, _, rest = path.rpartition("/")[2].partition("-")
        if rest.partition("-")[0] != own and len(written) == SKETCH_DIGITS:
            entries.append(_Entry(bits=sketch_distance(sketch, int(written, 16)), path=path))
    return entries


def _owner(tenant: str) -> str:
    """Return a tenant's mark in names: of one length, and no name."""
    return hashlib.sha256(tenant.encode()).hexdigest()[:16]


def _as_print(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8).reshape(PRINT_PX, PRINT_PX)
