"""Set motifs of plain geometry: one shape in the middle of the unit, with an outline or a dot if wanted."""

from __future__ import annotations

import torch
from torch import Tensor

from halfdrop.models.house.kinds.drawing import Detail, Dice, Drawing, Traits, flat
from halfdrop.models.house.kinds.fields import (
    ABSENT,
    box,
    circle,
    heart,
    only_where,
    outline,
    rhombus,
    rotate,
    star,
    union,
)

OUTLINE = Detail(layer=1, phrases=("outlined in {}", "with {} outline", "with a {} outline"))
INNER_DOT = Detail(layer=2, phrases=("with {} dots inside", "with a {} dot inside", "with {} inner dots"))
OUTLINE_HALF_WIDTH_PX = 1.7


def dressed(
    dice: Dice,
    body: Tensor,
    nouns: list[str],
    inner: Tensor | None = None,
    adjectives: list[tuple[str, ...]] | None = None,
) -> Drawing:
    """Return a motif that now and then has an outline (layer 1) or something inside (layer 2)."""
    has_outline, has_inner = dice.flag(0.3), dice.flag(0.25 if inner is not None else 0.0)
    layers = [body, only_where(has_outline, outline(body, OUTLINE_HALF_WIDTH_PX))]
    layers.append(only_where(has_inner, body if inner is None else inner))
    if adjectives is None:
        adjectives = [()] * dice.count
    traits = []
    for words, outlined, dotted in zip(adjectives, has_outline.flatten(), has_inner.flatten(), strict=True):
        details = ((OUTLINE,) if outlined else ()) + ((INNER_DOT,) if dotted else ())
        traits.append(Traits(noun=dice.noun(nouns), adjectives=words, details=details))
    return Drawing(layers=layers, traits=traits)


def dots(dice: Dice) -> Drawing:
    """One disc."""
    radius = dice.uniform(17, 27)
    return dressed(
        dice, circle(dice.x, dice.y, radius), ["polka dots", "dots", "spots"], circle(dice.x, dice.y, radius * 0.36)
    )


def rings(dice: Dice) -> Drawing:
    """One ring, now and then with a dot in it."""
    radius, half_width = dice.uniform(19, 25), dice.uniform(2.2, 3.6)
    body = outline(circle(dice.x, dice.y, radius), half_width)
    has_dot = dice.flag(0.4)
    layers = [body, torch.full_like(body, ABSENT), only_where(has_dot, circle(dice.x, dice.y, radius * 0.4))]
    traits = [
        Traits(noun=dice.noun(["rings", "circles"]), details=(INNER_DOT,) if dotted else ())
        for dotted in has_dot.flatten()
    ]
    return Drawing(layers=layers, traits=traits)


def stars(dice: Dice) -> Drawing:
    """A star of five, six or eight points; unless the count is said it has five."""
    points = dice.choice([5, 5, 6, 8])
    radius, sharpness = dice.uniform(22, 27), dice.uniform(0.3, 0.42)
    body = star(dice.x, dice.y, radius, points, sharpness)
    words: list[tuple[str, ...]] = []
    for count in flat(points):
        is_said = count != 5 or dice.words.random() < 0.5
        words.append((f"{int(count)}-pointed",) if is_said else ())
    return dressed(dice, body, ["stars"], circle(dice.x, dice.y, radius * 0.24), words)


def hearts(dice: Dice) -> Drawing:
    """A heart."""
    size = dice.uniform(34, 43)
    return dressed(dice, heart(dice.x, dice.y, size), ["hearts"], circle(dice.x, dice.y - 4, size * 0.15))


def _arms(x: Tensor, y: Tensor, length: Tensor, half_width: Tensor) -> Tensor:
    return union(box(x, y, length, half_width), box(x, y, half_width, length))


def pluses(dice: Dice) -> Drawing:
    """An upright cross."""
    length = dice.uniform(20, 26)
    body = _arms(dice.x, dice.y, length, length * dice.uniform(0.25, 0.36))
    return dressed(dice, body, ["plus crosses", "plus signs", "plus shapes"])


def crosses(dice: Dice) -> Drawing:
    """A cross on its side: an x."""
    x, y = rotate(dice.x, dice.y, torch.pi / 4)
    length = dice.uniform(22, 29)
    return dressed(dice, _arms(x, y, length, length * dice.uniform(0.22, 0.32)), ["x crosses", "x shapes"])


def diamonds(dice: Dice) -> Drawing:
    """A lozenge standing on its point."""
    height = dice.uniform(23, 27)
    width = height * dice.uniform(0.6, 0.85)
    return dressed(
        dice, rhombus(dice.x, dice.y, width, height), ["diamonds", "lozenges"], circle(dice.x, dice.y, width * 0.3)
    )


def squares(dice: Dice) -> Drawing:
    """A square, flat on its side."""
    side = dice.uniform(16, 25)
    return dressed(dice, box(dice.x, dice.y, side, side), ["squares"], circle(dice.x, dice.y, side * 0.36))
