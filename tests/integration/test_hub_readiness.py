"""A worker is Ready when its models are warm, says what it waits for until then, and is not when it stops."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from halfdrop.deploy.ports import choose_port
from halfdrop.deploy.servers import NatsServer

Probe = Callable[[str], Awaitable[tuple[int, str]]]


@asynccontextmanager
async def run_hub(
    nats: NatsServer, objects_url: str, **settings: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Probe]]:
    port = choose_port()
    given = {"NATS_URL": nats.url, "OBJECTS_URL": objects_url, "HEALTH_PORT": str(port), "DEVICE": "cpu", **settings}
    environ = {**os.environ, **{f"HALFDROP_HUB_{name}": value for name, value in given.items()}}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "halfdrop.hub"), env=environ, stderr=asyncio.subprocess.DEVNULL
    )

    async def probe(path: str) -> tuple[int, str]:
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
                answer = await client.get(f"http://127.0.0.1:{port}{path}")
        except httpx.TransportError as error:
            return 0, str(error)
        return answer.status_code, answer.text.strip()

    try:
        yield process, probe
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_worker_is_ready_once_its_models_have_drawn(
    hub_nats: NatsServer, objects_url: str, wait_until: Any
) -> None:
    async with run_hub(hub_nats, objects_url, WARM_MODELS="house,house-render") as (process, probe):
        said: list[str] = []

        async def is_ready() -> bool:
            status, text = await probe("/readyz")
            if status == 503:
                said.append(text)
            return status == 200

        await wait_until(is_ready, timeout_s=100, poll_s=0.2)
        assert any("model house is still being loaded" in text for text in said), said
        assert (await probe("/healthz"))[0] == 200
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await process.wait() == 0


async def test_a_worker_whose_model_is_missing_says_so_and_stays_unready(
    hub_nats: NatsServer, objects_url: str, wait_until: Any
) -> None:
    settings = {"WARM_MODELS": "house", "BUNDLE_DIR": "/nowhere/house", "WARM": "false"}
    async with run_hub(hub_nats, objects_url, **settings) as (_, probe):

        async def answer() -> bool:
            return "cannot be used" in (await probe("/readyz"))[1]

        await wait_until(answer, timeout_s=30)
        status, text = await probe("/readyz")
        assert status == 503
        assert text.startswith("model house cannot be used: this worker has no bundle to sample with"), text
        assert (await probe("/healthz"))[0] == 200, "it still finishes jobs that bring their plates"
