"""Compactors in processes of their own that kill themselves with SIGKILL at a chosen write: `… NATS OBJECTS`.

Each line that it reads, `WRITE SIDE`, makes one: WRITE counts the object store's writes and removals from 1, SIDE is
before or after it. One that is not killed ends once nothing is left to do. It writes back how each ended. They are
forked, so that a dozen kills cost the imports once.
"""

import asyncio
import os
import signal
import sys
from typing import Any

import pandas as pd  # noqa: F401  pyarrow imports both at its first use, which would be in each fork
import pyarrow.acero  # noqa: F401

from halfdrop.contracts.subjects import HUB_DOMAIN
from halfdrop.forecaster import compactor as module
from halfdrop.forecaster.compactor import Compactor
from halfdrop.forecaster.demand_stream import open_demand_stream
from halfdrop.runtime.broker import open_broker
from halfdrop.runtime.logs import configure_logs
from halfdrop.runtime.objects import BlockingObjectStore, open_objects


class DeadlyStore(BlockingObjectStore):
    """Kills its process before or after the nth change."""

    changes = 0
    deadly = 0
    side = ""

    async def put(self, path: str, data: bytes, **options: Any) -> None:
        self._die("before", 1)
        await super().put(path, data, **options)
        self._die("after", 0)

    async def delete(self, path: str) -> None:
        self._die("before", 1)
        await super().delete(path)
        self._die("after", 0)

    def _die(self, side: str, step: int) -> None:
        type(self).changes += step
        if self.changes == self.deadly and side == self.side:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(nats_url: str, objects_url: str, deadly: int, side: str) -> None:
    DeadlyStore.deadly, DeadlyStore.side = deadly, side
    module.MERGE_AT = 3
    objects = open_objects(objects_url, kind=DeadlyStore)
    async with (
        open_broker(nats_url, name="compactor", domain=HUB_DOMAIN) as broker,
        open_demand_stream(broker) as stream,
    ):
        compactor = Compactor(objects, stream, "eu")
        while await compactor.step():
            pass


if __name__ == "__main__":
    configure_logs("compactor")
    for line in sys.stdin:
        deadly, side = line.split()
        child = os.fork()
        if child == 0:
            asyncio.run(main(sys.argv[1], sys.argv[2], int(deadly), side))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201
