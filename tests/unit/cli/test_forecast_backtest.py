"""`halfdrop forecast backtest`: a history in, losses, coverage and a page out, and wrong input named."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from halfdrop.contracts.errors import InvalidInput
from halfdrop.deploy.cli import app

SEED = 20261127
MINUTES = 1_440


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dice = np.random.default_rng(SEED)
    minute = np.arange(MINUTES)
    gpus = dice.poisson(12 + 8 * np.sin(minute * 2 * np.pi / 720), MINUTES).astype(float)
    gpus[1_200:1_210] = np.nan
    path = tmp_path_factory.mktemp("history") / "demand.csv"
    times = pd.date_range("2026-11-02", periods=MINUTES, freq="min")
    pd.DataFrame({"t": times, "gpus": gpus}).to_csv(path, index=False)
    return path


def test_ours_is_judged_beside_statsforecasts_models_and_the_page_has_its_plots(history: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    options = ["--history", str(history), "--days", "0.25", "--horizon", "9", "--horizon", "3"]
    done = CliRunner().invoke(app, ["forecast", "backtest", *options, "--report", str(report), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout[done.stdout.index("{") :])
    assert [score["minutes_ahead"] for score in found["horizons"]] == [3, 9]
    assert all(score["pinball_ratio"] < 0.9 for score in found["horizons"])
    assert (found["gaps"], found["minutes"]) == (10, 360)
    names = {score["model"] for score in found["models"]}
    assert {"halfdrop", "last value", "DynamicOptimizedTheta", "AutoETS"} <= names
    page = report.read_text(encoding="utf-8")
    plots = page.split("<svg")[1:]
    assert len(plots) == 4
    for plot in plots:
        drawn = ElementTree.fromstring("<svg" + plot[: plot.index("</svg>")] + "</svg>")
        assert len(list(drawn)) > 3


def test_a_window_longer_than_the_history_or_shorter_than_a_horizon_is_refused(history: Path) -> None:
    for options in (["--days", "0.1", "--horizon", "600"], ["--days", "0.1", "--horizon", "120"]):
        done = CliRunner().invoke(app, ["forecast", "backtest", "--history", str(history), *options])
        assert isinstance(done.exception, InvalidInput)
        assert "window" in str(done.exception.detail)
