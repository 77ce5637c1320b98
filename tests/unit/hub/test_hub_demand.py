"""What a worker tells of demand: waits, work in each minute that it goes on, GPUs that stand ready, its start."""

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from halfdrop.contracts.demand import DemandRow, decode_report
from halfdrop.contracts.jobs import Job
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.hub.demand import HubDemand, process_age_s
from halfdrop.hub.settings import HubSettings


class Clocks:
    """Both clocks of a process."""

    def __init__(self) -> None:
        self.s = 600.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def make(clocks: Clocks, **settings: Any) -> HubDemand:
    given = HubSettings(objects_url="memory://", region="eu", **settings)
    return HubDemand(given, clock=clocks, monotonic=clocks)


def delivery(clocks: Clocks, *, sequence: int = 1, attempt: int = 1, waited_s: float = 0.0) -> Any:
    return SimpleNamespace(attempt=attempt, sequence=sequence, queued_at=clocks.s - waited_s)


JOB = Job(
    id="j1", origin="edge", spec=PatternSpec(prompt="dots", model_digest="ab" * 32), size_px=512, created_at=0.0,
    model="house", job_class="bulk",
)  # fmt: skip


async def told(demand: HubDemand) -> dict[int, dict[tuple[str, str], DemandRow]]:
    """Rows by minute, and by class and tier."""
    found: dict[int, dict[tuple[str, str], DemandRow]] = {}

    async def take(_: object, data: bytes) -> None:
        report = decode_report(data)
        rows = found.setdefault(report.minute, {})
        rows.update({(row.job_class, row.tier): row for row in report.rows})

    await demand.counter.send_all(take)
    return found


async def test_a_job_that_goes_on_counts_in_each_minute(clocks: Clocks) -> None:
    demand = make(clocks, slots=2)
    clocks.s = 650.0
    with demand.delivery(delivery(clocks, waited_s=12.0), JOB):
        clocks.s = 660.0
        demand.counter.close(is_over=False)
        clocks.s = 700.0
    clocks.s = 720.0
    demand.counter.close(is_over=False)
    minutes = await told(demand)
    first, second = minutes[10][("bulk", "sample")], minutes[11][("bulk", "sample")]
    assert (first.gpu_s_served, second.gpu_s_served) == (5.0, 20.0), "two slots share one GPU"
    assert (first.late, first.wait_s_sum, second.late, second.wait_s_sum) == (1, 12.0, 0, 0.0)
    assert first.requests is None, "what arrives is the edges' to tell"
    assert first.model == "house"


async def test_a_redelivery_waits_for_nobodys_want_of_gpus(clocks: Clocks) -> None:
    demand = make(clocks)
    with demand.delivery(delivery(clocks, attempt=2, waited_s=500.0), JOB):
        clocks.s += 1
    with contextlib.suppress(ValueError), demand.delivery(delivery(clocks, waited_s=-30.0), JOB):
        clocks.s += 2
        raise ValueError("broken")
    demand.counter.close(is_over=True)
    row = (await told(demand))[10][("bulk", "sample")]
    assert (row.late, row.wait_s_sum, row.gpu_s_served) == (0, 0.0, 3.0)


async def test_a_worker_tells_of_each_class_that_it_takes_from_when_it_can(clocks: Clocks) -> None:
    demand = make(clocks, classes="standard,bulk")
    clocks.s = 630.0
    demand.begin()
    demand.note_boot(31.5)
    clocks.s = 660.0
    demand.counter.close(is_over=False)
    clocks.s = 720.0
    demand.counter.close(is_over=False)
    minutes = await told(demand)
    assert {name: row.replica_s for name, row in minutes[10].items()} == {
        ("standard", "finish"): 30.0,
        ("bulk", "finish"): 30.0,
    }
    assert [row.replica_s for row in minutes[11].values()] == [60.0, 60.0]
    boots = [(row.cold_starts, row.boot_s_sum) for row in minutes[10].values()]
    assert boots == [(1, 31.5), (0, 0.0)], "a start is counted once, whatever the worker takes"


def test_the_age_of_a_process_is_known() -> None:
    assert 0 < process_age_s() < 7_200
