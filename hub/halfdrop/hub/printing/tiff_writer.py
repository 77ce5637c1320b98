"""A TIFF of any number of channels, tiled and deflated: what no library at hand writes.

libvips calls more than four channels grey with extras, tifffile takes four inks or none; a mill's program wants them
said to be inks, by name (TIFF 6.0, section 16: PhotometricInterpretation 5, InkSet 2, InkNames). Little-endian classic
TIFF: up to 4 GiB, which 8192 px of four inks deflated are far below.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

TILE_PX = 256
LEVEL = 4
"""Of flat artwork 6 makes no smaller files, and takes a quarter longer."""

FILE_MAX_BYTES = 2**32 - 1

Value = int | Sequence[int] | bytes | float
_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL = 1, 2, 3, 4, 5
_SIZES = {_BYTE: 1, _ASCII: 1, _SHORT: 2, _LONG: 4, _RATIONAL: 8}

PALETTE, SEPARATED = 3, 5
"""PhotometricInterpretation: indexed; inks."""

TYPES = {
    256: _LONG,  # ImageWidth
    257: _LONG,  # ImageLength
    258: _SHORT,  # BitsPerSample
    259: _SHORT,  # Compression
    262: _SHORT,  # PhotometricInterpretation
    277: _SHORT,  # SamplesPerPixel
    282: _RATIONAL,  # XResolution
    283: _RATIONAL,  # YResolution
    284: _SHORT,  # PlanarConfiguration
    296: _SHORT,  # ResolutionUnit
    317: _SHORT,  # Predictor
    320: _SHORT,  # ColorMap
    322: _LONG,  # TileWidth
    323: _LONG,  # TileLength
    324: _LONG,  # TileOffsets
    325: _LONG,  # TileByteCounts
    332: _SHORT,  # InkSet
    333: _ASCII,  # InkNames
    334: _SHORT,  # NumberOfInks
    336: _SHORT,  # DotRange
    700: _BYTE,  # XMP
}


def write_tiff(data: NDArray[np.uint8], *, photometric: int, dpi: float, tags: Mapping[int, Value]) -> bytes:
    """Return a TIFF of [height, width, samples]; `tags` says what else there is to say, by the numbers in TYPES.

    Raises ValueError for what does not fit a classic TIFF.
    """
    height, width, samples = data.shape
    tiles = _deflate_all(data)
    offsets = np.cumsum([8, *map(len, tiles)]).tolist()
    known: dict[int, Value] = {
        256: width,
        257: height,
        258: [8] * samples,
        259: 8,  # deflate
        262: photometric,
        277: samples,
        282: dpi,
        283: dpi,
        284: 1,  # samples of a pixel side by side
        296: 2,  # inch
        317: 2,  # each sample as its difference from the one before
        322: TILE_PX,
        323: TILE_PX,
        324: offsets[:-1],
        325: [len(tile) for tile in tiles],
        **tags,
    }
    directory_at = offsets[-1] + offsets[-1] % 2  # a directory begins on a word
    body = b"".join(tiles) + bytes(offsets[-1] % 2)
    directory = _directory(known, directory_at)
    if directory_at + len(directory) > FILE_MAX_BYTES:
        raise ValueError(f"{width} x {height} px of {samples} channels do not fit a classic TIFF")
    return struct.pack("<2sHI", b"II", 42, directory_at) + body + directory


def _tiles(data: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield the tiles row by row; those at the right and lower rim are filled up with nothing."""
    height, width, samples = data.shape
    for top in range(0, height, TILE_PX):
        for left in range(0, width, TILE_PX):
            part = data[top : top + TILE_PX, left : left + TILE_PX]
            if part.shape[:2] != (TILE_PX, TILE_PX):
                part = np.pad(part, ((0, TILE_PX - part.shape[0]), (0, TILE_PX - part.shape[1]), (0, 0)))
            yield part.reshape(TILE_PX, TILE_PX, samples)


def _deflate_all(data: NDArray[np.uint8]) -> list[bytes]:
    """Return every tile deflated. A pattern repeats, often in whole tiles: those that are alike are deflated once."""
    known: dict[bytes, bytes] = {}
    deflated = []
    for tile in _tiles(data):
        digest = hashlib.blake2b(tile.tobytes(), digest_size=16).digest()
        if digest not in known:
            known[digest] = _deflate(tile)
        deflated.append(known[digest])
    return deflated


def _deflate(tile: NDArray[np.uint8]) -> bytes:
    differences = tile.copy()
    differences[:, 1:] -= tile[:, :-1]
    return zlib.compress(differences.tobytes(), LEVEL)


def _directory(tags: Mapping[int, Value], at: int) -> bytes:
    """Return the one directory: an entry of twelve bytes a tag in order of their numbers, then what did not fit."""
    entries, beyond = [], b""
    beyond_at = at + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        kind = TYPES[tag]
        packed = _pack(kind, value)
        count = len(packed) // _SIZES[kind]
        if len(packed) > 4:
            entries.append(struct.pack("<HHII", tag, kind, count, beyond_at + len(beyond)))
            beyond += packed + bytes(len(packed) % 2)
        else:
            entries.append(struct.pack("<HHI4s", tag, kind, count, packed.ljust(4, b"\0")))
    return struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4) + beyond


def _pack(kind: int, value: Value) -> bytes:
    if isinstance(value, bytes):
        return value
    numbers = [value] if isinstance(value, int | float) else list(value)
    if kind == _RATIONAL:
        return b"".join(struct.pack("<II", round(number * 1000), 1000) for number in numbers)
    return struct.pack(f"<{len(numbers)}{'H' if kind == _SHORT else 'I'}", *numbers)
