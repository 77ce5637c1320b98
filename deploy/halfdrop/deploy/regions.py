"""Regions as an operator sees them: whether their hub answers and takes orders, and what their workers tell."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import BucketNotFoundError, KeyNotFoundError, NotFoundError

from halfdrop.contracts.errors import InvalidInput, Unavailable
from halfdrop.contracts.pools import STATE_EVERY_S, WorkerState, decode_state
from halfdrop.contracts.subjects import (
    DRAINING_KEY,
    JOBS_STREAM,
    LOCAL_REGION,
    POLICY_BUCKET,
    hub_domain,
    worker_state,
)
from halfdrop.deploy.folder import DataFolder
from halfdrop.runtime.broker import Broker, open_broker
from halfdrop.runtime.streams import ensure_bucket

LISTEN_S = 1.5 * STATE_EVERY_S
"""Every worker that lives tells of itself within this."""

FOR_EVER_S = 0.0


class RegionState(msgspec.Struct, frozen=True, kw_only=True):
    """A region at one moment."""

    name: str
    url: str
    is_up: bool
    is_draining: bool = False
    waiting: int = 0
    """Jobs in the hub's queue, those being worked on included."""

    workers: tuple[str, ...] = ()
    units_per_s: float = 0.0
    """Work that all workers together do in a second, by their own measure; 0: not measured."""


def find_regions(data_dir: Path) -> dict[str, str]:
    """Return the URL of the hub's NATS server for each region of a `halfdrop up` on `data_dir`."""
    folder = DataFolder(data_dir)
    prefix = folder.nats_hub.name + "-"
    names = [LOCAL_REGION, *sorted(path.name.removeprefix(prefix) for path in data_dir.glob(prefix + "*"))]
    configs = {name: folder.nats_of(name) / "nats.conf" for name in names}
    return {name: _read_url(config) for name, config in configs.items() if config.is_file()}


async def read_regions(urls: Mapping[str, str]) -> list[RegionState]:
    """Return the state of each region; takes as long as a worker may be silent."""
    return list(await asyncio.gather(*(_read_region(name, url) for name, url in urls.items())))


async def set_draining(name: str, url: str, is_draining: bool) -> None:
    """Say whether the region shall take new orders; edges hear of it within about a second.

    Raises Unavailable if its NATS server does not answer, InvalidInput if another region's does.
    """
    async with open_broker(url, name="halfdrop regions", domain=hub_domain(name)) as broker:
        await _check_domain(broker, name, url)
        try:
            bucket = await ensure_bucket(broker.js, POLICY_BUCKET, kept_s=FOR_EVER_S)
            await bucket.put(DRAINING_KEY, msgspec.json.encode(is_draining))
        except (NatsError, TimeoutError, OSError) as error:
            raise Unavailable(f"the hub's NATS server at {url} does not take the change: {error!r}") from error


async def _check_domain(broker: Broker, name: str, url: str) -> None:
    try:
        await broker.js.account_info()
    except (NatsError, TimeoutError, OSError) as error:
        allowed = f"the server whose JetStream domain is {hub_domain(name)!r}"
        raise InvalidInput("--nats-url", got=url, allowed=allowed) from error


async def _read_region(name: str, url: str) -> RegionState:
    try:
        async with open_broker(url, name="halfdrop regions", domain=hub_domain(name)) as broker:
            states = await _listen(broker, name)
            return RegionState(
                name=name,
                url=url,
                is_up=True,
                is_draining=await _read_draining(broker),
                waiting=await _count_waiting(broker),
                workers=tuple(sorted(state.worker for state in states)),
                units_per_s=sum(state.units_per_s * state.slots for state in states),
            )
    except (Unavailable, NatsError, TimeoutError, OSError):
        return RegionState(name=name, url=url, is_up=False)


async def _listen(broker: Broker, name: str) -> Sequence[WorkerState]:
    heard: dict[str, WorkerState] = {}

    async def hear(message: Msg) -> None:
        state = decode_state(message.data)
        heard[state.worker] = state

    await broker.nc.subscribe(worker_state(name, "*"), cb=hear)
    await asyncio.sleep(LISTEN_S)
    return list(heard.values())


async def _read_draining(broker: Broker) -> bool:
    try:
        entry = await (await broker.js.key_value(POLICY_BUCKET)).get(DRAINING_KEY)
    except (BucketNotFoundError, KeyNotFoundError):
        return False
    return entry.value == b"true"


async def _count_waiting(broker: Broker) -> int:
    try:
        return (await broker.js.stream_info(JOBS_STREAM)).state.messages
    except NotFoundError:  # no job came yet
        return 0


def _read_url(config: Path) -> str:
    listen = next(line for line in config.read_text().splitlines() if line.startswith("listen: "))
    return "nats://" + listen.split('"')[1]
