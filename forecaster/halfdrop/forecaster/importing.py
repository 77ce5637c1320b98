"""Demand from elsewhere into the history: rows are checked, cut into days, written as parts beside what was measured.

An import counts where nothing was measured; of two imports of a minute the newer one. So it can be repeated, corrected,
and overlap what is there already.
"""

import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa

from halfdrop.contracts.demand import FINISH
from halfdrop.contracts.demand_events import TIME_MIN_S
from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.jobs import JobClass
from halfdrop.contracts.subjects import LOCAL_REGION
from halfdrop.forecaster.demand_file import TIME_COLUMNS
from halfdrop.forecaster.demand_parts import (
    COLUMNS,
    KEYS,
    SCHEMA,
    VALUE_MAX,
    VALUES,
    day_folder,
    encode_part,
    import_path,
    last_of_each,
    read_path,
)
from halfdrop.forecaster.workload import FloatArray
from halfdrop.runtime.objects import ObjectStore

CHUNK_ROWS = 500_000
ROWS_MAX = 50_000_000
"""Of one import: a year of 95 series. They are held in memory, some 3 GB."""

AHEAD_MAX_S = 86_400.0
"""Rows further in the future than this are a mistake in the times."""

NAME_MAX_CHARS = 64
WORK_COLUMNS = {"gpu_s_offered": 1.0, "gpu_s": 1.0, "gpus": 60.0}
NAME_DEFAULTS = {"region": LOCAL_REGION, "class": "standard", "model": "house", "tier": FINISH}


class ImportedRows(msgspec.Struct, frozen=True, kw_only=True):
    """Some rows, checked."""

    table: pa.Table
    rejected: dict[str, int] = {}
    """Rows that were left out, by what was wrong with them."""


class Imported(msgspec.Struct, kw_only=True):
    """What an import came to."""

    rows: int = 0
    days: int = 0
    series: int = 0
    repeated: int = 0
    """Rows for a minute and series that a later row named again: the last one counts."""

    rejected: dict[str, int] = msgspec.field(default_factory=dict)
    first: str = ""
    last: str = ""
    """First and last minute, ISO 8601."""


async def import_rows(
    objects: ObjectStore, batches: AsyncIterator[ImportedRows], *, now: float
) -> AsyncIterator[tuple[str, Imported]]:
    """Take in all batches, then write a part for each day; yields what was done last, and what it has come to.

    Nothing is written before all is read: a file that turns out to be wrong changes nothing. Raises InvalidInput,
    Unavailable.
    """
    done = Imported()
    tables: list[pa.Table] = []
    async for batch in batches:
        tables.append(batch.table)
        done.rows += len(batch.table)
        for reason, count in batch.rejected.items():
            done.rejected[reason] = done.rejected.get(reason, 0) + count
        if done.rows > ROWS_MAX:
            raise InvalidInput("rows", got=done.rows, allowed=f"at most {ROWS_MAX}: import it in pieces")
        yield "read", done
    table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    if not len(table):
        reasons = ", ".join(f"{count} {reason}" for reason, count in done.rejected.items())
        raise InvalidInput(
            "import", got=f"no row that can be used ({reasons or 'none at all'})", allowed="at least one"
        )
    unique = last_of_each(table)
    done.repeated = len(table) - len(unique)
    done.series = len(unique.group_by(list(KEYS[1:])).aggregate([]))
    unique = unique.sort_by([(name, "ascending") for name in KEYS])
    minutes = unique.column("minute").cast(pa.int64()).to_numpy()
    done.first, done.last = (_iso(minutes[place]) for place in (0, -1))
    days = minutes // 86_400_000
    bounds = np.flatnonzero(np.diff(days)) + 1
    for begin, end in zip([0, *bounds.tolist()], [*bounds.tolist(), len(unique)], strict=True):
        day = datetime.fromtimestamp(int(days[begin]) * 86_400, UTC).date()
        await _write_day(objects, day, unique.slice(begin, end - begin), now)
        done.days += 1
        yield f"written {day.isoformat()}", done


async def _write_day(objects: ObjectStore, day: date, table: pa.Table, now: float) -> None:
    data = encode_part(table)
    digest = hashlib.sha256(data).hexdigest()[:16]
    path = import_path(day, round(now * 1000), digest)
    await objects.put(path, data)
    for other in await objects.list(day_folder(day)):
        part = read_path(other)
        if part is not None and part.made and other != path and other.endswith(f"-{digest}.parquet"):
            await objects.delete(other)  # the same rows, imported before


def read_file(path: Path, *, names: Mapping[str, str], now: float) -> Iterator[ImportedRows]:
    """Yield the rows of a CSV (.csv, .csv.gz) or Parquet file, CHUNK_ROWS at a time.

    names: region, class, model and tier of a file that has no such column. Raises InvalidInput.
    """
    try:
        if path.suffix == ".parquet":
            yield read_frame(pd.read_parquet(path), names=names, now=now)
        else:
            with pd.read_csv(path, chunksize=CHUNK_ROWS) as chunks:
                for frame in chunks:
                    yield read_frame(frame, names=names, now=now)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, pa.ArrowException, UnicodeDecodeError) as error:
        raise InvalidInput("FILE", got=str(path), allowed=f"a CSV or Parquet file ({error})") from error


def read_frame(frame: pd.DataFrame, *, names: Mapping[str, str], now: float) -> ImportedRows:
    """Return the rows that can be used. Raises InvalidInput where a column that is needed is not there."""
    time_column = _find(frame, ("minute", *TIME_COLUMNS), "time")
    work_column = _find(frame, tuple(WORK_COLUMNS), "work")
    seconds = read_times(frame[time_column], time_column)
    work = pd.to_numeric(frame[work_column], errors="coerce").to_numpy(dtype=np.float64) * WORK_COLUMNS[work_column]
    columns: dict[str, object] = {}
    is_named = np.ones(len(frame), dtype=bool)
    for name, default in NAME_DEFAULTS.items():
        values = (
            frame[name].astype(str) if name in frame.columns else pd.Series([names.get(name, default)] * len(frame))
        )
        is_named &= _are_names(name, values).to_numpy()
        columns[name] = values.to_numpy()
    for name in VALUES:
        if name != "gpu_s_offered":
            columns[name] = _read_values(frame, name)
    with np.errstate(invalid="ignore"):
        wrong = {
            "with a time that cannot be": ~((seconds >= TIME_MIN_S) & (seconds <= now + AHEAD_MAX_S)),
            "with a name or class that cannot be": ~is_named,
            "with work that cannot be (negative, absurd, not a number)": ~(
                (work >= 0) & (work <= VALUE_MAX["gpu_s_offered"])
            ),
        }
    is_left_out = np.zeros(len(frame), dtype=bool)
    rejected = {}
    for reason, is_wrong in wrong.items():
        fresh = is_wrong & ~is_left_out
        is_left_out |= is_wrong
        if fresh.any():
            rejected[reason] = int(fresh.sum())
    keep = ~is_left_out
    minutes = (np.nan_to_num(seconds[keep]) // 60 * 60_000).astype(np.int64)
    arrays = {"minute": pa.array(minutes).cast(SCHEMA.field("minute").type), "gpu_s_offered": pa.array(work[keep])}
    for name, column in columns.items():
        arrays[name] = pa.array(np.asarray(column)[keep], from_pandas=True)
    table = pa.table({name: arrays[name] for name in COLUMNS}).cast(SCHEMA)
    return ImportedRows(table=table, rejected=rejected)


def read_times(times: pd.Series, column: str) -> FloatArray:
    """Return Unix seconds, NaN for what is no time. Raises InvalidInput if none of them is one."""
    if pd.api.types.is_datetime64_any_dtype(times):
        seconds = _stamps(times)
    else:
        seconds = pd.to_numeric(times, errors="coerce").to_numpy(dtype=np.float64).copy()
        is_text = np.isnan(seconds)
        if is_text.any() and not pd.api.types.is_numeric_dtype(times):
            seconds[is_text] = _stamps(times[is_text])
    if len(seconds) and np.isnan(seconds).all():
        raise InvalidInput(column, got=str(times.iloc[0]), allowed="ISO 8601 (2026-11-27T08:00:00Z) or Unix seconds")
    return seconds


def _stamps(times: pd.Series) -> FloatArray:
    parsed = pd.to_datetime(times, utc=True, errors="coerce", format="ISO8601")
    stamps = parsed.dt.tz_localize(None).to_numpy().astype("datetime64[ms]")
    return np.where(np.isnat(stamps), np.nan, stamps.astype(np.float64) / 1e3)


def _read_values(frame: pd.DataFrame, name: str) -> np.ndarray:
    """Return a column that need not be there; what cannot be in it is unknown, or none where the column counts."""
    is_count = name in ("requests", "late", "cold_starts")
    empty = np.nan if name in ("gpu_s_served", "replicas") else 0.0
    if name not in frame.columns:
        values = np.full(len(frame), empty)
    else:
        values = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=np.float64)
        with np.errstate(invalid="ignore"):
            values = np.where((values >= 0) & (values <= VALUE_MAX[name]), values, empty)
    return np.rint(values).astype(np.int64) if is_count else values


def _are_names(name: str, values: pd.Series) -> pd.Series:
    if name == "class":
        return values.isin(get_args(JobClass))
    return values.str.len().between(1, NAME_MAX_CHARS) & (values != "nan")


def _find(frame: pd.DataFrame, names: Iterable[str], what: str) -> str:
    for name in names:
        if name in frame.columns:
            return name
    raise InvalidInput(f"{what} column", got=", ".join(map(str, frame.columns))[:70], allowed=" or ".join(names))


def _iso(minute_ms: int) -> str:
    return datetime.fromtimestamp(int(minute_ms) / 1000, UTC).isoformat(timespec="minutes").replace("+00:00", "Z")
