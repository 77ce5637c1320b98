"""Set motifs that picture a thing: sky, sea and forest floor, one to a unit."""

from __future__ import annotations

import math

from halfdrop.models.house.kinds.drawing import Detail, Dice, Drawing, Traits
from halfdrop.models.house.kinds.fields import (
    circle,
    fraction,
    only_where,
    overlap,
    rotate,
    segment,
    star,
    teardrop,
    union,
    vesica,
)
from halfdrop.models.house.kinds.geometric import dressed

SMALL_STARS = Detail(layer=1, phrases=("with {} stars", "and {} stars"))
SUN_CENTRE = Detail(layer=1, phrases=("with {} centres", "with a {} centre"))
EYES = Detail(layer=1, phrases=("with {} eyes", "with a {} eye"), is_optional=False)
CAP_SPOTS = Detail(layer=2, phrases=("with {} spots",), is_optional=False)
STALKS = Detail(layer=0, phrases=("with {} stems", "with {} stalks", "and {} stems"), is_optional=False)


def moons(dice: Dice) -> Drawing:
    """A crescent open to the right, now and then with a star in its mouth."""
    radius = dice.uniform(22, 27)
    x = dice.x - 2.0
    crescent = overlap(circle(x, dice.y, radius), -circle(x - radius * 0.48, dice.y, radius * 0.82))
    has_star = dice.flag(0.4)
    points, sharpness = dice.choice([5.0]), dice.uniform(0.34, 0.38)
    little = star(x - radius * 0.42, dice.y, radius * 0.36, points, sharpness)
    traits = [
        Traits(noun=dice.noun(["moons", "crescent moons", "crescents"]), details=(SMALL_STARS,) if starry else ())
        for starry in has_star.flatten()
    ]
    return Drawing(layers=[crescent, only_where(has_star, little)], traits=traits)


def suns(dice: Dice) -> Drawing:
    """A disc with twelve rays apart from it."""
    radius = dice.uniform(12, 14.5)
    step = math.pi / 6
    bearing = (fraction(dice.y.atan2(dice.x) / step + 0.5) - 0.5) * step
    length = (dice.x * dice.x + dice.y * dice.y).sqrt()
    along, across = length * bearing.cos(), length * bearing.sin()
    rays = segment(along, across, (radius + 5.2, 0.0), (26.5, 0.0), 1.7)
    has_centre = dice.flag(0.35)
    traits = [
        Traits(noun=dice.noun(["suns", "sunbursts"]), details=(SUN_CENTRE,) if centred else ())
        for centred in has_centre.flatten()
    ]
    disc = circle(dice.x, dice.y, radius)
    return Drawing(layers=[union(disc, rays), only_where(has_centre, disc - radius * 0.36)], traits=traits)


def clouds(dice: Dice) -> Drawing:
    """A cloud of four puffs on a flat base."""
    size = dice.uniform(0.92, 1.06)
    x, y = dice.x / size, dice.y / size + 2.0
    base = segment(x, y, (-16.0, -7.0), (16.0, -7.0), 9.0)
    puffs = union(circle(x + 9.0, y - 2.0, 11.0), circle(x - 6.5, y - 5.0, 13.0))
    return dressed(dice, union(base, puffs) * size, ["clouds"])


def raindrops(dice: Dice) -> Drawing:
    """A drop, point upwards."""
    size = dice.uniform(14.5, 17.0)
    body = teardrop(dice.x, dice.y + size * 0.55, size, 0.6, size * 2.1)
    return dressed(dice, body, ["raindrops", "drops", "teardrops"], circle(dice.x, dice.y + size * 0.55, size * 0.4))


def fish(dice: Dice) -> Drawing:
    """A fish that swims to the left."""
    width = dice.uniform(10.5, 13.0)
    body = vesica(dice.y, dice.x + 4.5, 22.0, width)
    # The tail is a wedge, cut straight at its end.
    x = dice.x - 12.0
    tail = overlap((x * 0.78 - dice.y.abs() + 2.0) * 0.79, 14.0 - x, x + 2.0)
    eye = circle(dice.x + 14.5, dice.y - 2.4, 2.4).expand(dice.count, -1, -1)
    traits = [Traits(noun=dice.noun(["fish", "fishes"]), details=(EYES,)) for _ in range(dice.count)]
    return Drawing(layers=[union(body, tail), eye], traits=traits)


def mushrooms(dice: Dice) -> Drawing:
    """A toadstool: a domed cap with spots on a stem."""
    radius = dice.uniform(22, 26)
    floor = dice.y + 0.5
    cap = overlap(circle(dice.x, floor / 0.95, radius), floor)
    stem = union(
        segment(dice.x, dice.y, (0.0, -20.0), (0.0, 2.0), 6.4),
        segment(dice.x, dice.y, (-2.5, -22.0), (2.5, -22.0), 5.6),
    )
    spots = union(
        circle(dice.x, dice.y - radius * 0.62, 4.2),
        circle(dice.x.abs() - radius * 0.5, dice.y - radius * 0.32, 3.6),
    )
    traits = [
        Traits(noun=dice.noun(["mushrooms", "toadstools"]), body=(1,), details=(CAP_SPOTS, STALKS))
        for _ in range(dice.count)
    ]
    return Drawing(layers=[stem.expand(dice.count, -1, -1), cap, spots], traits=traits)


def snowflakes(dice: Dice) -> Drawing:
    """Six branched arms."""
    reach = dice.uniform(24, 27)
    step = math.pi / 3
    bearing = (fraction(dice.x.atan2(dice.y) / step + 0.5) - 0.5) * step
    length = (dice.x * dice.x + dice.y * dice.y).sqrt()
    along, across = length * bearing.cos(), (length * bearing.sin()).abs()
    arm = segment(along, across, (0.0, 0.0), (reach, 0.0), 1.6)
    u, v = rotate(along - reach * 0.5, across, 0.0)
    twig = segment(u, v, (0.0, 0.0), (5.2, 6.0), 1.5)
    outer = segment(along - reach * 0.78, across, (0.0, 0.0), (3.2, 3.7), 1.4)
    return Drawing(layers=[union(arm, twig, outer)], traits=[Traits(noun="snowflakes") for _ in range(dice.count)])
