"""A demand series from a CSV or Parquet file: one row a minute, in any order, with gaps. The only file I/O here.

Columns: a time (`t`, `time` or `timestamp`: ISO 8601 or Unix seconds) and the work offered (`gpus`, mean GPUs; or
`gpu_s`, GPU-seconds in that minute). A minute that is missing is a gap, not a zero.
"""

from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.features import clean_demand
from halfdrop.forecaster.workload import MINUTE_S, FloatArray, IntArray

TIME_COLUMNS = ("t", "time", "timestamp")
WORK_COLUMNS = {"gpus": 1.0, "gpu_s": 1.0 / MINUTE_S}
DAYS_MAX = 400
"""A clock that jumped by years would ask for an array of that length."""


class DemandSeries(msgspec.Struct, frozen=True, kw_only=True):
    """Demand in mean GPUs, one value a minute, NaN where nothing is known."""

    start_minute: int
    """Minutes since the epoch of the first value."""

    gpus: FloatArray
    duplicates: int
    """Rows for a minute that an earlier row had named already: the last one counted."""

    rejected: int
    """Rows whose value cannot be a demand (negative, infinite, absurd): gaps now."""

    gaps: int
    """Minutes without a value, those included."""


def read_demand(path: Path) -> DemandSeries:
    """Read a file by its suffix: .parquet, or .csv with or without .gz.

    Raises InvalidInput where a column is missing, a time cannot be read, or the times span over DAYS_MAX days.
    """
    frame = _read_frame(path)
    time_column = _find(frame, TIME_COLUMNS, "time")
    work_column = _find(frame, tuple(WORK_COLUMNS), "work")
    minutes = _read_minutes(frame[time_column], time_column)
    raw = pd.to_numeric(frame[work_column], errors="coerce").to_numpy(dtype=np.float64) * WORK_COLUMNS[work_column]
    values = clean_demand(raw)
    first, last = int(minutes.min()), int(minutes.max())
    if last - first > DAYS_MAX * 1_440:
        raise InvalidInput(time_column, got=f"{(last - first) // 1_440} days", allowed=f"at most {DAYS_MAX} days")
    gpus = np.full(last - first + 1, np.nan)
    gpus[minutes - first] = values
    return DemandSeries(
        start_minute=first,
        gpus=gpus,
        duplicates=len(minutes) - len(np.unique(minutes)),
        rejected=int((np.isnan(values) & ~np.isnan(raw)).sum()),
        gaps=int(np.isnan(gpus).sum()),
    )


def _read_frame(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (ValueError, pd.errors.ParserError) as error:
        raise InvalidInput("history", got=str(path), allowed=f"a CSV or Parquet file ({error})") from error
    if frame.empty:
        raise InvalidInput("history", got="no rows", allowed="one row for each minute")
    return frame


def _find(frame: pd.DataFrame, names: tuple[str, ...], what: str) -> str:
    for name in names:
        if name in frame.columns:
            return name
    raise InvalidInput(f"{what} column", got=", ".join(map(str, frame.columns)), allowed=" or ".join(names))


def _read_minutes(times: pd.Series, column: str) -> IntArray:
    try:
        if pd.api.types.is_numeric_dtype(times):
            stamps = times.to_numpy(dtype=np.float64)
        else:
            stamps = (
                pd.to_datetime(times, utc=True)
                .dt.tz_localize(None)
                .to_numpy()
                .astype("datetime64[ms]")
                .astype(np.float64)
                / 1e3
            )
            stamps[pd.isna(times).to_numpy()] = np.nan
    except (ValueError, TypeError) as error:
        raise InvalidInput(column, got=str(times.iloc[0]), allowed="ISO 8601 or Unix seconds") from error
    if not np.isfinite(stamps).all():
        raise InvalidInput(column, got="an empty time", allowed="ISO 8601 or Unix seconds")
    minutes: IntArray = (stamps // MINUTE_S).astype(np.int64)
    return minutes
