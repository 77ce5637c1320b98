"""How patterns lie in the object store, and how damaged ones are found out when they are read.

The hub and other programs read the same files, so each kind is checked in its own way: a spec by its key, which is its
digest; plates by the checksum inside them and the key they name; a picture by a seal behind the WebP, where decoders
do not look. A picture without a seal, from before there was one, counts as damaged and is composed again.
"""

import msgspec

from halfdrop.cache.seal import append_seal, strip_seal
from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.patterns import PatternSpec, canonical_bytes, pattern_key
from halfdrop.contracts.plates import decode_plates, encode_plates
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
                return _read_plates(stored, pattern)
            case KeyKind.SPEC:
                return _read_spec(stored, pattern)


# Both are written anew from what was read: a change that leaves the meaning as it was leaves the bytes so, too.


def _read_plates(stored: bytes, pattern: str) -> bytes | None:
    try:
        plates = decode_plates(stored)
    except PermanentError:
        return None
    return encode_plates(plates) if plates.pattern_key == pattern else None


def _read_spec(stored: bytes, pattern: str) -> bytes | None:
    try:
        spec = msgspec.json.decode(stored, type=PatternSpec)
    except (msgspec.MsgspecError, ValueError):
        return None
    return canonical_bytes(spec) if pattern_key(spec) == pattern else None
