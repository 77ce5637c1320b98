"""The recorded traces as workloads: read, scaled to one mean load, cut into a history and a window to judge.

Every counted trace is brought to a mean of 28 GPUs in its window. Counts per bucket become a rate, linear between the
middles of buckets, and jobs are drawn from it. The Stable Diffusion trace keeps its own requests and seconds, 50 copies
of each, every copy displaced by up to 15 minutes: a platform fifty times as large, 21 GPUs on average.
"""

import csv
import gzip
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from halfdrop.forecaster.workload import DAY_S, MINUTE_S, FloatArray, Workload, draw_jobs, make_workload

MEAN_GPUS = 28.0
WINDOW_DAYS = 7
SHORTEST_WINDOW_DAYS = 4
WARM_DAYS = 2
COPIES = 50
JITTER_S = 900
SEED = 20261127
DAY_MINUTES = 1_440


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """A window to serve, and the demand before it (mean GPUs per minute, NaN where nothing was recorded)."""

    name: str
    history: FloatArray
    workload: Workload
    gaps: FloatArray
    """Demand as recorded in the window: what `workload` offers, with NaN where the recording has a gap."""


def read_rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", newline="") as file:
        return list(csv.DictReader(file))


def read_minute(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) // MINUTE_S


def load_traces(folder: Path, *, weeks_back: int = 0) -> list[Trace]:
    """Return every trace of the folder that is long enough to hold a history and a window.

    weeks_back: serve the week so many before the last one; what came later is not looked at.
    """
    found = [stable_diffusion(folder / "genai_sd_requests.csv.gz", weeks_back=weeks_back)]
    for name, file, columns, bucket in (
        ("servegen", "servegen_m_small_10min.csv.gz", ("rate",), 10),
        ("worldcup98", "worldcup98_1min.csv.gz", ("count",), 1),
        ("nasa95", "nasa95_1min.csv.gz", ("count",), 1),
        ("elb", "nab_elb_5min.csv.gz", ("count",), 5),
        ("tweets", "nab_tweets_5min.csv.gz", ("AAPL", "AMZN", "FB", "GOOG"), 5),
        ("taxi", "nab_nyctaxi_30min.csv.gz", ("count",), 30),
    ):
        found.append(counted(name, folder / file, columns, bucket, weeks_back=weeks_back))
    return [trace for trace in found if trace is not None]


def stable_diffusion(path: Path, *, weeks_back: int = 0) -> Trace | None:
    """Superpose copies of the recorded requests; failed and pending ones count with the seconds they took."""
    rows = [row for row in read_rows(path) if row["exec_time_seconds"]]
    stamps = [int(datetime.fromisoformat(row["gmt_create"]).replace(tzinfo=UTC).timestamp()) for row in rows]
    first = min(stamps) // DAY_S * DAY_S
    seconds = np.array([float(row["exec_time_seconds"]) for row in rows])
    dice = np.random.default_rng(SEED)
    at = np.repeat(np.array(stamps) - first, COPIES) + dice.integers(-JITTER_S, JITTER_S + 1, len(rows) * COPIES)
    work = np.repeat(seconds, COPIES)
    length = int(at.max()) // DAY_S * DAY_S
    begin, length = find_window(length // DAY_S, weeks_back)
    if not length:
        return None
    begin, length = begin * DAY_S, length * DAY_S
    whole = make_workload(at, work, length_s=length, start_minute=first // MINUTE_S)
    return _cut("stable_diffusion", whole, begin // MINUTE_S, np.zeros(length // MINUTE_S))


def find_window(days: int, weeks_back: int) -> tuple[int, int]:
    """Return the days from which and to which a trace is served; at least WARM_DAYS come before. Both 0: too short."""
    end = days - weeks_back * WINDOW_DAYS
    begin = max(end - WINDOW_DAYS, WARM_DAYS)
    return (begin, end) if end - begin >= SHORTEST_WINDOW_DAYS else (0, 0)


def counted(name: str, path: Path, columns: tuple[str, ...], bucket: int, *, weeks_back: int = 0) -> Trace | None:
    """Turn a count per bucket into jobs. A bucket that is missing, or recorded as a drop-out, is a gap."""
    rows = read_rows(path)
    if "t_s" in rows[0]:
        minutes = np.array([int(row["t_s"]) // MINUTE_S for row in rows])
    else:
        stamp = "t" if "t" in rows[0] else next(iter(rows[0]))
        minutes = np.array([read_minute(row[stamp]) for row in rows])
    values = np.array([sum(float(row[column] or "nan") for column in columns) for row in rows])
    if name == "servegen":
        values[values == 0] = np.nan
    first = int(minutes.min()) // DAY_MINUTES * DAY_MINUTES
    minutes -= first
    length = int(minutes.max() + bucket) // DAY_MINUTES * DAY_MINUTES
    slots = length // bucket
    per_bucket = np.full(slots, np.nan)
    inside = minutes // bucket < slots
    per_bucket[minutes[inside] // bucket] = values[inside]
    middles = np.arange(slots) * bucket + (bucket - 1) / 2
    is_known = ~np.isnan(per_bucket)
    rate = np.interp(np.arange(length), middles[is_known], per_bucket[is_known])
    gap = np.where(np.repeat(is_known, bucket), 0.0, np.nan)
    rate = np.where(np.isnan(gap), 0.0, rate)
    first_day, last_day = find_window(length // DAY_MINUTES, weeks_back)
    if not last_day:
        return None
    begin, length = first_day * DAY_MINUTES, last_day * DAY_MINUTES
    rate, gap = rate[:length], gap[:length]
    gpus = rate * MEAN_GPUS / rate[begin:].mean()
    return _cut(name, draw_jobs(gpus, seed=SEED, start_minute=first), begin, gap)


def drawn() -> Trace:
    """Draw two days of history and one to serve, with a daily season: for a machine without recorded traces."""
    minute = np.arange(3 * DAY_MINUTES)
    gpus = MEAN_GPUS * (1 - 0.7 * np.cos(minute * 2 * np.pi / DAY_MINUTES))
    return _cut("drawn", draw_jobs(gpus, seed=SEED), 2 * DAY_MINUTES, np.zeros(len(minute)))


def _cut(name: str, whole: Workload, begin: int, gap: FloatArray) -> Trace:
    demand = whole.work_per_minute() + gap
    window = make_workload(
        whole.arrivals_s - begin * MINUTE_S,
        whole.service_s,
        length_s=whole.length_s - begin * MINUTE_S,
        start_minute=whole.start_minute + begin,
    )
    return Trace(name=name, history=demand[:begin], workload=window, gaps=demand[begin:])
