"""What-if on the page and `halfdrop plan replay` in a shell: the same figures for one policy on one history."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from halfdrop.deploy.cli import app
from halfdrop.forecaster.service.hindsight import make_question
from halfdrop.forecaster.service.planner import Planner
from halfdrop.forecaster.service.policies import Wishes, replay_terms
from halfdrop.forecaster.service.shards import Shard
from halfdrop.forecaster.service.sources import FileSource
from halfdrop.forecaster.what_if import Question, replay_question

HOURS, SERVED_HOURS = 24, 6
SEED = 20261130


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that ends on the hour, with a gap, a repeated minute and values that no float keeps exactly."""
    dice = np.random.default_rng(SEED)
    minutes = np.arange(HOURS * 60)
    gpus = np.maximum(9 + 5 * np.sin(minutes / 200) + 4 * (minutes % 60 < 5) + dice.normal(0, 1, len(minutes)), 0)
    frame = pd.DataFrame({"t": pd.date_range("2026-11-02", periods=len(minutes), freq="min"), "gpus": gpus})
    frame = pd.concat([frame.drop(index=range(1200, 1220)), frame.loc[[1300]].assign(gpus=31.7)])
    path = tmp_path_factory.mktemp("agrees") / "history.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def planner(history: Path) -> Planner:
    """A planner that has read the file; nobody works its shard, for a replay learns by itself."""

    async def read() -> Planner:
        made = Planner(FileSource(history), [Shard("none")])
        reading = asyncio.ensure_future(made.take_in())
        while not made.pools:
            await made.wait_for_news(made.revision, timeout_s=10)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        return made

    return asyncio.run(read())


def ask(planner: Planner, wishes: Wishes, *, quantile: float | None) -> Question:
    """Ask as the page does: the pool's last hours on its present terms, and on those that are wished for."""
    (pool,) = planner.pools.values()
    terms = wishes.on(pool.terms)
    policy = type(terms.policy)(**{**_fields(terms.policy), "quantile": quantile})
    question = make_question(planner, pool, window_minutes=SERVED_HOURS * 60)
    scenario = replay_terms(type(terms)(**{**_fields(terms), "policy": policy}), boot_p95_s=None)
    return type(question)(**{**_fields(question), "scenario": scenario})


def _fields(value: object) -> dict[str, object]:
    return {name: getattr(value, name) for name in value.__struct_fields__}  # type: ignore[attr-defined]


CASES = {
    "as shipped": (Wishes(), None, "", ()),
    "by price": (
        Wishes(late_share_target=0.05, replicas_min=4, replicas_max=17),
        None,
        "late_share_target = 0.05\nreplicas_min = 4\nreplicas_max = 17\n",
        (),
    ),
    "at a stated quantile, with long boots": (
        Wishes(boot_min_s=700, boot_max_s=900),
        0.97,
        "quantile = 0.97\n",
        ("--boot-min-s", "700", "--boot-max-s", "900"),
    ),
}
"""The wishes of the page and a quantile that it has from the file of pools; the shell's policy file and its options."""


@pytest.mark.parametrize("case", CASES)
def test_the_page_and_the_shell_agree_to_the_last_digit(
    planner: Planner, history: Path, tmp_path: Path, case: str
) -> None:
    wishes, quantile, lines, boots = CASES[case]
    policy = tmp_path / "policy.toml"
    policy.write_text(lines)
    said = CliRunner().invoke(
        app,
        ["plan", "replay", "--history", str(history), "--policy", str(policy), "--days", str(SERVED_HOURS / 24),
         *boots, "--knob", "0.5", "--json"],
        catch_exceptions=False,
    )  # fmt: skip
    shell = json.loads(said.stdout)
    answer = replay_question(ask(planner, wishes, quantile=quantile), lambda *_: None)
    assert answer.scenario is not None
    ours, oracle = shell["served"][0], shell["served"][-1]
    assert (ours["policy"], oracle["policy"]) == ("halfdrop", "oracle")
    assert answer.jobs == shell["jobs"] > 3_000
    assert answer.scenario.late_jobs > 0, "there is something to agree on"
    assert answer.scenario.late_share == ours["late_share"]
    assert answer.scenario.gpu_hours == ours["gpu_hours"]
    assert answer.scenario.oracle_ratio == ours["oracle_ratio"]
    assert answer.oracle.gpu_hours == oracle["gpu_hours"]
