"""The embedded servers: they answer when started, survive outages on the same port, and leave nothing behind."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import nats
import pytest
from redis.asyncio import Redis

from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.subjects import HUB_DOMAIN
from halfdrop.deploy.servers import NatsServer, ValkeyServer, run_nats_server, run_valkey
from halfdrop.deploy.topology import wait_until_linked

WaitUntil = Callable[..., Awaitable[None]]


async def test_a_message_outlives_the_kill_of_its_server(hub_nats: NatsServer, wait_until: WaitUntil) -> None:
    client = await nats.connect(hub_nats.url, reconnect_time_wait=0.05)
    js = client.jetstream()
    await js.add_stream(name="KEPT", subjects=["kept"])
    await js.publish("kept", b"order")

    await hub_nats.kill()
    await hub_nats.start()

    await wait_until(lambda: client.is_connected)
    assert (await js.get_msg("KEPT", 1)).data == b"order"
    await client.close()


async def test_an_edge_reaches_the_hubs_jetstream_again_after_an_outage(
    hub_nats: NatsServer, edge_nats: NatsServer
) -> None:
    await hub_nats.stop()
    client = await nats.connect(edge_nats.url)
    local = client.jetstream(domain="edge-test")
    await local.add_stream(name="OWN", subjects=["own"])
    assert (await local.publish("own", b"accepted meanwhile")).seq == 1

    await hub_nats.start()
    await wait_until_linked(edge_nats.url, domain=HUB_DOMAIN)
    assert (await client.jetstream(domain=HUB_DOMAIN).account_info()).domain == HUB_DOMAIN
    await client.close()


async def test_valkey_is_bounded_and_evicts(valkey: ValkeyServer) -> None:
    async with Redis.from_url(valkey.url) as client:
        limits = await client.config_get("maxmemory*")
        assert limits["maxmemory"] == str(32 * 2**20)
        assert limits["maxmemory-policy"] == "allkeys-lfu"


async def test_valkey_restarts_empty_on_the_same_port(valkey: ValkeyServer) -> None:
    async with Redis.from_url(valkey.url) as client:
        await client.set("key", "value")
    await valkey.restart()
    async with Redis.from_url(valkey.url) as client:
        assert await client.get("key") is None


async def test_a_taken_port_is_refused_before_anything_starts(valkey: ValkeyServer, tmp_path: Path) -> None:
    port = int(valkey.url.rsplit(":", 1)[1].split("/")[0])
    with pytest.raises(PermanentError, match=f"port {port} is taken"):
        async with run_valkey(data_dir=tmp_path / "second", port=port):
            pass


async def test_a_server_that_cannot_start_says_its_last_words(tmp_path: Path) -> None:
    blocked = tmp_path / "nats"
    blocked.mkdir()
    (blocked / "jetstream").write_text("a file where the server wants a folder")
    with pytest.raises(PermanentError, match=r"(?s)nats-hub ended with status 1.*storage directory is not a directory"):
        async with run_nats_server(name="hub", data_dir=blocked, domain=HUB_DOMAIN):
            pass


async def test_servers_die_with_a_killed_parent(tmp_path: Path, wait_until: WaitUntil) -> None:
    program = (
        "import asyncio, pathlib, sys\n"
        "from halfdrop.deploy.servers import run_nats_server, run_valkey\n"
        "async def main():\n"
        f"    folder = pathlib.Path({str(tmp_path)!r})\n"
        "    async with run_nats_server(name='x', data_dir=folder / 'n', domain='x') as n:\n"
        "        async with run_valkey(data_dir=folder / 'v') as v:\n"
        "            print(n.process.pid, v.process.pid, flush=True)\n"
        "            await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pids = [int(pid) for pid in (await parent.stdout.readline()).split()]
    assert len(pids) == 2
    assert all(_lives(pid) for pid in pids)

    parent.kill()
    await parent.wait()
    await wait_until(lambda: not any(_lives(pid) for pid in pids), timeout_s=5)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
