"""The operator's benchmark also proves something: run small, what it counts must be as promised."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench/reconcile.py"


@pytest.mark.timeout(300)
async def test_half_a_day_of_decisions_does_not_flap_nor_fall_below_what_is_observed() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(BENCH),
        *("--pools", "3", "--days", "0.5"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await process.communicate()
    assert process.returncode == 0, complained.decode()[-2000:]
    found = json.loads(said.splitlines()[-1])
    assert (found["looks"], found["decisions"]) == (9, 5 * 2880)
    assert (found["flaps"], found["below_floor"]) == (0, 0)
    assert found["rss_mb"] < 150
    # each forecaster shows: a right one keeps work from waiting, one that lies by 100 is found out by what is seen
    assert found["loop"]["right"]["waiting_share"] < found["loop"]["stopped"]["waiting_share"]
    assert found["loop"]["times_100"]["replica_hours_per_work"] < 5
