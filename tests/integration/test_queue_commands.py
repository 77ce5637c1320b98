"""`halfdrop queue` against a real NATS server with a real worker process."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from halfdrop.contracts import subjects
from halfdrop.contracts.jobs import Job, encode_job
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.contracts.work import WORK_HEADER
from halfdrop.deploy.servers import NatsServer
from halfdrop.runtime.broker import open_broker
from halfdrop.runtime.streams import ensure_hub_streams

Command = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def queue(hub_nats: NatsServer) -> Command:
    """`status, output, errors = await queue("show", "--json")`: run the command against the hub's NATS."""

    async def run(*arguments: str, nats: str = hub_nats.url) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "halfdrop.deploy.cli", "queue", *arguments),
            env={**os.environ, "HALFDROP_HUB_NATS_URL": nats},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode(), errors.decode()

    return run


@asynccontextmanager
async def worker(nats_url: str, objects_url: str) -> AsyncIterator[None]:
    """Run a worker that takes real-time jobs only, until the block ends."""
    given = {"NAME": "hub-7", "NATS_URL": nats_url, "OBJECTS_URL": objects_url, "WARM": "false", "CLASSES": "realtime"}
    environ = {**os.environ, **{f"HALFDROP_HUB_{name}": value for name, value in given.items()}}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "halfdrop.hub"), env=environ, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(60):
            while b"jobs_bound" not in await process.stderr.readline():
                pass
        yield
    finally:
        process.kill()
        await process.communicate()


async def test_the_queue_shows_what_waits_how_it_is_shared_and_who_works(
    queue: Command, hub_nats: NatsServer, objects_url: str
) -> None:
    async with open_broker(hub_nats.url, name="test", domain=subjects.HUB_DOMAIN) as broker:
        await ensure_hub_streams(broker.js)
        for number in range(3):
            job = Job(
                id=f"job{number}",
                tenant="acme",
                job_class="bulk",
                origin="test",
                spec=PatternSpec(prompt="dots", model_digest="0" * 64),
                size_px=1024,
                created_at=time.time(),
            )
            await broker.js.publish(subjects.queued_job("bulk", "acme"), encode_job(job), headers={WORK_HEADER: "2.5"})
    assert (await queue("weights", "realtime=20", "bulk=0.5"))[1] == "realtime=20  standard=3  bulk=0.5\n"
    assert (await queue("cap", "acme", "2", "--class", "bulk"))[1] == "acme  bulk=2\n"
    async with worker(hub_nats.url, objects_url):
        status, output, errors = await queue("show", "--json")
        assert status == 0, errors
        view = json.loads(output)
        _, table, _ = await queue("show")
    assert view["policy"] == {"weights": {"realtime": 20.0, "bulk": 0.5}, "caps": {"acme": {"bulk": 2}}}
    assert [(lane["job_class"], lane["tenant"], lane["jobs"]) for lane in view["lanes"]] == [("bulk", "acme", 3)]
    assert [(w["worker"], w["classes"], w["weights"]["realtime"]) for w in view["workers"]] == [
        ("hub-7", ["realtime"], 20.0)
    ]
    assert len(view["workers"][0]["models"][0]) == 64
    assert "realtime=20  standard=3  bulk=0.5" in table
    assert "hub-7" in table


async def test_a_cap_goes_as_it_came_and_what_is_not_named_stays(queue: Command) -> None:
    await queue("cap", "acme", "5")
    await queue("cap", "umbrella", "1", "--class", "realtime")
    assert (await queue("cap", "acme", "0", "--class", "bulk"))[1] == "acme  realtime=5  standard=5\n"
    assert (await queue("cap", "acme", "0"))[1] == "acme  no cap\n"
    assert json.loads((await queue("show", "--json"))[1])["policy"]["caps"] == {"umbrella": {"realtime": 1}}


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("weights", "urgent=3"), 2, "realtime=8, standard=3 or bulk=1"),
        (("weights", "bulk=0"), 2, "0.001 to 1000"),
        (("cap", "a b", "3"), 2, "caps of 1 to 10000"),
    ],
)
async def test_what_would_be_no_policy_is_refused_and_changes_nothing(
    queue: Command, arguments: tuple[str, ...], status: int, said: str
) -> None:
    got, output, errors = await queue(*arguments)
    assert (got, output) == (status, "")
    assert said in errors
    assert (await queue("weights"))[1] == "realtime=8  standard=3  bulk=1\n"


async def test_without_a_server_the_command_says_what_to_do(queue: Command, tmp_path: Path) -> None:
    status, _, errors = await queue("show", nats="nats://127.0.0.1:9")
    assert status == 3
    assert "halfdrop up" in errors
    status, _, errors = await queue("show", "--data-dir", str(tmp_path / "nowhere"), nats="")
    assert status == 2
    assert "--nats" in errors
    # the test's own server lies in its folder just as that of `halfdrop up`
    assert (await queue("weights", "--data-dir", str(tmp_path), nats=""))[0] == 0
