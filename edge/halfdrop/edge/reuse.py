"""Reuse beyond the exact key: any good variant of a prompt, and patterns of prompts that say the same.

What was made is remembered by tenant, in this process, in bounded pools: nobody is handed another tenant's pattern or
hears of its prompt. The pools are speed only. Lost with the process, they fill again as previews are asked for.
"""

import hashlib
from collections import OrderedDict
from typing import Literal

import msgspec
import numpy as np

from halfdrop.contracts.patterns import PatternSpec, canonical_bytes
from halfdrop.contracts.plates import Plates
from halfdrop.edge.previews import Pattern, Previews
from halfdrop.edge.requests import PreviewRequest
from halfdrop.models.fields import decode_fields
from halfdrop.models.hex_colours import ROUNDED_LEVELS
from halfdrop.models.house.meaning import read_meaning
from halfdrop.models.house.meaning_roles import Meaning
from halfdrop.models.house.palettes import COLOURS_255

Reuse = Literal["none", "exact", "variant", "near"]
"""What an answer is: drawn for it; made before under the same key; another seed's; another wording's."""

POOLS_MAX = 8192
"""Pools remembered; the least recently used is forgotten first. A few MiB; 50 if every prompt has 1,000 characters."""
VARIANTS_MAX = 8
"""Patterns of one pool: more than a designer looks through."""
LEAST_SHARE = 0.005
"""Share of the unit that a colour must cover to be seen: 20 of the 4,096 samples, a dot of 5 across."""


class ReusePools:
    """Good patterns by tenant and by what was asked for."""

    def __init__(self, *, pools_max: int = POOLS_MAX, variants_max: int = VARIANTS_MAX) -> None:
        self._pools_max = pools_max
        self._variants_max = variants_max
        self._pools: OrderedDict[bytes, OrderedDict[str, PatternSpec | None]] = OrderedDict()
        # None stands for a pattern that was looked at and is not good.

    def knows(self, tenant: str, pattern: Pattern) -> bool:
        """Return whether the pattern was noted already, be it good or not."""
        return pattern.key in self._pools.get(_variant_pool(tenant, pattern.spec), ())

    def note(self, tenant: str, pattern: Pattern, plates: Plates) -> None:
        """Remember a pattern that was made, for reuse if it is good."""
        meaning = meaning_of(pattern)
        spec = pattern.spec if is_good(plates, pattern.spec, meaning) else None
        self._add(_variant_pool(tenant, pattern.spec), pattern.key, spec)
        if meaning is not None and spec is not None:
            self._add(_near_pool(tenant, spec, meaning), pattern.key, spec)

    def find_variant(self, tenant: str, pattern: Pattern) -> Pattern | None:
        """Return a good pattern of this very prompt under any seed, by turns; None if there is none."""
        return self._find(_variant_pool(tenant, pattern.spec), pattern, seed=None)

    def find_near(self, tenant: str, pattern: Pattern, *, seed: int | None) -> Pattern | None:
        """Return a good pattern whose prompt says the same, under that seed or under any; None if there is none."""
        meaning = meaning_of(pattern)
        return None if meaning is None else self._find(_near_pool(tenant, pattern.spec, meaning), pattern, seed=seed)

    def _find(self, name: bytes, asked: Pattern, *, seed: int | None) -> Pattern | None:
        pool = self._pools.get(name, OrderedDict())
        for key, spec in pool.items():
            if spec is not None and seed in (None, spec.seed):
                pool.move_to_end(key)  # the next one asked for comes first next time
                self._pools.move_to_end(name)
                return Pattern(spec=spec, key=key, wording=asked.wording)
        return None

    def _add(self, name: bytes, key: str, spec: PatternSpec | None) -> None:
        pool = self._pools.setdefault(name, OrderedDict())
        self._pools.move_to_end(name)
        pool[key] = spec
        if len(pool) > self._variants_max:
            pool.popitem(last=False)
        if len(self._pools) > self._pools_max:
            self._pools.popitem(last=False)


async def choose_pattern(
    pools: ReusePools, previews: Previews, tenant: str, asked: Pattern, request: PreviewRequest
) -> tuple[Pattern, Reuse]:
    """Return the pattern to answer with, and how it was found: what was asked for, or what the request lets stand in.

    The very pattern that was asked for goes before one of another wording, wherever a tier has it.
    """
    if request.reuse == "exact":
        return asked, "exact"
    has_seed = request.seed is not msgspec.UNSET
    found = None if has_seed else pools.find_variant(tenant, asked)
    if found is not None:
        return found, "exact" if found.key == asked.key else "variant"
    if request.reuse == "near" and not pools.knows(tenant, asked) and await previews.find_plates(asked) is None:
        found = pools.find_near(tenant, asked, seed=asked.spec.seed if has_seed else None)
    return (asked, "exact") if found is None else (found, "near")


async def note_pattern(pools: ReusePools, previews: Previews, tenant: str, pattern: Pattern) -> None:
    """Remember a pattern that was answered with, unless it is remembered already."""
    if not pools.knows(tenant, pattern) and (plates := await previews.find_plates(pattern)) is not None:
        pools.note(tenant, pattern, plates)


def meaning_of(pattern: Pattern) -> Meaning | None:
    """Return what the pattern's prompt says; None where a word of it was not known, or has no certain place."""
    if pattern.wording.unknown_words or pattern.wording.read_as:
        return None
    return read_meaning(pattern.spec.prompt)


def is_good(plates: Plates, spec: PatternSpec, meaning: Meaning | None) -> bool:
    """Return whether a pattern is worth showing for another seed or wording.

    It is not blank, and where its prompt has a meaning the ground and the bodies have the colours asked for
    exactly (`ROUNDED_LEVELS`); a palette of the request's own is given exactly, so that nothing is to be checked.
    """
    fields = decode_fields(plates)
    tops = np.zeros(fields.shape[1:], np.uint8)
    for layer, field in enumerate(fields, start=1):
        tops[field > 0] = layer
    shares = np.bincount(tops.ravel(), minlength=len(plates.palette)) / tops.size
    seen = [_levels(colour) for colour, share in zip(plates.palette, shares, strict=True) if share >= LEAST_SHARE]
    if not any(_is_apart(colour, seen[0]) for colour in seen):
        return False
    if meaning is None or spec.palette:
        return True
    bodies = [colour for motif in meaning.motifs for colour in motif.bodies]
    ground = _levels(plates.palette[0])
    is_ground_right = not meaning.ground or (ground in seen and not _is_apart(_named(meaning.ground), ground))
    return is_ground_right and all(any(not _is_apart(_named(body), found) for found in seen) for body in bodies)


def _variant_pool(tenant: str, spec: PatternSpec) -> bytes:
    """Return the name of the pool of all that is asked for but the seed."""
    return _pool("variant", tenant, msgspec.structs.replace(spec, seed=0))


def _near_pool(tenant: str, spec: PatternSpec, meaning: Meaning) -> bytes:
    """Return the name of the pool of all that is asked for but the seed and the wording."""
    return _pool("near", tenant, msgspec.structs.replace(spec, seed=0, prompt=meaning.canonical))


def _pool(kind: str, tenant: str, spec: PatternSpec) -> bytes:
    return hashlib.sha256(msgspec.json.encode((kind, tenant)) + canonical_bytes(spec)).digest()


def _named(colour: str) -> tuple[int, int, int]:
    return _levels(colour) if colour.startswith("#") else COLOURS_255[colour]


def _levels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _is_apart(first: tuple[int, int, int], second: tuple[int, int, int]) -> bool:
    return max(abs(a - b) for a, b in zip(first, second, strict=True)) > ROUNDED_LEVELS
