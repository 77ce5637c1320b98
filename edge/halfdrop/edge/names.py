"""Names inside an edge: keys of its cache and the object paths behind them, ids of orders."""

import secrets
import time
from enum import Enum

from halfdrop.contracts.patterns import PREVIEW_SIZE_PX
from halfdrop.contracts.subjects import plates_path, preview_path, spec_path, tenant_folder

PICTURE_SUFFIX = ".webp"
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
ID_LENGTH = 26
"""48 bits of time in milliseconds and 80 bits of chance, five bits a character: sorts by age, cannot be guessed."""

ID_PATTERN = f"^[{_ALPHABET}]{{{ID_LENGTH}}}$"

BATCH_ID_LENGTH = 22
BATCH_ID_PATTERN = f"^[{_ALPHABET}]{{{BATCH_ID_LENGTH}}}$"
"""A batch's id begins the id of each of its orders; the other four characters are the number of the line. So a line has
one id for ever, an order says which batch it is of, and the orders of a batch lie together where ids are sorted."""

BATCH_LINES_MAX = 2 ** (5 * (ID_LENGTH - BATCH_ID_LENGTH)) - 1


class KeyKind(Enum):
    """What a cache key names of a pattern."""

    PICTURE = "picture"
    PLATES = "plates"
    SPEC = "spec"


def split_key(cache_key: str) -> tuple[str, KeyKind]:
    """Return the pattern's key inside `cache_key`, and of what of it that is the key."""
    pattern_key, _, part = cache_key.rpartition(":")[2].partition("/")
    return pattern_key, {"plates": KeyKind.PLATES, "spec": KeyKind.SPEC}.get(part, KeyKind.PICTURE)


def picture_key(pattern_key: str, size_px: int) -> str:
    """Cache key of a preview as WebP."""
    return f"{pattern_key}/{size_px}"


def plates_key(pattern_key: str) -> str:
    """Cache key of the plates."""
    return f"{pattern_key}/plates"


def spec_key(pattern_key: str) -> str:
    """Cache key of the spec, which says how the plates repeat."""
    return f"{pattern_key}/spec"


def tenant_key(tenant: str, cache_key: str) -> str:
    """Cache key of what the tenant knows as `cache_key`."""
    return f"{tenant}:{cache_key}"


def object_path(cache_key: str) -> str:
    """Return where the object store keeps what the cache knows as `cache_key`."""
    tenant, colon, key = cache_key.rpartition(":")
    path = _object_path(key)
    return f"{tenant_folder(tenant)}/{path}" if colon else path


def _object_path(cache_key: str) -> str:
    pattern_key, _, part = cache_key.partition("/")
    if part == "plates":
        return plates_path(pattern_key)
    if part == "spec":
        return spec_path(pattern_key)
    return preview_path(pattern_key, int(part))


def shelf_targets(cache_key: str) -> list[str]:
    """Return where the front's shelf keeps the picture with this cache key: none for anything but a picture."""
    tenant, colon, key = cache_key.rpartition(":")
    pattern_key, _, size = key.partition("/")
    if not size.isdigit():
        return []
    plain = f"{tenant}{colon}/p/{pattern_key}{PICTURE_SUFFIX}"
    return [f"{plain}?px={size}", plain] if int(size) == PREVIEW_SIZE_PX else [f"{plain}?px={size}"]


def new_order_id() -> str:
    """Return a fresh id: 26 lower-case letters and digits, later ones sort after earlier ones."""
    number = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def is_order_id(text: str) -> bool:
    """True if `text` has the form of an order's id; anything else must not reach a subject or a path."""
    return len(text) == ID_LENGTH and all(c in _ALPHABET for c in text)


def new_batch_id() -> str:
    """Return a fresh id of a batch; it sorts among those of orders by age."""
    return new_order_id()[:BATCH_ID_LENGTH]


def is_batch_id(text: str) -> bool:
    """True if `text` has the form of a batch's id."""
    return len(text) == BATCH_ID_LENGTH and all(c in _ALPHABET for c in text)


def batch_order_id(batch_id: str, line: int) -> str:
    """Return the id of the order of a line, 1 to BATCH_LINES_MAX."""
    assert 0 < line <= BATCH_LINES_MAX, line
    return batch_id + "".join(_ALPHABET[(line >> shift) & 31] for shift in (15, 10, 5, 0))


def line_of(order_id: str) -> int:
    """Return the number of the line that an order of a batch is of."""
    number = 0
    for letter in order_id[BATCH_ID_LENGTH:]:
        number = number << 5 | _ALPHABET.index(letter)
    return number
