"""How patterns lie in the object store, and how damaged ones are found out when they are read.

The hub and other programs read the same files, so each kind is checked in its own way: a spec by its key, which is its
digest; plates by the checksum inside them and the key they name; a picture by a seal behind the WebP, where decoders
do not look. A picture without a seal, from before there was one, counts as damaged and is composed again.
"""

import msgspec

from halfdrop.cache.seal import append_seal, strip_seal
from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.patterns import PatternSpec, pattern_key
from halfdrop.contracts.plates import decode_plates
from halfdrop.edge.names import KeyKind, split_key


class PatternForm:
    """The `Form` of an edge's object tier."""

    def pack(self, key: str, data: bytes) -> bytes:
        """Return what to store."""
        return append_seal(key, data) if split_key(key)[1] is KeyKind.PICTURE else data

    def unpack(self, key: str, stored: bytes) -> bytes | None:
        """Return what was packed under `key`; None if `stored` is anything else."""
        pattern, kind = split_key(key)
        match kind:
            case KeyKind.PICTURE:
                return strip_seal(key, stored)
            case KeyKind.PLATES:
                return stored if _plates_of(stored) == pattern else None
            case KeyKind.SPEC:
                return stored if _spec_of(stored) == pattern else None


def _plates_of(stored: bytes) -> str | None:
    try:
        return decode_plates(stored).pattern_key
    except PermanentError:
        return None


def _spec_of(stored: bytes) -> str | None:
    try:
        return pattern_key(msgspec.json.decode(stored, type=PatternSpec))
    except (msgspec.MsgspecError, ValueError):
        return None
