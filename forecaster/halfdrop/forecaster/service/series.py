"""Demand of many series in memory, a value a minute: taken in as it comes, added up for any choice of series.

A series is a region, a class of jobs and a model. A minute that nobody told of is a gap (NaN), and a sum is a gap only
where all its parts are. Sums that were asked for are kept and brought up to date, so that a page looks at ninety days
of a thousand series without adding them up again.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.features import DAY_MINUTES, clean_demand
from halfdrop.forecaster.workload import MINUTE_S

Float32Array = NDArray[np.float32]

SERIES_MAX = 5_000
"""More series than that are a mistake in whatever names them; what is beyond is counted and left out."""

SUMS_MAX = 64
SUM_COLUMNS = ("gpu_s_offered", "gpu_s_served", "requests", "late", "wait_s_sum", "cold_starts", "boot_s_sum")
OFFERED, SERVED, REQUESTS, LATE, WAITS, COLD_STARTS, BOOT_S = range(len(SUM_COLUMNS))
POOL_COLUMNS = ("replicas",)
REPLICAS = 0
"""Told of a region and tier, on each of its rows the same: the largest counts, and tiers are added up."""

ROOM_MINUTES = 2 * DAY_MINUTES


class SeriesKey(msgspec.Struct, frozen=True, order=True):
    """What a series is told apart by."""

    region: str
    job_class: str
    model: str


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Some series: those of these regions, classes and models; empty means any."""

    regions: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    def takes(self, key: SeriesKey) -> bool:
        return (
            (not self.regions or key.region in self.regions)
            and (not self.classes or key.job_class in self.classes)
            and (not self.models or key.model in self.models)
        )


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """What came of rows that were taken in."""

    first: int
    end: int
    """Minutes since the epoch; empty where first == end."""

    rejected: int
    new_series: int


class MinuteTable:
    """Some columns of values, a row a minute, from the first minute that was put to the last."""

    def __init__(self, columns: int, *, minutes_kept: int) -> None:
        self.first = self.end = 0
        self._origin = 0
        self._kept = minutes_kept
        self._rows: Float32Array = np.empty((0, columns), dtype=np.float32)

    def put(self, minutes: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """Set rows; minutes: distinct, in any order."""
        if not len(minutes):
            return
        low, high = int(minutes.min()), int(minutes.max()) + 1
        if self.first == self.end:
            self.first = self._origin = low
            self.end = low
        self._make_room(min(low, self.first), max(high, self.end))
        self._rows[minutes - self._origin] = values
        self.first, self.end = min(low, self.first), max(high, self.end)

    def read(self, start: int, end: int) -> Float32Array:
        """Return rows [start, end), NaN where nothing was put."""
        found = np.full((max(0, end - start), self._rows.shape[1]), np.nan, dtype=np.float32)
        low, high = max(start, self.first), min(end, self.end)
        if low < high:
            found[low - start : high - start] = self._rows[low - self._origin : high - self._origin]
        return found

    def _make_room(self, low: int, high: int) -> None:
        low = max(low, high - self._kept)
        if low >= self._origin and high <= self._origin + len(self._rows):
            return
        spare = min(ROOM_MINUTES, self._kept)
        rows = np.full((high - low + spare, self._rows.shape[1]), np.nan, dtype=np.float32)
        begin, stop = max(low, self.first), min(high, self.end)
        if begin < stop:
            rows[begin - low : stop - low] = self._rows[begin - self._origin : stop - self._origin]
        self._rows, self._origin, self.first = rows, low, max(low, self.first)


class DemandTable:
    """All series. Not safe to share between threads: it belongs to the loop."""

    def __init__(self, *, days_kept: int = 92) -> None:
        self._kept = days_kept * DAY_MINUTES
        self.series: dict[SeriesKey, MinuteTable] = {}
        self.pools: dict[str, MinuteTable] = {}
        self._sums: OrderedDict[Choice, MinuteTable] = OrderedDict()
        self.end = 0
        """One past the newest minute that anybody told of."""

        self.rejected = self.left_out = 0

    @property
    def first(self) -> int:
        return min((table.first for table in self.series.values()), default=self.end)

    def add(self, frame: pd.DataFrame, *, minute_max: int) -> Added:
        """Take in rows of the agreed form (see the module history.py); what cannot be is rejected and counted.

        A minute that is told again replaces what was known of it. Minutes older than what is kept are left out. One
        after `minute_max` is of a clock that jumped: taken in, it would push everything else out.
        """
        frame, rejected = _clean(frame, minute_max)
        self.rejected += rejected
        if frame.empty:
            return Added(first=self.end, end=self.end, rejected=rejected, new_series=0)
        newest = int(frame["minute"].max()) + 1
        frame = frame[frame["minute"] >= max(newest, self.end) - self._kept]
        known = len(self.series)
        for names, rows in frame.groupby(["region", "class", "model"], sort=False):
            self._put_series(SeriesKey(*map(str, names)), rows)
        for region, rows in frame.groupby("region", sort=False):
            of_tiers = rows.groupby(["minute", "tier"])[list(POOL_COLUMNS)].max()
            by_minute = of_tiers.groupby(level="minute").sum(min_count=1)
            pool = self.pools.setdefault(str(region), MinuteTable(len(POOL_COLUMNS), minutes_kept=self._kept))
            pool.put(by_minute.index.to_numpy(dtype=np.int64), by_minute.to_numpy(dtype=np.float64))
        self.end = max(self.end, newest)
        added = Added(
            first=int(frame["minute"].min()), end=newest, rejected=rejected, new_series=len(self.series) - known
        )
        self._renew_sums(added)
        return added

    def keys(self, choice: Choice) -> list[SeriesKey]:
        return [key for key in self.series if choice.takes(key)]

    def read(self, choice: Choice, start: int, end: int) -> Float32Array:
        """Return [minutes, SUM_COLUMNS] of the chosen series together."""
        found = self._sums.get(choice)
        if found is None:
            found = MinuteTable(len(SUM_COLUMNS), minutes_kept=self._kept)
            self._add_up(found, choice, self.first, self.end)
            self._sums[choice] = found
            if len(self._sums) > SUMS_MAX:
                self._sums.popitem(last=False)
        self._sums.move_to_end(choice)
        return found.read(start, end)

    def gpus(self, choice: Choice, start: int, end: int) -> NDArray[np.float64]:
        """Return the work offered in mean GPUs, one value a minute."""
        return self.read(choice, start, end)[:, OFFERED].astype(np.float64) / MINUTE_S

    def read_pools(self, regions: Sequence[str], start: int, end: int) -> Float32Array:
        """Return [minutes, POOL_COLUMNS] of the regions together (all of them, if none is named)."""
        chosen = [table for region, table in self.pools.items() if not regions or region in regions]
        return _sum_up((table.read(start, end) for table in chosen), end - start, len(POOL_COLUMNS))

    def _put_series(self, key: SeriesKey, rows: pd.DataFrame) -> None:
        table = self.series.get(key)
        if table is None:
            if len(self.series) >= SERIES_MAX:
                self.left_out += len(rows)
                return
            table = self.series[key] = MinuteTable(len(SUM_COLUMNS), minutes_kept=self._kept)
            for choice in [choice for choice in self._sums if choice.takes(key)]:
                del self._sums[choice]
        by_minute = rows.groupby("minute")[list(SUM_COLUMNS)].sum(min_count=1)
        table.put(by_minute.index.to_numpy(dtype=np.int64), by_minute.to_numpy(dtype=np.float64))

    def _renew_sums(self, added: Added) -> None:
        for choice, table in self._sums.items():
            self._add_up(table, choice, max(added.first, self.end - self._kept), added.end)

    def _add_up(self, table: MinuteTable, choice: Choice, start: int, end: int) -> None:
        if end > start:
            parts = (self.series[key].read(start, end) for key in self.keys(choice))
            table.put(np.arange(start, end), _sum_up(parts, end - start, len(SUM_COLUMNS)).astype(np.float64))


def _sum_up(parts: Iterable[Float32Array], minutes: int, columns: int) -> Float32Array:
    total = np.zeros((minutes, columns), dtype=np.float32)
    is_known = np.zeros((minutes, columns), dtype=bool)
    for part in parts:
        known = ~np.isnan(part)
        is_known |= known
        total[known] += part[known]
    total[~is_known] = np.nan
    return total


def _clean(frame: pd.DataFrame, minute_max: int) -> tuple[pd.DataFrame, int]:
    """Return the rows that can be believed, with minutes as whole numbers since the epoch, and how many could not."""
    missing = {"minute", "region", "class", "model", "gpu_s_offered"} - set(frame.columns)
    if missing:
        raise InvalidInput("history", got=", ".join(map(str, frame.columns)), allowed=f"as well {sorted(missing)}")
    made = pd.DataFrame(
        {
            "minute": frame["minute"].to_numpy().astype("datetime64[s]").astype(np.int64) // MINUTE_S,
            "region": frame["region"].astype(str).to_numpy(),
            "class": frame["class"].astype(str).to_numpy(),
            "model": frame["model"].astype(str).to_numpy(),
            "tier": frame["tier"].astype(str).to_numpy() if "tier" in frame.columns else "",
        }
    )
    for name in (*SUM_COLUMNS, *POOL_COLUMNS):
        values = frame[name].to_numpy(dtype=np.float64) if name in frame.columns else np.full(len(frame), np.nan)
        made[name] = np.where(values >= 0, values, np.nan)
    made["gpu_s_offered"] = clean_demand(made["gpu_s_offered"].to_numpy() / MINUTE_S) * MINUTE_S
    was_told = ~np.isnan(frame["gpu_s_offered"].to_numpy(dtype=np.float64))
    is_absurd = was_told & np.isnan(made["gpu_s_offered"].to_numpy())
    minutes = made["minute"].to_numpy()
    is_in_time = (minutes >= 0) & (minutes <= minute_max)
    is_known = ~np.isnan(made[[*SUM_COLUMNS, *POOL_COLUMNS]].to_numpy()).all(axis=1)
    return made[is_in_time & is_known & ~is_absurd], int((is_absurd | ~is_in_time).sum())
