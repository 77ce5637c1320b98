"""The demand history: a month of a hundred series read with pandas; what counting and compacting cost.

    python bench/history.py [--days 30] [--series 100] [--members 20]

Writes days as the compactor leaves them (one part each, the last one in 20 parts of a few rows and one merged) into a
folder, and reads them with `DemandHistory.read`: everything, one series, the totals of each region. `counting_us` is
one order counted by a member, `rows_per_cpu_s` what a compactor makes of reports, from bytes to Parquet.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from measuring import report, resident_mib

from halfdrop.contracts.demand import DemandReport, DemandRow, SeriesName, encode_report
from halfdrop.forecaster.demand_parts import SCHEMA, encode_part, live_path
from halfdrop.forecaster.demand_rows import Position, Stored, read_batch
from halfdrop.forecaster.history import DemandHistory, sum_demand
from halfdrop.runtime.demand import DemandCounter
from halfdrop.runtime.objects import ObjectStore, open_objects

START = date(2026, 10, 1)
MINUTES = 1_440
STREAM = "eu.19a00000"


def series_names(count: int) -> list[SeriesName]:
    """Two regions, three classes, as many models as it takes."""
    classes = ("realtime", "standard", "bulk")
    return [SeriesName(("eu", "us")[n % 2], classes[n // 2 % 3], f"model-{n // 6}", "finish") for n in range(count)]  # type: ignore[arg-type]


def make_day(day: date, names: list[SeriesName], dice: np.random.Generator) -> pa.Table:
    """Return a day of every series, of a daily rhythm with noise."""
    begin = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000
    minutes = np.repeat(np.arange(MINUTES), len(names))
    which = np.tile(np.arange(len(names)), MINUTES)
    rate = (1 + np.sin(minutes / MINUTES * 2 * np.pi)) * (1 + which % 7)
    requests = dice.poisson(rate)
    work = requests * dice.lognormal(3.0, 0.3, len(requests))
    fields = ("region", "class", "model", "tier")
    labels = {
        field: np.array([name[place] for name in names], dtype=object)[which] for place, field in enumerate(fields)
    }
    columns = {
        "minute": pa.array(begin + minutes * 60_000).cast(SCHEMA.field("minute").type),
        **{name: pa.array(values) for name, values in labels.items()},
        "requests": pa.array(requests),
        "gpu_s_offered": pa.array(work),
        "gpu_s_served": pa.array(work * 0.9),
        "late": pa.array(dice.binomial(requests, 0.01)),
        "wait_s_sum": pa.array(requests * 1.5),
        "cold_starts": pa.array((dice.random(len(requests)) < 0.001).astype(np.int64)),
        "boot_s_sum": pa.array(np.zeros(len(requests))),
        "replicas": pa.array(np.full(len(requests), 30.0)),
    }
    return pa.table({name: columns[name] for name in SCHEMA.names}).cast(SCHEMA)


async def write_history(objects: ObjectStore, names: list[SeriesName], days: int) -> int:
    """Write the days and return their bytes."""
    dice = np.random.default_rng(7)
    size = 0
    for number in range(days):
        day = START + timedelta(days=number)
        table = make_day(day, names, dice)
        cut = len(table) if number < days - 1 else len(table) - 20 * len(names)
        pieces = [(0, cut), *((at, at + len(names)) for at in range(cut, len(table), len(names)))]
        for place, (begin, end) in enumerate(pieces):
            data = encode_part(table.slice(begin, end - begin))
            size += len(data)
            await objects.put(live_path(day, STREAM, number * 100 + place + 1, number * 100 + place + 1), data)
    return size


def make_messages(names: list[SeriesName], members: int, minutes: int) -> Iterator[Stored]:
    """Yield reports of all series by every member, minute by minute, as the stream holds them."""
    sequence = 0
    minute = 29_000_000
    for number in range(minutes):
        for member in range(members):
            sequence += 1
            rows = tuple(DemandRow(**name._asdict(), requests=3, gpu_s_offered=61.5) for name in names)
            told = DemandReport(member=f"edge-{member}", run="r", number=number + 1, minute=minute + number, rows=rows)
            yield Stored(sequence=sequence, stored_at=(minute + number + 1) * 60.0, data=encode_report(told))


def measure_counting(names: list[SeriesName]) -> float:
    """Return the microseconds of counting one order."""
    counter = DemandCounter("edge-1", blank={"requests": 0, "gpu_s_offered": 0.0})
    rounds = 20_000
    began = time.process_time()
    for place in range(rounds):
        counter.add(names[place % len(names)], requests=1, gpu_s_offered=2.0)
    return (time.process_time() - began) / rounds * 1e6


def measure_compacting(names: list[SeriesName], members: int) -> dict[str, float]:
    """Return what reports of five minutes cost, from bytes to Parquet."""
    messages = list(make_messages(names, members, 5))
    size = sum(len(message.data) for message in messages)
    began = time.process_time()
    batch = read_batch(messages, Position(stream=STREAM), now=time.time())
    data = [encode_part(table) for table in batch.tables.values()]
    spent_s = time.process_time() - began
    rows = len(messages) * len(names)
    assert batch.reports == len(messages)
    return {
        "rows_per_cpu_s": round(rows / spent_s),
        "report_bytes_per_series": round(size / rows, 1),
        "part_kb": round(sum(map(len, data)) / 1e3, 1),
    }


async def measure_reading(objects: ObjectStore, days: int) -> tuple[dict[str, float], pd.DataFrame]:
    """Return what reading all of it costs, and the frame."""
    history = DemandHistory(objects)
    begin = datetime(START.year, START.month, START.day, tzinfo=UTC)
    end = begin + timedelta(days=days)
    figures: dict[str, float] = {}
    began, spent = time.perf_counter(), time.process_time()
    frame = await history.read(begin, end)
    figures["read_s"] = round(time.perf_counter() - began, 2)
    figures["read_cpu_s"] = round(time.process_time() - spent, 2)
    began, spent = time.perf_counter(), time.process_time()
    one = await history.read(begin, end, region="eu", job_class="standard", model="model-0")
    figures["read_one_series_s"] = round(time.perf_counter() - began, 2)
    figures["read_one_series_cpu_s"] = round(time.process_time() - spent, 2)
    assert len(one) == days * MINUTES
    began = time.process_time()
    totals = sum_demand(frame, ("minute", "region"))
    figures["totals_cpu_s"] = round(time.process_time() - began, 2)
    assert len(totals) == 2 * days * MINUTES
    return figures, frame


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--series", type=int, default=100)
    parser.add_argument("--members", type=int, default=20)
    given = parser.parse_args()
    names = series_names(given.series)
    with tempfile.TemporaryDirectory() as folder:
        objects = open_objects(Path(folder).as_uri())
        size = asyncio.run(write_history(objects, names, given.days))
        before_mib = resident_mib(os.getpid())
        figures, frame = asyncio.run(measure_reading(objects, given.days))
        assert len(frame) == given.days * MINUTES * given.series
    report(
        "history",
        {
            "rows": len(frame),
            "disk_mb": round(size / 1e6, 1),
            "frame_mb": round(frame.memory_usage(deep=True).sum() / 1e6, 1),
            "rss_added_mb": round(resident_mib(os.getpid()) - before_mib, 1),
            **figures,
            "counting_us": round(measure_counting(names), 2),
            **measure_compacting(names, given.members),
        },
    )


if __name__ == "__main__":
    main()
