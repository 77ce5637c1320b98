"""Minutes of many series: sums, gaps, late news, and what cannot be."""

import numpy as np
import pandas as pd
import pytest

from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.service.series import LATE, OFFERED, REPLICAS, REQUESTS, Choice, DemandTable, SeriesKey

START = 29_000_000
FAR = START + 10_000_000


def rows(
    minutes: list[int], work: list[float], *, region: str = "eu", job_class: str = "realtime", **columns: object
) -> pd.DataFrame:
    frame = pd.DataFrame({"minute": pd.to_datetime((START + np.array(minutes)) * 60, unit="s"), "gpu_s_offered": work})
    return frame.assign(**{"region": region, "class": job_class, "model": "house", **columns})


def offered(table: DemandTable, choice: Choice, count: int = 4) -> list[float]:
    return [float(value) for value in table.read(choice, START, START + count)[:, OFFERED]]


def test_a_sum_is_a_gap_only_where_all_its_parts_are() -> None:
    table = DemandTable()
    table.add(rows([0, 1], [60.0, 120.0]), minute_max=FAR)
    table.add(rows([1, 3], [30.0, 0.0], job_class="bulk"), minute_max=FAR)
    found = offered(table, Choice())
    assert found[:2] == [60.0, 150.0]
    assert np.isnan(found[2])
    assert found[3] == 0.0
    assert table.gpus(Choice(classes=("bulk",)), START + 1, START + 2)[0] == pytest.approx(0.5)


def test_sums_that_were_asked_for_follow_new_minutes_new_series_and_corrections() -> None:
    table = DemandTable()
    table.add(rows([0], [60.0]), minute_max=FAR)
    assert offered(table, Choice())[0] == 60.0
    table.add(rows([1], [30.0]), minute_max=FAR)
    table.add(rows([0], [12.0], region="us"), minute_max=FAR)
    table.add(rows([1], [36.0]), minute_max=FAR)  # told again: it replaces
    assert offered(table, Choice())[:2] == [72.0, 36.0]
    table.add(rows([-2], [7.0]), minute_max=FAR)  # what is older comes late
    assert table.read(Choice(), START - 2, START - 1)[0, OFFERED] == 7.0


def test_tiers_of_a_series_are_added_up_and_so_are_their_gpus() -> None:
    table = DemandTable()
    frame = rows([0, 0, 0], [60.0, 30.0, 1.0], tier=["paid", "free", "free"], replicas=[4.0, 2.0, 2.0])
    table.add(frame.assign(requests=[3, 1, 1], late=[1, 0, 0]), minute_max=FAR)
    row = table.read(Choice(), START, START + 1)[0]
    assert (row[OFFERED], row[REQUESTS], row[LATE]) == (91.0, 5.0, 1.0)
    assert table.read_pools(("eu",), START, START + 1)[0, REPLICAS] == 6.0


def test_impossible_rows_are_counted_and_left_out() -> None:
    table = DemandTable()
    frame = rows([0, 1, 2, 3], [-5.0, float("inf"), 1e15, 60.0])
    added = table.add(frame, minute_max=FAR)
    assert added.rejected == 3
    assert table.end == START + 4
    assert table.first == START + 3


def test_a_clock_that_jumped_does_not_push_out_what_is_known() -> None:
    table = DemandTable(days_kept=2)
    table.add(rows([0], [60.0]), minute_max=FAR)
    added = table.add(rows([9_000_000], [60.0]), minute_max=START + 5)
    assert added.rejected == 1
    assert offered(table, Choice())[0] == 60.0


def test_what_is_older_than_is_kept_goes() -> None:
    table = DemandTable(days_kept=2)
    day = 1440
    for begin in range(0, 10 * day, day):
        table.add(rows(list(range(begin, begin + day)), [60.0] * day), minute_max=FAR)
    assert table.end == START + 10 * day
    assert START + 8 * day <= table.first <= START + 9 * day
    assert np.nansum(table.gpus(Choice(), START, table.end)) == pytest.approx(table.end - table.first)


def test_missing_columns_are_named() -> None:
    with pytest.raises(InvalidInput, match="gpu_s_offered"):
        DemandTable().add(rows([0], [1.0]).drop(columns="gpu_s_offered"), minute_max=FAR)


def test_series_know_their_names() -> None:
    table = DemandTable()
    table.add(rows([0], [1.0]), minute_max=FAR)
    assert table.keys(Choice(regions=("eu",), models=("house",))) == [SeriesKey("eu", "realtime", "house")]
    assert table.keys(Choice(regions=("us",))) == []
