"""How a unit repeats: the lattice, in the words of the trade.

A repeat unit is laid on a lattice. In a *drop* each column is shifted down by a fraction of the unit's height
against the column before it; in a *brick* the rows are shifted sideways instead. The shift is a fraction with a
named axis, because the trade's names overlap (one mill's "half-drop" is another's "brick").
"""

from fractions import Fraction
from typing import Literal

import msgspec

from halfdrop.contracts.errors import InvalidInput

Layout = Literal["straight", "half-drop", "brick", "drop", "mirror"]
Axis = Literal["columns", "rows"]

UNITS_MAX = 16
"""Units across a tile. More would leave a unit under 16 px wide in a 256 px preview."""

DROP_DENOMINATOR_MAX = 8
"""Eighths are the finest drop that mills name; each adds a column to the smallest rectangular tile."""


class Repeat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A lattice, and how many of its units a rectangular tile holds in each direction.

    Write any form (`layout="half-drop"`, or `layout="drop", drop="1/2"`); `normalise` gives the one form that
    enters the pattern's key.
    """

    layout: Layout = "straight"
    """straight; half-drop (columns by 1/2); brick (rows by 1/2); drop (any fraction); mirror (every other flipped)."""

    drop: str = ""
    """Shift of each column (or row) against the one before, as a fraction of the unit: "1/3". Only for "drop"."""

    axis: Axis = "columns"
    """What is shifted. Only for "drop"."""

    units: int = 2
    """Units across the tile, 1 to 16; rounded up until the shifts close (even for half-drop, brick and mirror)."""

    @property
    def shift(self) -> Fraction:
        """The shift as a fraction of the unit, 0 (straight, mirror) up to below 1."""
        if self.layout in ("half-drop", "brick"):
            return Fraction(1, 2)
        return Fraction(self.drop) if self.layout == "drop" and self.drop else Fraction(0)

    @property
    def shifted_axis(self) -> Axis:
        """What moves: "rows" for a brick, the declared axis for a drop, else "columns"."""
        if self.layout == "brick":
            return "rows"
        return self.axis if self.layout == "drop" else "columns"

    def normalise(self) -> "Repeat":
        """Return the one canonical form of this lattice. Raises InvalidInput for what cannot be laid."""
        if not 1 <= self.units <= UNITS_MAX:
            raise InvalidInput("repeat.units", got=self.units, allowed=f"a whole number from 1 to {UNITS_MAX}")
        if self.layout != "drop":
            if self.drop and Fraction(_parse_drop(self.drop)) != self.shift:
                raise InvalidInput("repeat.drop", got=self.drop, allowed='nothing, unless layout is "drop"')
            period = 1 if self.layout == "straight" else 2
            return Repeat(
                layout=self.layout,
                drop="1/2" if self.shift else "",
                axis=self.shifted_axis,
                units=_close(self.units, period),
            )
        shift = _parse_drop(self.drop)
        if shift == 0:
            return Repeat(units=self.units)
        if shift == Fraction(1, 2):
            return Repeat(layout="half-drop" if self.axis == "columns" else "brick", units=self.units).normalise()
        units = _close(self.units, shift.denominator)
        return Repeat(layout="drop", drop=f"{shift.numerator}/{shift.denominator}", axis=self.axis, units=units)


def _parse_drop(text: str) -> Fraction:
    allowed = f'a fraction from 0 to below 1 with a denominator up to {DROP_DENOMINATOR_MAX}, such as "1/3"'
    try:
        shift = Fraction(text) if len(text) <= 16 else None
    except (ValueError, ZeroDivisionError):
        shift = None
    if shift is None or not 0 <= shift < 1 or shift.denominator > DROP_DENOMINATOR_MAX:
        raise InvalidInput("repeat.drop", got=text, allowed=allowed)
    return shift


def _close(units: int, period: int) -> int:
    """Return the next number of units at which shifts of `period` units close, or the last one within the limit."""
    return min(-(-units // period), UNITS_MAX // period) * period
