"""DEMAND into Parquet with a real NATS: exactly once through kills, duplicates, odd clocks, a server that went back."""

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pandas as pd
import pytest
import structlog

from halfdrop.contracts.demand import DemandReport, DemandRow, encode_report
from halfdrop.contracts.errors import Unavailable
from halfdrop.contracts.subjects import DEMAND_STREAM, HUB_DOMAIN, demand_report
from halfdrop.deploy.servers import NatsServer
from halfdrop.forecaster import compactor as module
from halfdrop.forecaster.compactor import Compactor
from halfdrop.forecaster.demand_parts import day_folder
from halfdrop.forecaster.demand_stream import DemandStream, StreamState, open_demand_stream
from halfdrop.forecaster.history import DemandHistory
from halfdrop.runtime.broker import Broker, open_broker
from halfdrop.runtime.objects import ObjectStore, open_objects
from halfdrop.runtime.streams import ensure_demand_stream

CHILD = Path(__file__).with_name("compactor_child.py")
DAY_MINUTES = 1440


@pytest.fixture
async def broker(hub_nats: NatsServer) -> AsyncIterator[Broker]:
    async with open_broker(hub_nats.url, name="test", domain=HUB_DOMAIN) as broker:
        await ensure_demand_stream(broker.js)
        yield broker


@pytest.fixture
async def stream(broker: Broker) -> AsyncIterator[DemandStream]:
    async with open_demand_stream(broker) as stream:
        yield stream


@pytest.fixture
def objects(objects_url: str) -> ObjectStore:
    return open_objects(objects_url)


async def now_minute(broker: Broker) -> int:
    """The server's own minute: what it stores a report under."""
    info = await broker.js.stream_info(DEMAND_STREAM)
    return int(info.created.timestamp() // 60)


def make_report(number: int, minute: int, *, member: str = "edge-1", run: str = "r", **values: float) -> DemandReport:
    row = DemandRow(region="eu", job_class="standard", model="house", tier="finish", **{"requests": 1, **values})  # type: ignore[arg-type]
    return DemandReport(member=member, run=run, number=number, minute=minute, rows=(row,))


async def tell(broker: Broker, *reports: DemandReport) -> None:
    for report in reports:
        await broker.js.publish(demand_report("eu", report.member), encode_report(report))


async def read_all(objects: ObjectStore, minute: int) -> pd.DataFrame:
    return await DemandHistory(objects).read((minute - 6 * DAY_MINUTES) * 60, (minute + DAY_MINUTES) * 60)


async def drain(compactor: Compactor) -> None:
    while await compactor.step():
        pass


async def test_reports_become_rows_once_and_late_ones_find_their_day(
    broker: Broker, stream: DemandStream, objects: ObjectStore
) -> None:
    minute = await now_minute(broker)
    compactor = Compactor(objects, stream, "eu")
    one = make_report(1, minute, gpu_s_offered=8.0)
    await tell(broker, one, one, make_report(2, minute - 3 * DAY_MINUTES), make_report(1, minute, member="edge-2"))
    await drain(compactor)
    await tell(broker, one, make_report(3, minute, gpu_s_offered=1.0))  # the first again: another server's window
    await drain(Compactor(objects, stream, "eu"))
    frame = await read_all(objects, minute)
    assert frame["requests"].tolist() == [1, 3]
    assert frame["gpu_s_offered"].tolist()[1] == 9.0
    assert compactor.stats.oddities["duplicate"] == 1
    assert len(await DemandHistory(objects).days()) == 2


async def test_a_kill_at_any_write_neither_loses_nor_doubles(
    broker: Broker, stream: DemandStream, objects: ObjectStore, objects_url: str, hub_nats: NatsServer
) -> None:
    """Twelve kills: before and after each write and removal, in reports over two days, with merges in between."""
    minute = await now_minute(broker)
    chance = random.Random(7)
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        str(CHILD),
        hub_nats.url,
        objects_url,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    told = kills = 0
    for deadly, side in ((n, side) for n in (1, 2, 3, 4, 5, 6) for side in ("before", "after")):
        for _ in range(5):
            told += 1
            await tell(broker, make_report(told, minute - chance.choice((0, 1, DAY_MINUTES))))
        child.stdin.write(f"{deadly} {side}\n".encode())
        ended = int(await child.stdout.readline())
        assert ended in (-signal.SIGKILL, 0)  # 0: it needed fewer writes than that
        kills += ended != 0
        frame = await read_all(objects, minute)
        assert frame["requests"].sum() <= told, f"doubled after a kill {side} write {deadly}"
    child.stdin.close()
    assert await child.wait() == 0
    assert kills >= 9
    await drain(Compactor(objects, stream, "eu"))
    frame = await read_all(objects, minute)
    assert frame["requests"].sum() == told


async def test_many_small_files_become_one_and_nothing_changes(
    broker: Broker, stream: DemandStream, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MERGE_AT", 4)
    minute = await now_minute(broker)
    compactor = Compactor(objects, stream, "eu")
    for number in range(1, 11):
        await tell(broker, make_report(number, minute), make_report(number, minute - 5 * DAY_MINUTES, member="edge-2"))
        await drain(compactor)
    parts = [path for path in await objects.list("demand") if path.endswith(".parquet")]
    assert len(parts) <= 8
    assert compactor.stats.merges >= 4
    frame = await read_all(objects, minute)
    assert frame["requests"].tolist() == [10, 10]
    # A day that is over is merged at the first look of another run, however few files it has.
    await drain(Compactor(objects, stream, "eu"))
    first_day, _ = await DemandHistory(objects).days()
    assert len(await objects.list(day_folder(first_day))) == 1
    assert (await read_all(objects, minute))["requests"].tolist() == [10, 10]


async def test_what_cannot_be_is_counted_logged_and_left_out(
    broker: Broker, stream: DemandStream, objects: ObjectStore
) -> None:
    minute = await now_minute(broker)
    compactor = Compactor(objects, stream, "eu")
    await broker.js.publish("demand.eu.stranger", b"\xc1 no report")
    await tell(
        broker,
        make_report(1, minute + 500_000, gpu_s_offered=4.0),
        make_report(2, minute - 500_000),
        make_report(3, minute, gpu_s_offered=-5.0),
        make_report(4, minute, gpu_s_offered=float("inf"), wait_s_sum=float("nan")),
        make_report(5, minute, requests=2**63),
    )
    with structlog.testing.capture_logs() as logs:
        await drain(compactor)
    frame = await read_all(objects, minute)
    assert frame["requests"].sum() == 3
    assert frame["gpu_s_offered"].sum() == 4.0, "a clock ahead makes no work false"
    expected = {"unreadable": 1, "early": 1, "old": 1, "absurd": 3, "duplicate": 0}
    assert dict(compactor.stats.oddities) == expected
    assert {line["kind"] for line in logs if line["event"] == "demand_odd"} == {"unreadable", "early", "old", "absurd"}


async def test_a_server_that_lost_its_newest_messages_gives_their_numbers_again_and_nothing_is_lost(
    broker: Broker, stream: DemandStream, objects: ObjectStore
) -> None:
    minute = await now_minute(broker)
    compactor = Compactor(objects, stream, "eu")
    await tell(broker, *(make_report(number, minute) for number in range(1, 6)))
    await drain(compactor)
    described = stream.describe

    async def went_back() -> StreamState:
        return msgspec.structs.replace(await described(), last=2)

    stream.describe = went_back  # type: ignore[method-assign]
    await compactor.step()
    stream.describe = described  # type: ignore[method-assign]
    await tell(broker, make_report(6, minute))
    await drain(compactor)
    await drain(Compactor(objects, stream, "eu"))
    assert (await read_all(objects, minute))["requests"].sum() == 6, "numbers tell what was taken before"


async def test_what_the_stream_drops_before_it_is_read_is_counted_once(
    broker: Broker, stream: DemandStream, objects: ObjectStore
) -> None:
    minute = await now_minute(broker)
    compactor = Compactor(objects, stream, "eu")
    await tell(broker, make_report(1, minute), make_report(2, minute))
    await broker.js.purge_stream(DEMAND_STREAM, seq=2)
    await drain(compactor)
    assert (compactor.stats.missed, compactor.stats.lag) == (0, 0), "nothing was kept before, so nothing is missing"
    await tell(broker, *(make_report(number, minute) for number in range(3, 7)))
    await broker.js.purge_stream(DEMAND_STREAM, seq=5)
    await drain(compactor)
    await drain(compactor)
    assert compactor.stats.missed == 2
    assert 0 < compactor.stats.stream_bytes < compactor.stats.stream_max_bytes
    await broker.js.purge_stream(DEMAND_STREAM)
    await tell(broker, make_report(7, minute))
    await broker.js.purge_stream(DEMAND_STREAM)
    await drain(compactor)
    await drain(compactor)
    assert (compactor.stats.missed, compactor.stats.lag) == (3, 0), "an empty stream has nothing that waits"


async def test_an_unreadable_position_never_doubles(broker: Broker, stream: DemandStream, objects: ObjectStore) -> None:
    minute = await now_minute(broker)
    await tell(broker, make_report(1, minute))
    await drain(Compactor(objects, stream, "eu"))
    [path] = await objects.list("demand/state")
    await objects.put(path, b"{")
    await tell(broker, make_report(2, minute))
    await drain(Compactor(objects, stream, "eu"))
    assert (await read_all(objects, minute))["requests"].sum() == 2


async def test_an_outage_is_an_error_that_a_retry_helps(
    broker: Broker, stream: DemandStream, objects: ObjectStore, hub_nats: NatsServer
) -> None:
    await hub_nats.stop()
    with pytest.raises(Unavailable):
        await Compactor(objects, stream, "eu").step()
