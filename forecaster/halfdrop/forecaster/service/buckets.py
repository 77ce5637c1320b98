"""Ninety days of minutes as a page can draw them: minimum, maximum and mean of each bucket. Pure."""

import msgspec
import numpy as np
from numpy.typing import NDArray

BUCKET_MINUTES = (1, 2, 3, 5, 10, 15, 20, 30, 60, 120, 180, 240, 360, 720, 1440)
"""Widths that people can read off a clock; each begins at a multiple of itself since the epoch."""

POINTS_MAX = 4_000


class Buckets(msgspec.Struct, frozen=True, kw_only=True):
    """Where the minutes [first, end) fall: `count` buckets of `width` minutes, the first one from `first` on."""

    first: int
    width: int
    count: int

    @property
    def end(self) -> int:
        return self.first + self.count * self.width

    def starts_s(self) -> list[int]:
        """Return when each begins, in Unix seconds."""
        return [(self.first + place * self.width) * 60 for place in range(self.count)]

    def mean(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the mean of what is known in each; NaN where nothing is. values: of the minutes [first, end)."""
        rows = self._rows(values)
        known = (~np.isnan(rows)).sum(axis=1)
        return np.where(known > 0, np.nansum(rows, axis=1) / np.maximum(known, 1), np.nan)

    def total(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the sum of what is known in each; NaN where nothing is."""
        rows = self._rows(values)
        return np.where(np.isnan(rows).all(axis=1), np.nan, np.nansum(rows, axis=1))

    def low(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the least of what is known in each; NaN where nothing is."""
        return np.asarray(np.fmin.reduce(self._rows(values), axis=1))

    def high(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the most of what is known in each; NaN where nothing is."""
        return np.asarray(np.fmax.reduce(self._rows(values), axis=1))

    def _rows(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        return values.astype(np.float64).reshape(self.count, self.width)


def choose_buckets(start: int, end: int, *, points: int) -> Buckets:
    """Return the narrowest buckets of which at most about `points` cover the minutes [start, end)."""
    assert start < end
    fitting = (width for width in BUCKET_MINUTES if -(-(end - start) // width) <= points)
    width = next(fitting, BUCKET_MINUTES[-1])
    first = start // width * width
    return Buckets(first=first, width=width, count=-(-(end - first) // width))


def as_list(values: NDArray[np.floating], *, digits: int = 3) -> list[float | None]:
    """Return values for JSON: rounded, None where nothing is known."""
    return [value if value == value else None for value in np.round(values.astype(np.float64), digits).tolist()]  # noqa: PLR0124
