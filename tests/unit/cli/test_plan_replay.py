"""`halfdrop plan replay`: files in, a table out, and wrong input named."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from halfdrop.contracts.errors import InvalidInput
from halfdrop.deploy.cli import app
from halfdrop.forecaster.demand_file import read_demand

SEED = 20261127


def write_history(path: Path, *, minutes: int = 480) -> Path:
    dice = np.random.default_rng(SEED)
    frame = pd.DataFrame(
        {
            "t": pd.date_range("2026-11-02", periods=minutes, freq="min"),
            "gpus": dice.poisson(8, minutes).astype(float),
        }
    )
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return path


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["plan", "replay", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("name", ["history.csv", "history.parquet", "history.csv.gz"])
def test_history_is_replayed_with_ours_first_and_the_oracle_last(tmp_path: Path, name: str) -> None:
    history = write_history(tmp_path / name)
    found = json.loads(run("--history", history, "--days", "0.1", "--knob", "0.5", "--json"))
    assert [row["policy"] for row in found["served"]] == [
        "halfdrop", "HPA", "KEDA", "Knative", "PHPA", "Crane", "AWS-like", "Dynamo-like", "oracle",
    ]  # fmt: skip
    assert found["served"][-1]["oracle_ratio"] == 1.0
    assert found["work_hours"] == pytest.approx(8 * 2.4, rel=0.2)


def test_a_policy_file_changes_what_is_paid(tmp_path: Path) -> None:
    history = write_history(tmp_path / "history.csv")
    policy = tmp_path / "policy.toml"
    policy.write_text("replicas_min = 40\n")
    row = run("--history", history, "--policy", policy, "--days", "0.1", "--knob", "0.5").splitlines()[2]
    assert row.startswith("halfdrop")
    assert float(row.split()[2]) > 40 * 2.3


@pytest.mark.parametrize("text", ["replicas_min = 9\nreplicas_max = 3\n", "replica_min = 9\n", "late_cost = 'much'\n"])
def test_a_policy_that_contradicts_itself_or_is_misspelt_is_refused(tmp_path: Path, text: str) -> None:
    history = write_history(tmp_path / "history.csv")
    policy = tmp_path / "policy.toml"
    policy.write_text(text)
    with pytest.raises(InvalidInput, match=r"replica|late_cost"):
        run("--history", history, "--policy", policy)


def test_gaps_duplicates_disorder_and_absurd_values_are_counted_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("timestamp,gpu_s\n600,600\n0,60\n60,-5\n120,1e30\n600,660\n300,inf\n")
    found = read_demand(path)
    np.testing.assert_array_equal(found.gpus, [1.0, *[np.nan] * 9, 11.0])
    assert (found.duplicates, found.rejected, found.gaps) == (1, 3, 9)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("when,gpus\n1,2\n", "time column"),
        ("t,load\n1,2\n", "work column"),
        ("t,gpus\nyesterday,2\n", "t"),
        ("t,gpus\n0,1\n99999999999,1\n", "days"),
        ("t,gpus\n", "no rows"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=named):
        read_demand(path)
