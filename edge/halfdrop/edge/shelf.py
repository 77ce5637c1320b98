"""The shelf: pictures as finished answers, for the front to send without asking anybody."""

import time
from collections import OrderedDict
from collections.abc import Callable

import msgspec
import xxhash
from moka_py import Moka

from halfdrop.edge.names import KeyKind, shelf_targets, split_key
from halfdrop.edge.picture_files import FILE_FORMS, QUALITY_MAX, PictureForm

CACHE_CONTROL = "public, max-age=31536000, immutable, stale-while-revalidate=86400, stale-if-error=604800"
"""A key names one picture for ever: whoever has it need not ask again."""

PRIVATE_CACHE_CONTROL = CACHE_CONTROL.replace("public", "private")
"""Where pictures are a tenant's own: no cache that others share may keep them."""

CACHE_NAME = "halfdrop"
_SHELF_STATUS = f"{CACHE_NAME}; hit; detail=memory"
_ENTRY_OVERHEAD_BYTES = 2048
"""Headers and their lists."""


READ_MAX_S = 15.0
"""No read of a picture takes longer: what was under way when it was invalidated is not shelved for so long."""

GONE_MAX = 4096
"""Invalidated pictures that are remembered for that time."""


class Shelved(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One picture as a finished answer."""

    etag: str
    data: bytes
    headers: list[tuple[str, str]]
    unchanged_headers: list[tuple[str, str]]
    """Of the 304 for a client that has it."""

    key: str
    """The picture's cache key, tenant included; empty if nobody counts it."""


class Shelf:
    """Pictures as finished answers, by path and query; bounded in bytes, the popular ones stay.

    It is above the cache and forgets what that forgets: `halfdrop.cache.tiered.Above`.
    """

    def __init__(
        self, capacity_bytes: int, *, is_private: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.cache_control = PRIVATE_CACHE_CONTROL if is_private else CACHE_CONTROL
        self._sent = self._sent_unchanged = self._heads = self._heads_unchanged = 0
        """How often the front answered from here, by method and by 200 or 304. Nothing else is noted of a hit, and not
        in a dictionary, which costs a hit several times what an attribute does."""

        self._shelved: Moka[str, Shelved] = Moka(capacity_bytes, weigher=_weigh)
        self._clock = clock
        self._gone: OrderedDict[str, float] = OrderedDict()
        self._cleared_s = float("-inf")

    def peek(self, target: str) -> Shelved | None:
        """Return the answer for `target`, a path or "path?px=256", behind its tenant's shelf_prefix."""
        return self._shelved.get(target)

    def count(self, *, is_head: bool, is_known: bool) -> None:
        """Note one answer from here; is_known: a 304."""
        if is_head:
            if is_known:
                self._heads_unchanged += 1
            else:
                self._heads += 1
        elif is_known:
            self._sent_unchanged += 1
        else:
            self._sent += 1

    def answered(self) -> dict[tuple[str, str], int]:
        """Return how often, by method and status."""
        return {
            ("GET", "200"): self._sent,
            ("GET", "304"): self._sent_unchanged,
            ("HEAD", "200"): self._heads,
            ("HEAD", "304"): self._heads_unchanged,
        }

    def put_picture(self, key: str, webp: bytes) -> None:
        """Keep the picture with this cache key at each of its addresses, unless it was invalidated just now."""
        if not self._was_forgotten(key):
            for target in shelf_targets(key):
                self.put(target, webp, key=key)

    def put_file(self, plates_key: str, form: PictureForm, data: bytes) -> None:
        """Keep a file composed of the plates with this cache key, unless those were invalidated just now.

        One of reduced quality is not kept: it could not be found again to be forgotten.
        """
        if form.quality == QUALITY_MAX and not self._was_forgotten(plates_key):
            self.put(_file_target(plates_key, form), data, media_type=form.media_type)

    def forget(self, key: str) -> None:
        self._gone[key] = self._clock()
        self._gone.move_to_end(key)
        if len(self._gone) > GONE_MAX:
            self._gone.popitem(last=False)
        made = [_file_target(key, form) for form in FILE_FORMS] if split_key(key)[1] is KeyKind.PLATES else ()
        for target in (*shelf_targets(key), *made):
            self._shelved.remove(target)

    def _was_forgotten(self, key: str) -> bool:
        return self._clock() < max(self._cleared_s, self._gone.get(key, self._cleared_s)) + READ_MAX_S

    def clear(self) -> None:
        self._cleared_s = self._clock()
        self._shelved.clear()

    def put(self, target: str, data: bytes, *, media_type: str = "image/webp", key: str = "") -> None:
        """Keep `data` as the answer for `target`."""
        etag = make_etag(data)
        kept = [("etag", etag), ("cache-control", self.cache_control), ("cache-status", _SHELF_STATUS)]
        sized = [("content-type", media_type), ("content-length", str(len(data)))]
        shelved = Shelved(etag=etag, data=data, headers=[*sized, *kept], unchanged_headers=kept, key=key)
        self._shelved.set(target, shelved)


def make_etag(data: bytes) -> str:
    """Return a strong entity tag: a digest of the bytes, so that another encoder's file has another one."""
    return f'"{xxhash.xxh3_64_hexdigest(data)}"'


def _file_target(plates_key: str, form: PictureForm) -> str:
    tenant, colon, _ = plates_key.rpartition(":")
    return tenant + colon + form.address(split_key(plates_key)[0])


def _weigh(target: str, shelved: Shelved) -> int:
    return len(target) + len(shelved.data) + _ENTRY_OVERHEAD_BYTES
