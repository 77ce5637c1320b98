"""What the history answers: sums over members, gaps, late parts, merged parts, imports, and whatever is damaged."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import structlog

from halfdrop.contracts.demand_events import DemandEvent
from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.demand_parts import (
    COLUMNS,
    KEYS,
    SCHEMA,
    choose_parts,
    encode_part,
    import_path,
    live_path,
    read_path,
)
from halfdrop.forecaster.history import DemandHistory, sum_demand
from halfdrop.runtime.objects import ObjectStore, open_objects

DAY = date(2026, 3, 2)
START = datetime(2026, 3, 2, tzinfo=UTC)
END = START + timedelta(days=1)
STREAM = "eu.17f3"


def rows(*given: Mapping[str, Any]) -> pa.Table:
    """`rows({"minute": 5, "requests": 3})`: minutes after START; the rest as an edge and a hub would tell it."""
    usual = {"region": "eu", "class": "standard", "model": "house", "tier": "finish"}
    zeros = {"requests": 0, "gpu_s_offered": 0.0, "gpu_s_served": None, "late": 0, "wait_s_sum": 0.0}
    rest = {"cold_starts": 0, "boot_s_sum": 0.0, "replicas": None}
    full = [usual | zeros | rest | row | {"minute": START + timedelta(minutes=row["minute"])} for row in given]
    return pa.Table.from_pylist(full, schema=SCHEMA)


@pytest.fixture
def objects() -> ObjectStore:
    return open_objects("memory://")


def put(objects: ObjectStore, path: str, table: pa.Table) -> None:
    asyncio.run(objects.put(path, encode_part(table)))


def read(objects: ObjectStore, **asked: Any) -> pd.DataFrame:
    return asyncio.run(DemandHistory(objects).read(START, END, **asked))


def test_a_minute_without_a_row_is_a_gap_and_one_with_a_zero_is_none(objects: ObjectStore) -> None:
    put(objects, live_path(DAY, STREAM, 1, 9), rows({"minute": 0}, {"minute": 2, "requests": 7, "gpu_s_offered": 30.0}))
    frame = read(objects)
    assert list(frame.columns) == list(COLUMNS)
    assert frame["minute"].dtype == "datetime64[s]"
    assert frame["minute"].tolist() == [pd.Timestamp("2026-03-02 00:00"), pd.Timestamp("2026-03-02 00:02")]
    assert frame["requests"].tolist() == [0, 7]
    assert frame["gpu_s_offered"].tolist() == [0.0, 30.0]
    assert frame["replicas"].isna().all()


def test_parts_of_one_minute_are_summed_and_what_nobody_told_stays_unknown(objects: ObjectStore) -> None:
    put(objects, live_path(DAY, STREAM, 1, 9), rows({"minute": 3, "requests": 2, "gpu_s_offered": 8.0}))
    hub = {"minute": 3, "requests": None, "gpu_s_offered": None, "gpu_s_served": 5.0, "replicas": 1.0, "late": 1}
    put(objects, live_path(DAY, STREAM, 10, 12), rows({"minute": 3, "requests": 1}, hub, hub, hub | {"minute": 4}))
    frame = read(objects)
    assert frame["requests"].tolist() == [3, 0]
    assert frame["gpu_s_offered"].tolist()[0] == 8.0
    assert pd.isna(frame["gpu_s_offered"].tolist()[1]), "a minute that no edge told of is no zero"
    assert frame[["gpu_s_served", "replicas", "late"]].to_numpy().tolist() == [[10.0, 2.0, 2], [5.0, 1.0, 1]]


def test_a_part_that_was_merged_into_another_does_not_count_twice(objects: ObjectStore) -> None:
    put(objects, live_path(DAY, STREAM, 1, 4), rows({"minute": 1, "requests": 1}))
    put(objects, live_path(DAY, STREAM, 5, 9), rows({"minute": 1, "requests": 2}))
    put(objects, live_path(DAY, STREAM, 1, 9), rows({"minute": 1, "requests": 3}))
    put(objects, live_path(DAY, STREAM, 10, 11), rows({"minute": 1, "requests": 10}))
    put(objects, live_path(DAY, "us.17f3", 1, 2), rows({"minute": 1, "requests": 5, "region": "us"}))
    assert sum_demand(read(objects))["requests"].tolist() == [13, 5]


def test_imports_fill_gaps_the_newest_first_and_never_replace_what_was_measured(objects: ObjectStore) -> None:
    put(objects, live_path(DAY, STREAM, 1, 4), rows({"minute": 1, "requests": 1}))
    put(objects, import_path(DAY, 100, "aa"), rows(*({"minute": minute, "requests": 50} for minute in (0, 1, 2))))
    put(objects, import_path(DAY, 200, "bb"), rows({"minute": 2, "requests": 60}, {"minute": 2, "requests": 70}))
    assert read(objects)["requests"].tolist() == [50, 1, 70]


def test_what_was_not_asked_for_is_left_out(objects: ObjectStore) -> None:
    other = [{"region": "us"}, {"class": "bulk"}, {"model": "lace"}]
    put(objects, live_path(DAY, STREAM, 1, 4), rows({"minute": 1}, *({"minute": 1} | one for one in other)))
    yesterday = {"minute": -1}
    put(objects, live_path(DAY - timedelta(days=1), STREAM, 1, 4), rows(yesterday))
    assert len(read(objects)) == 4
    frame = read(objects, region="eu", job_class="standard", model="house")
    assert frame[["region", "class", "model"]].to_numpy().tolist() == [["eu", "standard", "house"]]
    nothing = read(objects, region="mars")
    assert nothing.empty
    assert list(nothing.columns) == list(COLUMNS)


def test_damaged_files_and_values_that_cannot_be_are_logged_and_the_rest_is_answered(objects: ObjectStore) -> None:
    asyncio.run(objects.put(live_path(DAY, STREAM, 1, 4), b"PAR1 no more"))
    asyncio.run(objects.put("demand/day=2026-03-02/notes.txt", b"hello"))
    asyncio.run(objects.put("demand/day=2026-13-99/part-x.parquet", b""))
    values = [-1.0, float("inf"), float("nan"), 1e12, 4.0]
    table = rows(*({"minute": place, "gpu_s_offered": value} for place, value in enumerate(values)))
    put(objects, live_path(DAY, STREAM, 5, 6), table)
    with structlog.testing.capture_logs() as logs:
        frame = read(objects)
    assert frame["gpu_s_offered"].isna().tolist() == [True, True, True, True, False]
    assert [line["event"] for line in logs] == ["demand_part_unreadable", "demand_values_rejected"]
    assert logs[1]["rows"] == 4


def test_a_file_of_ones_own_in_the_folder_counts_with_the_columns_it_has(objects: ObjectStore) -> None:
    own = rows({"minute": 5, "gpu_s_offered": 12.0}).select([*KEYS, "gpu_s_offered"])
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(own, sink)
    asyncio.run(objects.put("demand/day=2026-03-02/part-0.parquet", sink.getvalue().to_pybytes()))
    assert read(objects)[["gpu_s_offered", "late"]].to_numpy().tolist() == [[12.0, 0.0]]


@pytest.mark.parametrize(
    ("start", "end"), [(END, START), (START, START), (START, START + timedelta(days=801)), (float("nan"), END)]
)
def test_times_that_cannot_be_are_refused(objects: ObjectStore, start: Any, end: Any) -> None:
    with pytest.raises(InvalidInput):
        asyncio.run(DemandHistory(objects).read(start, end))


def test_totals_count_a_pool_once_however_many_classes_it_serves(objects: ObjectStore) -> None:
    pool = {"minute": 1, "replicas": 3.0, "gpu_s_offered": 1.0}
    both = [pool | {"class": "bulk"}, pool | {"tier": "sample"}, pool | {"region": "us", "replicas": 2.0}]
    put(objects, live_path(DAY, STREAM, 1, 4), rows(*both, {"minute": 2, "replicas": None}))
    frame = read(objects)
    total = sum_demand(frame, ("minute",))
    assert total["gpu_s_offered"].tolist() == [3.0, 0.0]
    assert total["replicas"].tolist()[0] == 5.0
    assert pd.isna(total["replicas"].tolist()[1])
    assert sum_demand(frame, ("region",))["replicas"].tolist() == [3.0, 2.0]


def test_paths_say_what_they_hold() -> None:
    part = read_path(live_path(DAY, "eu-west.17f3", 3, 70))
    assert part is not None
    assert (part.day, part.stream, part.first, part.last) == (DAY, "eu-west.17f3", 3, 70)
    live, imported = choose_parts([part])
    assert (live, imported) == ([part], [])
    assert read_path("demand/state/eu.17f3.json") is None


async def test_the_minutes_of_an_event_are_those_of_what_it_touches(objects: ObjectStore) -> None:
    told = [
        {"minute": 1},
        {"minute": 1, "class": "bulk"},
        {"minute": 1, "region": "us"},
        {"minute": 3, "class": "bulk"},
    ]
    await objects.put(live_path(DAY, STREAM, 1, 4), encode_part(rows(*(row | {"gpu_s_offered": 5.0} for row in told))))
    event = DemandEvent(
        id="sale",
        name="Sale",
        start=START.timestamp(),
        end=END.timestamp(),
        region="eu",
        uplift=2.0,
        job_classes=("bulk",),
    )
    history = DemandHistory(objects)
    minutes = await history.minutes_of(event, START, START + timedelta(minutes=4))
    assert np.nan_to_num(minutes, nan=-1.0).tolist() == [-1.0, 5.0, -1.0, 5.0]
    everywhere = DemandEvent(id="sale", name="Sale", start=START.timestamp(), end=END.timestamp(), uplift=2.0)
    minutes = await history.minutes_of(everywhere, START, START + timedelta(minutes=4))
    assert minutes[1] == 15.0
