"""All kinds by name, and the one way to draw them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from halfdrop.models.house.kinds import florals, geometric, organics, pictures, tilings, weaves
from halfdrop.models.house.kinds.drawing import STRAIGHT, Canvas, Dice, Drawing, Traits
from halfdrop.models.house.kinds.fields import BAND_PX, PLATES

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
"""Kinds that fill the unit. The ruled ones close on the straight torus and under half a unit's shift either way, so
that laid straight they serve every drop; the free forms close on the torus of the canvas' lattice."""

FREE_FORMS = frozenset({"terrazzo", "camouflage", "blobs", "marble", "zebra", "leopard"})
"""Kinds grown from chance: no two units are alike, so a drawn one cannot be held against an exact one."""

KINDS = SET_MOTIFS | ALL_OVERS
KIND_NAMES = tuple(KINDS)


def draw(
    kind: str, count: int, numbers: torch.Generator, words: random.Random, *, canvas: Canvas = STRAIGHT
) -> tuple[Tensor, list[Traits]]:
    """Return `count` units of one kind: plates [count, 4, grid, grid] in [-1, 1], and what may be said of each.

    The band at which a field saturates is 6 of the 64 grid pixels, whatever the canvas' grid.
    """
    drawing = KINDS[kind](Dice.on(canvas, count, numbers, words))
    return stack_layers(drawing.layers, canvas), drawing.traits


def stack_layers(layers: Sequence[Tensor], canvas: Canvas) -> Tensor:
    """Return up to four layers, in grid pixels, as plates [count, 4, grid, grid] in [-1, 1]."""
    plates = torch.full((len(layers[0]), PLATES, canvas.grid, canvas.grid), -1.0)
    for index, layer in enumerate(layers):
        plates[:, index] = layer / BAND_PX
    return plates.clamp_(-1, 1)
