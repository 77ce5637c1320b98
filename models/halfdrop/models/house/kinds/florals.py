"""Set motifs from the garden: flowers, leaves, sprigs and fruit, one to a unit."""

from __future__ import annotations

import torch

from halfdrop.models.house.kinds.drawing import Detail, Dice, Drawing, Traits
from halfdrop.models.house.kinds.fields import (
    ABSENT,
    circle,
    fraction,
    only_where,
    outline,
    overlap,
    petals,
    rotate,
    segment,
    teardrop,
    union,
    vesica,
)

CENTRES = Detail(layer=1, phrases=("with {} centres", "with a {} centre"), is_optional=False)
VEINS = Detail(layer=1, phrases=("with {} veins",))
LEAVES = Detail(layer=0, phrases=("with {} leaves", "with {} stems and leaves"), is_optional=False)
FLOWER_CENTRES = Detail(layer=2, phrases=("with {} centres", "and {} centres"), is_optional=False)
STEMS = Detail(layer=1, phrases=("with {} stems", "with {} stalks"), is_optional=False)
INNER_SHAPE = Detail(layer=1, phrases=("with {} inner shape", "nested with {}"))
INNER_DROP = Detail(layer=2, phrases=("with {} dots inside", "with a {} dot inside", "with {} inner dots"))


def daisies(dice: Dice) -> Drawing:
    """A flower of ten slim petals."""
    radius, count = dice.uniform(23, 28), dice.choice([10.0])
    body = union(petals(dice.x, dice.y, count, radius, dice.uniform(0.46, 0.56)), circle(dice.x, dice.y, radius * 0.4))
    centre = circle(dice.x, dice.y, radius * 0.28)
    noun = ["daisies", "daisy flowers"]
    return Drawing(
        layers=[body, centre],
        traits=[Traits(noun=dice.noun(noun), details=(CENTRES,)) for _ in range(dice.count)],
    )


def blossoms(dice: Dice) -> Drawing:
    """A flower of five round petals."""
    radius = dice.uniform(23, 28)
    body = union(
        petals(dice.x, dice.y, dice.choice([5.0]), radius, dice.uniform(0.9, 1.05)),
        circle(dice.x, dice.y, radius * 0.42),
    )
    centre = circle(dice.x, dice.y, radius * dice.uniform(0.2, 0.26))
    noun = ["blossoms", "five-petal flowers", "flowers"]
    return Drawing(
        layers=[body, centre],
        traits=[Traits(noun=dice.noun(noun), details=(CENTRES,)) for _ in range(dice.count)],
    )


def leaves(dice: Dice) -> Drawing:
    """A leaf that leans to the right, now and then with its veins."""
    x, y = rotate(dice.x, dice.y, 0.6)
    length = dice.uniform(24, 28)
    body = vesica(x, y, length, length * dice.uniform(0.4, 0.5))
    spine = overlap(1.5 - x.abs(), length * 0.86 - y.abs())
    spacing = length * 0.4
    twigs = (1.2 - (fraction((y - x.abs() * 0.8) / spacing) - 0.5).abs() * spacing * 0.78) + 0.0
    veins = union(spine, overlap(twigs, body - 2.4, length * 0.7 - y.abs()))
    has_veins = dice.flag(0.5)
    traits = [
        Traits(noun=dice.noun(["leaves", "leaf motifs"]), details=(VEINS,) if veined else ())
        for veined in has_veins.flatten()
    ]
    return Drawing(layers=[body, only_where(has_veins, veins)], traits=traits)


def paisley(dice: Dice) -> Drawing:
    """A bent drop, as a rule with a line following its edge and a dot in its eye."""
    size = dice.uniform(34, 39)
    x, y = dice.x / size, dice.y / size + 0.28
    x = x + 0.14 - 0.46 * y.clamp(min=0) ** 2
    body = teardrop(x, y, 0.42, 0.05, 0.86) * size * 0.92
    has_line, has_eye = dice.flag(0.6), dice.flag(0.5)
    line = outline(body - 5.4, 1.4)
    eye = circle(x * size, y * size, size * 0.13)
    traits = []
    for lined, eyed in zip(has_line.flatten(), has_eye.flatten(), strict=True):
        details = ((INNER_SHAPE,) if lined else ()) + ((INNER_DROP,) if eyed else ())
        traits.append(Traits(noun=dice.noun(["paisley", "paisley drops"]), details=details))
    return Drawing(layers=[body, only_where(has_line, line), only_where(has_eye, eye)], traits=traits)


def sprigs(dice: Dice) -> Drawing:
    """A five-petal flower on a stem with two leaves."""
    head = dice.uniform(13, 15.5)
    stem = segment(dice.x, dice.y, (0.0, -27.0), (0.0, 10.0), 1.6)
    x, y = rotate(dice.x.abs() - 9.5, dice.y + 13.0, 0.85)
    leaf = vesica(x, y, 11.5, 4.6)
    flower_y = dice.y - 12.5
    flower = union(petals(dice.x, flower_y, dice.choice([5.0]), head, 0.98), circle(dice.x, flower_y, head * 0.42))
    traits = [
        Traits(noun=dice.noun(["flower sprigs", "sprigs"]), body=(1,), details=(LEAVES, FLOWER_CENTRES))
        for _ in range(dice.count)
    ]
    plant = union(stem, leaf).expand(dice.count, -1, -1)
    return Drawing(layers=[plant, flower, circle(dice.x, flower_y, head * 0.28)], traits=traits)


def tulips(dice: Dice) -> Drawing:
    """A tulip of three points on a stem with two tall leaves."""
    width = dice.uniform(10.5, 12.5)
    cup_y = dice.y - 13.0
    bowl = overlap(circle(dice.x, cup_y, width), 1.0 - cup_y)
    points = union(
        vesica(dice.x, cup_y - 2.0, 12.0, width * 0.55),
        overlap(vesica(dice.x.abs() - width * 0.56, cup_y - 2.0, 11.5, width * 0.46), 12.0 - cup_y),
    )
    stem = segment(dice.x, dice.y, (0.0, -27.0), (0.0, 4.0), 1.6)
    x, y = rotate(dice.x.abs() - 7.4, dice.y + 15.0, 0.42)
    plant = union(stem, vesica(x, y, 12.5, 3.8)).expand(dice.count, -1, -1)
    traits = [Traits(noun="tulips", body=(1,), details=(LEAVES,)) for _ in range(dice.count)]
    return Drawing(layers=[plant, union(bowl, points)], traits=traits)


def cherries(dice: Dice) -> Drawing:
    """Two cherries on one stalk, with a leaf."""
    radius = dice.uniform(9.5, 11.5)
    fruit = union(circle(dice.x + 13.0, dice.y + 14.0, radius), circle(dice.x - 13.0, dice.y + 9.0, radius))
    stalk = union(
        segment(dice.x, dice.y, (-12.5, -5.0), (3.0, 21.0), 1.5),
        segment(dice.x, dice.y, (12.5, 0.0), (3.0, 21.0), 1.5),
    )
    x, y = rotate(dice.x - 11.0, dice.y - 20.5, 1.35)
    green = union(stalk, vesica(x, y, 10.5, 5.0)).expand(dice.count, -1, -1)
    traits = [Traits(noun=dice.noun(["cherries", "cherry pairs"]), details=(STEMS,)) for _ in range(dice.count)]
    return Drawing(layers=[fruit, green, torch.full_like(fruit, ABSENT)], traits=traits)
