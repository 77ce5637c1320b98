"""Plates as they travel: a stack of signed-distance fields and the colours that fill them.

16-bit samples: at 8 bits the rounding of a field moves an edge by up to 1.5 px in a 4096 px master, which a printer
sees; 32 KB still fits any message. A checksum travels with them: a sample that changed on a disk is still a sample.
"""

import zlib

import msgspec

from halfdrop.contracts.errors import PermanentError

GRID_PX = 64
LAYERS = 4
BAND_PX = 6.0
"""A field is clamped at this distance from an edge, in grid pixels; stored as 1.0."""

SAMPLE_SCALE = 32767
FIELDS_BYTES = LAYERS * GRID_PX * GRID_PX * 2


class Plates(msgspec.Struct, frozen=True, kw_only=True, tag="plates.v1"):
    """One repeat unit, ready to be laid and composed at any size."""

    pattern_key: str
    model_digest: str

    fields: bytes
    """[LAYERS, GRID_PX, GRID_PX] little-endian int16, 32767 = BAND_PX grid pixels inside an edge; row 0 on top."""

    palette: tuple[str, ...]
    """LAYERS + 1 colours "#rrggbb": the ground, then one for each layer from the bottom up."""

    checksum: int | None = None
    """CRC-32 of all the rest, in encoded plates only; older ones have none."""


def encode_plates(plates: Plates) -> bytes:
    """Return the MessagePack form, as stored under the pattern's key."""
    return msgspec.msgpack.encode(msgspec.structs.replace(plates, checksum=_checksum(plates)))


def decode_plates(data: bytes) -> Plates:
    """Return the plates in `data`. Raises PermanentError(bad-plates) for anything that is not whole or was changed."""
    try:
        plates = msgspec.msgpack.decode(data, type=Plates)
    except msgspec.MsgspecError as error:
        raise PermanentError(f"plates: {error}", code="bad-plates") from error
    if plates.checksum is not None and plates.checksum != _checksum(plates):
        raise PermanentError("plates: their checksum is that of others", code="bad-plates")
    return check_plates(msgspec.structs.replace(plates, checksum=None))


def check_plates(plates: Plates) -> Plates:
    """Return `plates` if their sizes are right. Raises PermanentError(bad-plates) otherwise."""
    if len(plates.fields) != FIELDS_BYTES or len(plates.palette) != LAYERS + 1:
        got = f"{len(plates.fields)} bytes and {len(plates.palette)} colours"
        detail = f"plates: got {got}; allowed: {FIELDS_BYTES} bytes and {LAYERS + 1} colours"
        raise PermanentError(detail, code="bad-plates")
    return plates


def _checksum(plates: Plates) -> int:
    rest = "\n".join((plates.pattern_key, plates.model_digest, *plates.palette))
    return zlib.crc32(plates.fields, zlib.crc32(rest.encode()))
