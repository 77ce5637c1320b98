"""All-over kinds that come from the loom: stripes, checks, plaids and twills.

Every one has two periods a unit each way (or more), so that it also joins under a half drop and a brick.
"""

from __future__ import annotations

import torch
from torch import Tensor

from halfdrop.models.house.kinds.drawing import Detail, Dice, Drawing, Traits, flat
from halfdrop.models.house.kinds.fields import ABSENT, GRID, fraction, only_where, overlap, stripe, union

PERIODS = 2
PERIOD_PX = GRID / PERIODS
ROOT_2 = 2**0.5


def stripes(dice: Dice) -> Drawing:
    """Stripes: vertical, horizontal or diagonal; thin, plain or wide; now and then in two colours."""
    way = dice.choice([0, 1, 2])
    phase = torch.where(way == 0, dice.u, torch.where(way == 1, dice.v, dice.u + dice.v)) * PERIODS
    period_px = torch.where(way == 2, PERIOD_PX / ROOT_2, PERIOD_PX)
    width = dice.choice([0, 1, 2])
    share = torch.where(width == 0, 0.2, torch.where(width == 1, 0.48, 0.72)) + dice.uniform(-0.02, 0.02)
    is_double = dice.flag(0.3)
    second = stripe(phase + 0.5, ((1 - share) * 0.36).clamp(min=0.11), period_px)
    traits = []
    for direction, thickness, double in zip(flat(way), flat(width), is_double.flatten(), strict=True):
        adjectives = (
            ("thin", "", "wide")[int(thickness)],
            ("vertical", "horizontal", "diagonal")[int(direction)],
        )
        traits.append(
            Traits(noun="stripes", adjectives=adjectives, body=(0, 1) if double else (0,), names_ground=not double)
        )
    return Drawing(layers=[stripe(phase, share, period_px), only_where(is_double, second)], traits=traits)


def pinstripes(dice: Dice) -> Drawing:
    """Fine vertical lines, eight to a unit."""
    field = stripe(dice.u * 8, dice.uniform(0.26, 0.3), GRID / 8)
    traits = [Traits(noun="pinstripes") for _ in range(dice.count)]
    return Drawing(layers=_full(dice, field), traits=traits)


def _checks(across: Tensor, down: Tensor, period_px: float) -> Tensor:
    """Return squares where exactly one of two stripes lies."""
    first = 0.25 - (fraction(across) - 0.5).abs()
    second = 0.25 - (fraction(down) - 0.5).abs()
    return first.sign() * second.sign() * torch.minimum(first.abs(), second.abs()) * period_px


def checkerboard(dice: Dice) -> Drawing:
    """Squares like a chess board, four by four."""
    field = _checks(dice.u * PERIODS + 0.25, dice.v * PERIODS + 0.25, PERIOD_PX).expand(dice.count, -1, -1)
    nouns = ["checkerboard", "checkerboard squares", "checks"]
    traits = [Traits(noun=dice.noun(nouns), names_ground=True) for _ in range(dice.count)]
    return Drawing(layers=[field], traits=traits)


def harlequin(dice: Dice) -> Drawing:
    """Upright diamonds that meet at their points."""
    field = _checks(2 * dice.u + dice.v, 2 * dice.u - dice.v, GRID / 5**0.5).expand(dice.count, -1, -1)
    nouns = ["harlequin", "harlequin diamonds"]
    traits = [Traits(noun=dice.noun(nouns), names_ground=True) for _ in range(dice.count)]
    return Drawing(layers=[field], traits=traits)


def gingham(dice: Dice) -> Drawing:
    """Two overprinted stripes of one colour and their full-strength crossing."""
    share = dice.uniform(0.47, 0.53)
    down, across = stripe(dice.u * PERIODS, share, PERIOD_PX), stripe(dice.v * PERIODS, share, PERIOD_PX)
    traits = [
        Traits(noun=dice.noun(["gingham", "gingham check"]), body=(2,), is_blended=True, names_ground=True)
        for _ in range(dice.count)
    ]
    return Drawing(layers=_full(dice, down, across, overlap(down, across)), traits=traits)


def plaid(dice: Dice) -> Drawing:
    """A gingham of narrower bands with a line of another colour between them."""
    share = dice.uniform(0.36, 0.42)
    down, across = stripe(dice.u * PERIODS, share, PERIOD_PX), stripe(dice.v * PERIODS, share, PERIOD_PX)
    lines = union(stripe(dice.u * PERIODS + 0.5, 0.09, PERIOD_PX), stripe(dice.v * PERIODS + 0.5, 0.09, PERIOD_PX))
    traits = [
        Traits(noun=dice.noun(["plaid", "tartan", "tartan plaid"]), body=(2, 3), is_blended=True)
        for _ in range(dice.count)
    ]
    return Drawing(layers=_full(dice, down, across, overlap(down, across), lines), traits=traits)


def windowpane(dice: Dice) -> Drawing:
    """Thin lines that cross: panes of ground."""
    share = dice.uniform(0.09, 0.13)
    field = union(stripe(dice.u * PERIODS, share, PERIOD_PX), stripe(dice.v * PERIODS, share, PERIOD_PX))
    nouns = ["windowpane check", "windowpane", "grid lines"]
    return Drawing(layers=_full(dice, field), traits=[Traits(noun=dice.noun(nouns)) for _ in range(dice.count)])


def houndstooth(dice: Dice) -> Drawing:
    """The broken check of a 2/2 twill in four and four."""
    warp, weft = stripe(dice.u * PERIODS, 0.5, PERIOD_PX), stripe(dice.v * PERIODS, 0.5, PERIOD_PX)
    twill = stripe((dice.u + dice.v) * PERIODS * 2 + 0.25, 0.5, PERIOD_PX / 2 / ROOT_2)
    # Without the crossing of the two a hairline would run through every solid square.
    field = union(overlap(warp, twill), overlap(weft, -twill), overlap(warp, weft))
    nouns = ["houndstooth", "houndstooth check"]
    traits = [Traits(noun=dice.noun(nouns), names_ground=True) for _ in range(dice.count)]
    return Drawing(layers=_full(dice, field), traits=traits)


def basketweave(dice: Dice) -> Drawing:
    """Blocks of two bands, by turns lying and standing."""
    across, down = fraction(dice.u * 4), fraction(dice.v * 4)
    is_lying = ((dice.u * 4).floor() + (dice.v * 4).floor()) % 2 == 0
    block_px = GRID / 4
    end = 0.07
    lying = overlap(stripe(down * 2, 0.72, block_px / 2), (0.5 - end - (across - 0.5).abs()) * block_px)
    standing = overlap(stripe(across * 2, 0.72, block_px / 2), (0.5 - end - (down - 0.5).abs()) * block_px)
    nouns = ["basketweave", "basket weave"]
    traits = [Traits(noun=dice.noun(nouns)) for _ in range(dice.count)]
    return Drawing(layers=_full(dice, torch.where(is_lying, lying, standing)), traits=traits)


def herringbone(dice: Dice) -> Drawing:
    """Columns of slanting bars, leaning left and right by turns, half a step apart."""
    column = (dice.u * 4).floor()
    across = fraction(dice.u * 4)
    lean = torch.where(column % 2 == 0, 1.0, -1.0)
    period_px = GRID / 6
    phase = dice.v * 6 + lean * (across - 0.5) * (GRID / 4) / period_px + 0.5 * (column % 2)
    bars = stripe(phase, dice.uniform(0.58, 0.66), period_px / ROOT_2)
    field = overlap(bars, (0.5 - (across - 0.5).abs()) * (GRID / 4) - 1.0)
    traits = [Traits(noun=dice.noun(["herringbone", "herringbone weave"])) for _ in range(dice.count)]
    return Drawing(layers=[field], traits=traits)


SECOND_LINES = Detail(layer=1, phrases=("with {} lines",), is_optional=False)


def argyle(dice: Dice) -> Drawing:
    """Tall diamonds under a lattice of thin lines through their middles."""
    first, second = 2 * dice.u + dice.v, 2 * dice.u - dice.v
    period_px = GRID / 5**0.5
    body = _checks(first, second, period_px)
    # The diamonds' edges lie at quarters of these phases, the lines at halves: through every middle.
    lines = union(stripe(2 * first + 0.5, 0.16, period_px / 2), stripe(2 * second + 0.5, 0.16, period_px / 2))
    lines = lines + dice.uniform(-0.1, 0.2)
    nouns = ["argyle", "argyle diamonds"]
    traits = [Traits(noun=dice.noun(nouns), details=(SECOND_LINES,)) for _ in range(dice.count)]
    return Drawing(layers=_full(dice, body, lines), traits=traits)


def _full(dice: Dice, *layers: Tensor) -> list[Tensor]:
    """Return the layers at full size: a field that does not vary over the batch is repeated."""
    return [(layer + torch.zeros(dice.count, dice.canvas.grid, dice.canvas.grid)).clamp(min=ABSENT) for layer in layers]
