"""All kinds by name, and the one way to draw them."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor

from halfdrop.models.house.kinds import florals, geometric, organics, pictures, tilings, weaves
from halfdrop.models.house.kinds.drawing import Dice, Drawing, Traits
from halfdrop.models.house.kinds.fields import BAND_PX, GRID, PLATES

SET_MOTIFS: dict[str, Callable[[Dice], Drawing]] = {
    "dots": geometric.dots,
    "rings": geometric.rings,
    "stars": geometric.stars,
    "hearts": geometric.hearts,
    "pluses": geometric.pluses,
    "crosses": geometric.crosses,
    "diamonds": geometric.diamonds,
    "squares": geometric.squares,
    "daisies": florals.daisies,
    "blossoms": florals.blossoms,
    "leaves": florals.leaves,
    "paisley": florals.paisley,
    "sprigs": florals.sprigs,
    "tulips": florals.tulips,
    "cherries": florals.cherries,
    "moons": pictures.moons,
    "suns": pictures.suns,
    "clouds": pictures.clouds,
    "raindrops": pictures.raindrops,
    "fish": pictures.fish,
    "mushrooms": pictures.mushrooms,
    "snowflakes": pictures.snowflakes,
}
"""Kinds with a margin: one motif in the middle of the unit, so that any lattice works."""

ALL_OVERS: dict[str, Callable[[Dice], Drawing]] = {
    "stripes": weaves.stripes,
    "pinstripes": weaves.pinstripes,
    "checkerboard": weaves.checkerboard,
    "harlequin": weaves.harlequin,
    "gingham": weaves.gingham,
    "plaid": weaves.plaid,
    "windowpane": weaves.windowpane,
    "houndstooth": weaves.houndstooth,
    "basketweave": weaves.basketweave,
    "herringbone": weaves.herringbone,
    "argyle": weaves.argyle,
    "chevron": tilings.chevron,
    "waves": tilings.waves,
    "hexagons": tilings.hexagons,
    "scallops": tilings.scallops,
    "ogee": tilings.ogee,
    "triangles": tilings.triangles,
    "trellis": tilings.trellis,
    "terrazzo": organics.terrazzo,
    "camouflage": organics.camouflage,
    "blobs": organics.blobs,
    "marble": organics.marble,
    "zebra": organics.zebra,
    "leopard": organics.leopard,
}
"""Kinds that fill the unit and close on its torus."""

FREE_FORMS = frozenset({"terrazzo", "camouflage", "blobs", "marble", "zebra", "leopard"})
"""Kinds grown from chance: no two units are alike, so a drawn one cannot be held against an exact one."""

KINDS = SET_MOTIFS | ALL_OVERS
KIND_NAMES = tuple(KINDS)


def draw(kind: str, count: int, numbers: torch.Generator, words: random.Random) -> tuple[Tensor, list[Traits]]:
    """Return `count` units of one kind: plates [count, 4, 64, 64] in [-1, 1], and what may be said of each."""
    drawing = KINDS[kind](Dice(count=count, numbers=numbers, words=words))
    plates = torch.full((count, PLATES, GRID, GRID), -1.0)
    for index, layer in enumerate(drawing.layers):
        plates[:, index] = layer / BAND_PX
    return plates.clamp_(-1, 1), drawing.traits
