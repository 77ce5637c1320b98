"""A hub worker in a process of its own that kills itself, as `kill -9` would, where it is told to; run by a test.

Arguments: URL of the hub's NATS, URL of the object store, the file before whose upload it dies ("": none), and a file
to which the name of each upload is added.
"""

import asyncio
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from halfdrop.contracts import subjects
from halfdrop.hub.refining import PlateRefiner
from halfdrop.hub.sampler import Sampler
from halfdrop.hub.saved_work import SAVED_NAME, decode_saved
from halfdrop.hub.settings import HubSettings
from halfdrop.hub.worker import Hub, run_worker
from halfdrop.runtime.broker import open_broker
from halfdrop.runtime.lifecycle import stop_on_signals
from halfdrop.runtime.objects import ObjectStore, open_objects

SAVE_EVERY_S = 0.05


class DeadlyStore(ObjectStore):
    """Ends the process before the upload of one file, once it is saved that all others so far are stored."""

    def __init__(self, inner: ObjectStore, deadly: str, written: Path) -> None:
        super().__init__(inner._store, inner.url)
        self._deadly, self._told = deadly, written
        self._written: set[str] = set()
        self._saved: set[str] = set()
        self._is_near_its_end = False

    async def put(self, path: str, data: bytes, *, media_type: str = "application/octet-stream") -> None:
        name = path.rpartition("/")[2]
        if name == self._deadly:
            self._is_near_its_end = True
            self._die_once_saved()
            await asyncio.Event().wait()
        await super().put(path, data, media_type=media_type)
        if name == SAVED_NAME:
            files = decode_saved(data)[0].files
            self._saved = {artifact.name for artifact in files.artifacts} if files else set()
            self._die_once_saved()
            return
        self._written.add(name)
        with self._told.open("a") as file:
            file.write(name + "\n")

    def _die_once_saved(self) -> None:
        if self._is_near_its_end and self._written <= self._saved:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(nats_url: str, objects_url: str, deadly: str, written: Path) -> None:
    stop = stop_on_signals()
    settings = HubSettings(
        name=f"hub-{os.getpid()}",
        nats_url=nats_url,
        objects_url=objects_url,
        ack_wait_s=1,
        grace_s=0,
        warm=False,
        save_every_s=SAVE_EVERY_S,
        max_deliver=20,
    )
    nothing = Path("no-such-bundle")
    with (
        ThreadPoolExecutor(2) as threads,
        Sampler(nothing, device="cpu", threads=1) as sampler,
        PlateRefiner(nothing, nothing, device="cpu") as refiner,
    ):
        async with open_broker(nats_url, name=settings.name, domain=subjects.HUB_DOMAIN) as broker:
            objects = DeadlyStore(open_objects(objects_url), deadly, written)
            hub = Hub(
                settings=settings, broker=broker, objects=objects, sampler=sampler, refiner=refiner, threads=threads
            )
            await run_worker(hub, stop)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4], Path(sys.argv[4])))
