"""Imports: what a row may look like, what is left out and told of, and that repeating changes nothing."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.history import DemandHistory
from halfdrop.forecaster.importing import Imported, ImportedRows, import_rows, read_file, read_frame
from halfdrop.runtime.objects import ObjectStore, open_objects

NOW = datetime(2026, 3, 10, tzinfo=UTC).timestamp()
NAMES = {"region": "eu", "class": "bulk", "model": "lace", "tier": "sample"}


@pytest.fixture
def objects() -> ObjectStore:
    return open_objects("memory://")


def bring_in(objects: ObjectStore, path: Path, now: float = NOW) -> Imported:
    async def each() -> AsyncIterator[ImportedRows]:
        for rows in read_file(path, names=NAMES, now=now):
            yield rows

    async def run() -> Imported:
        done = Imported()
        async for _, so_far in import_rows(objects, each(), now=now):
            done = so_far
        return done

    return asyncio.run(run())


def read(objects: ObjectStore) -> pd.DataFrame:
    return asyncio.run(DemandHistory(objects).read(NOW - 8 * 86_400, NOW + 86_400))


def test_a_plain_file_takes_the_names_that_it_does_not_tell(objects: ObjectStore, tmp_path: Path) -> None:
    path = tmp_path / "plain.csv"
    path.write_text("time,gpus\n2026-03-08T23:59:30Z,2\n2026-03-09T00:00:10+00:00,0\n2026-03-09T02:02:00+02:00,0.5\n")
    done = bring_in(objects, path)
    frame = read(objects)
    assert (done.rows, done.days, done.series, done.first, done.last) == (
        3,
        2,
        1,
        "2026-03-08T23:59Z",
        "2026-03-09T00:02Z",
    )
    assert frame["gpu_s_offered"].tolist() == [120.0, 0.0, 30.0]
    assert frame[["region", "class", "model", "tier"]].iloc[0].tolist() == ["eu", "bulk", "lace", "sample"]


def test_what_cannot_be_is_left_out_and_told_of(objects: ObjectStore, tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    good = NOW - 3_600
    rows = [
        (good, 5.0, "eu", "bulk"), (good, 6.0, "eu", "bulk"), (good + 60, -1, "eu", "bulk"),
        (good + 120, "inf", "eu", "bulk"), (good + 180, "many", "eu", "bulk"), (good + 240, 1e12, "eu", "bulk"),
        ("soon", 1, "eu", "bulk"), (NOW + 200_000, 1, "eu", "bulk"), (-5, 1, "eu", "bulk"),
        (good + 300, 1, "eu", "fast"), (good + 360, 1, "x" * 65, "bulk"), (good + 420, 1, "", "bulk"),
    ]  # fmt: skip
    path.write_text("t,gpu_s,region,class\n" + "".join(f"{','.join(map(str, row))}\n" for row in rows))
    done = bring_in(objects, path)
    assert (done.rows, done.repeated) == (2, 1)
    assert sorted(done.rejected.values()) == [3, 3, 4]
    assert read(objects)["gpu_s_offered"].tolist() == [6.0], "of two rows of a minute the last one counts"


def test_repeating_changes_nothing_and_a_correction_counts(objects: ObjectStore, tmp_path: Path) -> None:
    path = tmp_path / "demand.csv"
    path.write_text(f"t,gpu_s\n{NOW - 120},1\n{NOW - 60},2\n")
    bring_in(objects, path)
    bring_in(objects, path, NOW + 1)
    assert len(asyncio.run(objects.list("demand"))) == 1
    path.write_text(f"t,gpu_s\n{NOW - 60},9\n")
    bring_in(objects, path, NOW + 2)
    assert read(objects)["gpu_s_offered"].tolist() == [1.0, 9.0]


def test_an_export_is_read_back_as_it_was(objects: ObjectStore, tmp_path: Path) -> None:
    path = tmp_path / "all.parquet"
    pd.DataFrame(
        {"t": [NOW - 60], "gpu_s": [7.5], "requests": [3], "late": [1], "gpu_s_served": [5.0], "region": ["us"]}
    ).to_parquet(path)
    bring_in(objects, path)
    frame = read(objects)
    for name in ("again.csv", "again.csv.gz", "again.parquet"):
        again, store = tmp_path / name, open_objects("memory://")
        frame.to_parquet(again) if name.endswith("parquet") else frame.to_csv(again, index=False)
        bring_in(store, again)
        pd.testing.assert_frame_equal(read(store), frame)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "", "a CSV or Parquet file"),
        ("b.csv", "when,gpus\n1,2\n", "minute or t or time"),
        ("c.csv", "t,load\n1,2\n", "gpu_s_offered or gpu_s or gpus"),
        ("d.csv", "t,gpus\nsoon,2\n", "ISO 8601"),
        ("e.csv", "t,gpus\n1,2\n", "no row that can be used"),
        ("f.csv", "t,gpus\n", "no row that can be used"),
        ("g.parquet", "no parquet", "a CSV or Parquet file"),
    ],
)
def test_a_file_that_is_none_is_refused_and_changes_nothing(
    objects: ObjectStore, tmp_path: Path, name: str, text: str, told: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInput, match=told):
        bring_in(objects, tmp_path / name)
    assert asyncio.run(objects.list("demand")) == []


def test_numbers_and_dates_may_stand_in_one_column() -> None:
    frame = pd.DataFrame({"t": [str(NOW - 60), "2026-03-09T23:59:00Z", "x"], "gpus": [1, 1, 1]})
    rows = read_frame(frame, names={}, now=NOW)
    assert len(set(rows.table.column("minute").to_pylist())) == 1
    assert len(rows.table) == 2
