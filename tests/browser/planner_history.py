"""A history for the planner's tests and pictures, made from a seed: python tests/browser/planner_history.py FILE

Two regions with their own nights, two classes, three models; weekends, a drop each Thursday evening, batch clients on
the half-hour, a gap of an hour. The GPUs that there were follow the demand of a quarter of an hour before, so that
steep rises have late jobs: what the page is for.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

DAY = 1440
SERIES = (
    ("eu", "realtime", "house", 9.0, 19.0),
    ("eu", "standard", "house", 5.0, 15.0),
    ("eu", "bulk", "paisley-xl", 4.0, 2.0),
    ("us", "realtime", "house", 7.0, 1.0),
    ("us", "standard", "linen-xl", 3.0, 21.0),
)
"""Region, class, model, mean GPUs, and the hour (UTC) in which most comes."""

SERVICE_S = 20.0
LAG_MINUTES = 15
SPARE = 1.3


def make_history(*, days: int, end: datetime, seed: int = 5) -> pd.DataFrame:
    """Return `days` of minutes up to `end`, in the agreed form."""
    last = int(end.timestamp()) // 60
    minutes = np.arange(last - days * DAY, last)
    dice = np.random.default_rng(seed)
    frames = [_series(minutes, dice, row) for row in SERIES]
    frame = pd.concat(frames, ignore_index=True)
    for region in ("eu", "us"):
        is_here = (frame["region"] == region).to_numpy()
        work = frame[is_here].groupby("minute")["gpu_s_offered"].sum().sort_index() / 60
        _serve(frame, is_here, work.to_numpy(), minutes)
    gap = minutes[-9 * DAY : -9 * DAY + 60] if days > 10 else minutes[:0]
    frame = frame[~frame["minute"].isin(gap)]
    frame["minute"] = pd.to_datetime(frame["minute"] * 60, unit="s")
    return frame


def _series(minutes: np.ndarray, dice: np.random.Generator, row: tuple[str, str, str, float, float]) -> pd.DataFrame:
    region, job_class, model, mean, hour = row
    of_day = minutes % DAY / DAY
    wave = np.exp(1.5 * np.cos(2 * np.pi * (of_day - hour / 24)))
    day = minutes // DAY
    weekday = (day + 3) % 7  # the epoch began on a Thursday
    shape = wave * np.where(weekday >= 5, 0.55, 1.0) * (1 + 0.0015 * (day - day[0]))
    if job_class == "realtime":
        since = minutes % DAY - 18 * 60
        shape = shape + np.where((weekday == 3) & (since >= 0), 2.2 * np.exp(-np.maximum(since, 0) / 70), 0.0)
    if job_class == "bulk":
        shape = shape * np.where(minutes % 30 < 6, 2.6, 0.6)
    drift = np.exp(0.12 * np.cumsum(dice.normal(0, 0.03, len(minutes))) * 0.3)
    rate = mean * shape / shape.mean() * drift
    jobs = dice.poisson(rate * 60 / SERVICE_S)
    work = np.array(jobs * SERVICE_S * dice.gamma(60, 1 / 60, len(jobs)))
    return pd.DataFrame(
        {
            "minute": minutes, "region": region, "class": job_class, "model": model, "requests": jobs,
            "gpu_s_offered": work.round(1),
        }
    )  # fmt: skip


def _serve(frame: pd.DataFrame, is_here: np.ndarray, work: np.ndarray, minutes: np.ndarray) -> None:
    """Fill in what a lagging autoscaler made of it."""
    smooth = pd.Series(work).rolling(10, min_periods=1).mean().to_numpy()
    lagged = np.concatenate([np.full(LAG_MINUTES, smooth[0]), smooth[:-LAG_MINUTES]])
    replicas = np.ceil(pd.Series(lagged * SPARE).rolling(20, min_periods=1).max().to_numpy()) + 1
    short = np.clip((work - replicas) / np.maximum(work, 1e-9), 0, 1)
    boots = np.maximum(np.diff(replicas, prepend=replicas[0]), 0)
    rows = np.flatnonzero(is_here)
    place = frame.loc[rows, "minute"].to_numpy() - minutes[0]
    requests = frame.loc[rows, "requests"].to_numpy()
    frame.loc[rows, "replicas"] = replicas[place]
    frame.loc[rows, "late"] = np.rint(requests * short[place])
    frame.loc[rows, "wait_s_sum"] = (requests * short[place] * 25).round(1)
    frame.loc[rows, "gpu_s_served"] = (frame.loc[rows, "gpu_s_offered"] * (1 - short[place])).round(1)
    is_first = np.concatenate([[True], np.diff(place) < 0]).cumsum() == 1
    frame.loc[rows, "cold_starts"] = np.where(is_first, boots[place], 0)
    frame.loc[rows, "boot_s_sum"] = np.where(is_first, boots[place] * (270 + 150 * (place % 7) / 6), 0)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 92
    made = make_history(days=count, end=datetime(2026, 11, 19, 18, 40, tzinfo=UTC))
    made.to_parquet(target, index=False)
    print(f"{len(made)} rows")  # noqa: T201
