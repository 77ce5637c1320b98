"""One's own weeks from a file, without a cluster: CSV or Parquet, in the agreed form or as plain as a time and a value.

Agreed form: a row for each minute and series (`minute`, `region`, `class`, `model`, `gpu_s_offered` and the rest of
history.py's columns). Plain form: what demand_file.py reads, which is one series. The file may grow: it is read again
when it changes.
"""

from pathlib import Path

import pandas as pd

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.subjects import LOCAL_REGION
from halfdrop.forecaster.demand_file import TIME_COLUMNS, read_demand
from halfdrop.forecaster.workload import MINUTE_S

PLAIN_CLASS = PLAIN_MODEL = "all"
FILE_MAX_BYTES = 2 * 1024**3


def read_history(path: Path) -> pd.DataFrame:
    """Return the file's rows in the agreed form. Raises InvalidInput, which says what is wrong with the file."""
    if not path.is_file():
        raise InvalidInput("--history", got=str(path), allowed="a file that is there: .csv, .csv.gz or .parquet")
    if path.stat().st_size > FILE_MAX_BYTES:
        raise InvalidInput("--history", got=f"{path.stat().st_size} bytes", allowed=f"at most {FILE_MAX_BYTES}")
    names = _column_names(path)
    if "gpu_s_offered" not in names:
        return _read_plain(path)
    frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    time_column = next((name for name in ("minute", *TIME_COLUMNS) if name in names), None)
    if time_column is None:
        raise InvalidInput("history", got=", ".join(names), allowed="a column minute, t, time or timestamp as well")
    try:
        frame["minute"] = _read_times(frame[time_column])
    except (ValueError, TypeError) as error:
        got = str(frame[time_column].iloc[0]) if len(frame) else "no rows"
        raise InvalidInput(time_column, got=got, allowed="ISO 8601 or Unix seconds") from error
    for name, default in (("region", LOCAL_REGION), ("class", PLAIN_CLASS), ("model", PLAIN_MODEL)):
        if name not in names:
            frame[name] = default
    texts = ("minute", "region", "class", "model", "tier", time_column)
    numbers = [name for name in names if name in frame.columns and name not in texts]
    frame[numbers] = frame[numbers].apply(pd.to_numeric, errors="coerce")
    return frame


def _column_names(path: Path) -> list[str]:
    try:
        if path.suffix == ".parquet":
            from pyarrow import parquet  # noqa: PLC0415  what pandas reads with, here for the names alone

            return list(parquet.read_schema(path).names)
        return [str(name) for name in pd.read_csv(path, nrows=0).columns]
    except (ValueError, OSError, pd.errors.ParserError) as error:
        allowed = f"a CSV or Parquet file with a row for each minute ({error})"
        raise InvalidInput("--history", got=str(path), allowed=allowed) from error


def _read_plain(path: Path) -> pd.DataFrame:
    demand = read_demand(path)
    minutes = pd.Series(range(demand.start_minute, demand.start_minute + len(demand.gpus))) * MINUTE_S
    frame = pd.DataFrame({"minute": pd.to_datetime(minutes, unit="s"), "gpu_s_offered": demand.gpus * MINUTE_S})
    frame["region"], frame["class"], frame["model"] = LOCAL_REGION, PLAIN_CLASS, PLAIN_MODEL
    return frame.dropna(subset=["gpu_s_offered"])


def _read_times(times: "pd.Series") -> "pd.Series":
    if pd.api.types.is_numeric_dtype(times):
        return pd.to_datetime(times, unit="s")
    return pd.to_datetime(times, utc=True, format="ISO8601").dt.tz_localize(None)
