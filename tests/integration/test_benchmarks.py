"""Benchmarks that also prove something: run small, what they count must be as promised."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(180)

ROOT = Path(__file__).parents[2]


async def test_a_burst_for_a_new_picture_over_two_edges_is_one_render() -> None:
    found = await run_benchmark("coalescing.py", "--requests", "300")
    assert found["coalesced_renders"] == 1
    assert found["not_ok"] == 0
    assert found["distinct_pictures"] == 1


async def test_orders_taken_by_an_edge_that_is_cut_off_are_each_done_once() -> None:
    found = await run_benchmark("partition.py", "--minutes", "0.2")
    assert found["orders"] >= 10
    assert found["canceled"] > 0
    assert found["lost"] == found["double"] == 0


async def test_orders_outlive_kills_at_random_and_their_webhooks_too() -> None:
    found = await run_benchmark("chaos.py", "--jobs", "60")
    assert found["jobs"] == 60
    assert found["lost"] == found["double"] == found["webhooks_lost"] == found["webhooks_double"] == 0, found


async def run_benchmark(script: str, *arguments: str) -> dict[str, Any]:
    """Return the JSON object that `bench/script` prints as its last line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "bench" / script),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await process.communicate()
    assert process.returncode == 0, complained.decode()[-2000:]
    figures: dict[str, Any] = json.loads(said.splitlines()[-1])
    return figures
