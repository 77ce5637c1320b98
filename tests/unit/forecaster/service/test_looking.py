"""What a page looks at: buckets, the outlook, files of any form."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.outlook import hourly_means, look_ahead
from halfdrop.forecaster.service.buckets import choose_buckets
from halfdrop.forecaster.service.history_file import read_history

WEEK = 7 * 24


def test_buckets_keep_extremes_and_gaps() -> None:
    buckets = choose_buckets(100, 700, points=10)
    assert (buckets.width, buckets.first, buckets.count) == (60, 60, 11)
    values = np.full(buckets.count * buckets.width, np.nan)
    values[60:120] = 1.0
    values[75] = 31.0
    assert buckets.mean(values)[1] == pytest.approx(1.5)
    assert (buckets.low(values)[1], buckets.high(values)[1], buckets.total(values)[1]) == (1.0, 31.0, 90.0)
    assert np.isnan(buckets.mean(values)[0])
    assert np.isnan(buckets.total(values)[0])


def test_ninety_days_fit_into_what_a_screen_shows() -> None:
    buckets = choose_buckets(29_000_000, 29_000_000 + 90 * 1440, points=1200)
    assert 700 <= buckets.count <= 1201


def test_the_outlook_follows_the_week_and_todays_level() -> None:
    hours = np.arange(5 * WEEK)
    season = 20 + 10 * np.sin(2 * np.pi * hours / 24) + 5 * (hours % WEEK < 48)
    level = np.where(hours >= 5 * WEEK - 24, 1.5, 1.0)
    outlook = look_ahead(season * level, WEEK)
    expected = season[:WEEK]
    assert np.abs(outlook.points[:12] / expected[:12] - 1.5).max() < 0.1  # today's level is believed at first
    later = outlook.points[84:96] / expected[84:96]
    assert 1.1 < later.mean() < 1.4  # and half of it after five days
    assert (np.diff(outlook.quantiles, axis=1) >= 0).all()
    assert outlook.origins > 7


def test_the_outlook_of_little_says_that_its_margin_is_a_guess() -> None:
    outlook = look_ahead(np.array([4.0, np.nan, 6.0]), 48)
    assert outlook.origins == 0
    assert outlook.points[0] == pytest.approx(5.0)
    assert outlook.quantiles[0, 0] < 5.0 < outlook.quantiles[0, 2]
    assert look_ahead(np.array([]), 5).points.tolist() == [0.0] * 5


def test_hours_begin_on_the_hour_and_half_empty_ones_are_gaps() -> None:
    minutes = np.concatenate([np.full(30, 9.0), np.full(60, 2.0), np.full(40, np.nan), np.full(20, 4.0)])
    means, first = hourly_means(minutes, start_minute=90)
    assert first == 2
    assert means[0] == 2.0
    assert np.isnan(means[1])


def test_a_plain_file_is_one_series(tmp_path: Path) -> None:
    path = tmp_path / "plain.csv"
    path.write_text("t,gpus\n2026-01-01T00:00:00Z,2\n2026-01-01T00:02:00Z,3\n")
    frame = read_history(path)
    assert frame["gpu_s_offered"].tolist() == [120.0, 180.0]
    assert set(frame["region"]) == {"local"}


def test_a_file_in_the_agreed_form_keeps_its_series(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "minute": pd.to_datetime([0, 60], unit="s"),
            "region": ["eu", "us"],
            "class": "bulk",
            "gpu_s_offered": ["12", "nonsense"],
        }
    )
    for path in (tmp_path / "a.csv", tmp_path / "a.parquet"):
        frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)
        found = read_history(path)
        assert found["gpu_s_offered"].tolist()[0] == 12.0
        assert np.isnan(found["gpu_s_offered"].tolist()[1])
        assert found["model"].tolist() == ["all", "all"]


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "minute,gpu_s_offered\nyesterday,3\n", "\x00\x01"])
def test_files_that_are_no_history_are_refused_with_a_reason(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content)
    with pytest.raises(InvalidInput):
        read_history(path)
    with pytest.raises(InvalidInput, match="a file that is there"):
        read_history(tmp_path / "none.csv")
