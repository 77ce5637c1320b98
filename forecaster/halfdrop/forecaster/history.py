"""The demand history: what each region, class, model and tier was asked for, minute by minute, from Parquet files.

A minute that nobody told of has no row: it is a gap, not a zero. What is damaged or cannot be true is logged and left
out, and the rest is answered.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import reduce

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import structlog

from halfdrop.contracts.demand_events import DemandEvent
from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.demand_parts import (
    COLUMNS,
    FOLDER,
    KEYS,
    NAMES,
    READ_SCHEMA,
    Part,
    choose_parts,
    clean_values,
    day_folder,
    days_between,
    decode_part,
    fill_in,
    merge_live,
    read_path,
)
from halfdrop.forecaster.workload import FloatArray
from halfdrop.runtime.objects import ObjectStore

log = structlog.get_logger()

DAYS_MAX = 800
"""Of one reading: two years and some."""

READS_MAX = 16
"""Objects fetched side by side."""

ADDITIVE = ("requests", "gpu_s_offered", "gpu_s_served", "late", "wait_s_sum", "cold_starts", "boot_s_sum")

Moment = float | datetime
"""Unix seconds, or a datetime; one without a zone is UTC."""


class DemandHistory:
    """The history in one object store. Any number may read while a compactor writes."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    async def read(
        self,
        start: Moment,
        end: Moment,
        *,
        region: str | None = None,
        job_class: str | None = None,
        model: str | None = None,
    ) -> pd.DataFrame:
        """Return a row for each minute in [start, end) and series that somebody told of, by minute and series.

        Columns: minute (UTC, datetime64[s]), region, class, model, tier (categories: group with observed=True),
        requests, gpu_s_offered, gpu_s_served, late, wait_s_sum, cold_starts, boot_s_sum, replicas. gpu_s_offered is NaN
        where no edge told of the minute, gpu_s_served and replicas where no hub did; the integers are 0 then.
        Raises InvalidInput for times that cannot be read, and Unavailable if the object store is away.
        """
        first, last = to_seconds("start", start), to_seconds("end", end)
        if last <= first:
            raise InvalidInput("end", got=str(end), allowed=f"a time after the start, {start}")
        if last - first > DAYS_MAX * 86_400:
            raise InvalidInput("end", got=f"{(last - first) / 86_400:.0f} days", allowed=f"at most {DAYS_MAX} days")
        asked = {"region": region, "class": job_class, "model": model}
        bounds = (first, last)
        days = days_between(first, last)
        room = asyncio.Semaphore(READS_MAX)
        tables = await asyncio.gather(*(self._read_day(day, bounds, asked, room) for day in days))
        return await asyncio.to_thread(_to_frame, [table for table in tables if len(table)])

    async def minutes_of(self, event: DemandEvent, start: Moment, end: Moment) -> FloatArray:
        """Return the GPU-seconds offered in each minute of [start, end) of what `event` touches, NaN where unknown.

        Raises InvalidInput, and Unavailable if the object store is away.
        """
        first, last = to_seconds("start", start), to_seconds("end", end)
        frame = await self.read(first, last, region=event.region, model=event.model)
        if event.job_classes:
            frame = frame[frame["class"].isin(event.job_classes)]
        totals = frame.groupby("minute")["gpu_s_offered"].sum(min_count=1)
        found = np.full(round((last - first) / 60), np.nan)
        places = (totals.index.to_numpy().astype("datetime64[s]").astype(np.int64) - round(first)) // 60
        found[places] = totals.to_numpy()
        return found

    async def days(self) -> list[date]:
        """Return the days of which something is known. Raises Unavailable."""
        parts = (read_path(path) for path in await self._objects.list(FOLDER))
        return sorted({part.day for part in parts if part is not None})

    async def _read_day(
        self, day: date, bounds: tuple[float, float], asked: dict[str, str | None], room: asyncio.Semaphore
    ) -> pa.Table:
        async with room:
            for _ in range(3):
                parts = [part for path in await self._objects.list(day_folder(day)) if (part := read_path(path))]
                fetched = [(part, await self._objects.get(part.path)) for part in parts]
                if all(data is not None for _, data in fetched):
                    break  # else a compactor merged them just now: the list is old
            found = [(part, data) for part, data in fetched if data is not None]
            return await asyncio.to_thread(_read_parts, found, bounds, asked) if found else READ_SCHEMA.empty_table()


def to_seconds(name: str, at: Moment) -> float:
    """Return Unix seconds. Raises InvalidInput for what is no time in reach."""
    try:
        if isinstance(at, datetime):
            return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
        datetime.fromtimestamp(at, UTC)
        return float(at)
    except (ValueError, OverflowError, OSError, TypeError) as error:
        raise InvalidInput(name, got=str(at), allowed="Unix seconds or a datetime") from error


def sum_demand(frame: pd.DataFrame, by: Sequence[str] = ("minute", "region")) -> pd.DataFrame:
    """Return the totals of what `read` returned, a row for each value of `by`, in its order.

    Counts and work are sums. The pool of a region serves several classes, models and tiers, and each of their rows
    tells its GPUs: replicas are the largest of a region, summed over regions. NaN stays where nothing was known.
    """
    keys = list(by)
    grouped = frame.groupby(keys, observed=True, sort=True)
    totals = grouped[list(ADDITIVE)].sum(min_count=1)
    integers = ["requests", "late", "cold_starts"]
    totals[integers] = totals[integers].fillna(0).astype("int64")
    places = list(dict.fromkeys([*keys, "minute", "region"]))
    pools = frame.groupby(places, observed=True, sort=False)["replicas"].max().reset_index()
    per_minute = pools.groupby(list(dict.fromkeys([*keys, "minute"])), observed=True)["replicas"].sum(min_count=1)
    totals["replicas"] = per_minute.groupby(level=keys, observed=True).mean()
    return totals.reset_index()


def _read_parts(
    found: Sequence[tuple[Part, bytes]], bounds: tuple[float, float], asked: dict[str, str | None]
) -> pa.Table:
    """Return the rows of one day that are asked for, each once."""
    data = {part.path: content for part, content in found}
    live, imported = choose_parts(part for part, _ in found)
    tables = {part.path: _read_part(part, data[part.path], bounds, asked) for part in (*live, *imported)}
    measured = [tables[part.path] for part in live if len(tables[part.path])]
    brought = [tables[part.path] for part in imported if len(tables[part.path])]
    if len(measured) == 1 and not brought:
        return measured[0]  # it was written in order
    rows = fill_in(merge_live(measured), brought)
    return rows.sort_by([(name, "ascending") for name in KEYS]).cast(READ_SCHEMA)


def _read_part(part: Part, data: bytes, bounds: tuple[float, float], asked: dict[str, str | None]) -> pa.Table:
    try:
        table = decode_part(data)
    except ValueError as error:
        log.error("demand_part_unreadable", path=part.path, error=str(error))
        return READ_SCHEMA.empty_table()
    rows, bad = clean_values(_choose_rows(table, bounds, asked))
    if bad:
        log.warning("demand_values_rejected", path=part.path, rows=bad, meaning="negative, infinite or absurd: unknown")
    return rows


def _choose_rows(table: pa.Table, bounds: tuple[float, float], asked: dict[str, str | None]) -> pa.Table:
    kind = table.schema.field("minute").type
    first, last = (pa.scalar(round(at * 1000), pa.int64()).cast(kind) for at in bounds)
    conditions = [pc.equal(table.column(name), value) for name, value in asked.items() if value is not None]
    minutes = table.column("minute")
    extremes = pc.min_max(minutes)
    if len(table) and not (extremes["min"].as_py() >= first.as_py() and extremes["max"].as_py() < last.as_py()):
        conditions += [pc.greater_equal(minutes, first), pc.less(minutes, last)]
    return table.filter(reduce(pc.and_, conditions)) if conditions else table


def _to_frame(tables: Sequence[pa.Table]) -> pd.DataFrame:
    table = pa.concat_tables(tables).unify_dictionaries() if tables else READ_SCHEMA.empty_table()
    columns: dict[str, object] = {}
    for name in COLUMNS:
        column = table.column(name)
        if name == "minute":
            columns[name] = column.cast(pa.int64()).to_numpy().astype("datetime64[ms]").astype("datetime64[s]")
        elif name in NAMES:
            columns[name] = column.combine_chunks().to_pandas()
        elif pa.types.is_integer(column.type):
            columns[name] = pc.fill_null(column, 0).to_numpy()
        else:
            columns[name] = column.to_numpy()
    return pd.DataFrame(columns, columns=list(COLUMNS), copy=False)
