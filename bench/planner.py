"""What the planner costs: a minute of a series in a shard, and ninety days of many series as a page asks for them.

CPU seconds of this process, one thread: shards do the same in processes of their own. Demand is drawn from a seed.

    python bench/planner.py [--series 24] [--minutes 30] [--wide 200]
"""

import argparse
import time

import numpy as np
import pandas as pd
from measuring import percentile, report

from halfdrop.forecaster.service.buckets import choose_buckets
from halfdrop.forecaster.service.forecasting import JUDGED_HORIZON, POOL_HORIZONS, SERIES_HORIZONS
from halfdrop.forecaster.service.series import OFFERED, Choice, DemandTable
from halfdrop.forecaster.service.shards import NodeMinutes, extend_nodes

DAY = 1440
START = 29_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=24, help="series that are forecast")
    parser.add_argument("--minutes", type=int, default=30, help="minutes that come one by one")
    parser.add_argument("--wide", type=int, default=200, help="series that are added up for the page")
    options = parser.parse_args()
    single, learn = minute_cost(options.series, options.minutes, SERIES_HORIZONS)
    pool, pool_learn = minute_cost(2, options.minutes, POOL_HORIZONS)
    first_s, again_s, points = page_cost(options.wide)
    report(
        "planner",
        {
            "cpu_ms_per_series_minute": round(single, 3),
            "series_per_core_minute": int(60_000 / single),
            "cpu_ms_per_pool_minute": round(pool, 3),
            "learn_cpu_s_per_series_day": round(learn, 3),
            "learn_cpu_s_per_pool_day": round(pool_learn, 3),
            "page_90_days_first_cpu_s": round(first_s, 3),
            "page_90_days_cpu_ms": round(again_s * 1e3, 2),
            "page_points": points,
            "page_series": options.wide,
        },
    )


def minute_cost(count: int, minutes: int, horizons: tuple[int, ...]) -> tuple[float, float]:
    """Return CPU milliseconds for a minute of one series (median), and CPU seconds for a day that is learnt."""
    demand = draw(count, DAY + minutes)

    def lessons(begin: int, end: int) -> list[NodeMinutes]:
        return [
            NodeMinutes(
                node=1000 * len(horizons) + number,
                start_minute=START + begin,
                gpus=demand[number, begin:end],
                horizons=horizons,
                judged_horizon=JUDGED_HORIZON,
                is_first=begin == 0,
            )
            for number in range(count)
        ]

    began = time.process_time()
    extend_nodes(lessons(0, DAY))
    learn = (time.process_time() - began) / count
    costs = []
    for minute in range(DAY, DAY + minutes):
        batch = lessons(minute, minute + 1)
        began = time.process_time()
        extend_nodes(batch)
        costs.append((time.process_time() - began) * 1e3 / count)
    return percentile(costs, 0.5), learn


def page_cost(count: int) -> tuple[float, float, int]:
    """Return CPU seconds of ninety days of all series together, the first time and from then on, and the points."""
    table = DemandTable()
    minutes = 90 * DAY
    times = pd.to_datetime((START + np.arange(minutes)) * 60, unit="s")
    for number in range(count):
        values = draw(1, minutes, seed=number)[0] * 60
        frame = pd.DataFrame({"minute": times, "gpu_s_offered": values, "requests": np.rint(values / 20)})
        names = {"region": f"r{number % 4}", "class": "standard", "model": f"m{number}"}
        table.add(frame.assign(**names), minute_max=START + minutes)
    found, costs = 0, []
    for _ in range(4):
        began = time.process_time()
        buckets = choose_buckets(START, START + minutes, points=1200)
        seen = table.read(Choice(), buckets.first, buckets.end)[:, OFFERED]
        found = len([buckets.mean(seen), buckets.low(seen), buckets.high(seen)][0])
        costs.append(time.process_time() - began)
    return costs[0], percentile(costs[1:], 0.5), found


def draw(count: int, minutes: int, *, seed: int = 1) -> np.ndarray:
    dice = np.random.default_rng(seed)
    season = 6 * (1 + 0.7 * np.sin(2 * np.pi * np.arange(minutes) / DAY))
    return np.maximum(season + dice.normal(0, 1, (count, minutes)), 0)


if __name__ == "__main__":
    main()
