"""A safetensors file's header, checked against the file's length before any weight is read.

The format: eight bytes of length (little-endian), that many bytes of JSON, then the tensors back to back in the order
of their offsets, without holes. A file that was cut short, or grew, or lies about itself shows here.
"""

from math import prod
from pathlib import Path

import msgspec

from halfdrop.contracts.errors import PermanentError
from halfdrop.hub.checkpoints.refusals import refusal

HEADER_MAX_BYTES = 16 * 2**20
"""SDXL's UNet needs 0.2 MiB for 1,680 tensors; the format itself allows 100 MB."""

LENGTH_BYTES = 8
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
               "U16": 2, "U32": 4, "U64": 8, "F8_E4M3": 1, "F8_E5M2": 1}  # fmt: skip


class TensorEntry(msgspec.Struct, frozen=True):
    """What a header says of one tensor."""

    dtype: str
    """As the format writes it: F32, F16, BF16, …"""

    shape: tuple[int, ...]
    data_offsets: tuple[int, int]
    """First and last + 1 byte, counted from the end of the header."""


def read_header(file: Path) -> dict[str, TensorEntry]:
    """Return the tensors that `file` holds, by name.

    Raises PermanentError(bad-checkpoint) for a file that is truncated, too long, or not safetensors at all.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
            if size < LENGTH_BYTES or length > HEADER_MAX_BYTES:
                raise _unreadable(file, f"a header of {length:,} bytes in a file of {size:,}")
            if LENGTH_BYTES + length > size:
                raise _truncated(file, size, LENGTH_BYTES + length)
            text = stream.read(length)
    except OSError as error:
        raise _unreadable(file, f"what cannot be read ({error.strerror})") from error
    try:
        members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        members.pop("__metadata__", None)
        entries = {name: msgspec.json.decode(raw, type=TensorEntry) for name, raw in members.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _unreadable(file, f"a header that is not its JSON ({error})") from error
    _check_offsets(file, entries, data_bytes=size - LENGTH_BYTES - length)
    return entries


def _check_offsets(file: Path, entries: dict[str, TensorEntry], *, data_bytes: int) -> None:
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        start, stop = entry.data_offsets
        item = _ITEM_BYTES.get(entry.dtype)
        if item is None or min(entry.shape, default=0) < 0:
            raise _unreadable(file, f"{name} as {entry.dtype} of shape {list(entry.shape)}")
        if start != end or stop - start != prod(entry.shape) * item:
            raise _unreadable(file, f"{name} at bytes {start:,} to {stop:,}, which its shape does not fill")
        end = stop
    if end > data_bytes:
        raise _truncated(file, data_bytes, end)
    if end < data_bytes:
        raise _unreadable(file, f"{data_bytes - end:,} bytes after the last tensor")


def _truncated(file: Path, size: int, needed: int) -> PermanentError:
    return refusal(file.name, got=f"{size:,} bytes of at least {needed:,}: truncated", allowed="the whole file",
                   advice="Fetch it again")  # fmt: skip


def _unreadable(file: Path, got: str) -> PermanentError:
    return refusal(file.name, got=got, allowed="a whole safetensors file", advice="Fetch it again, or save it anew "
                   "with safetensors")  # fmt: skip
