"""The forecaster from start to stop. What it knows is in memory and is learnt again at the next start."""

import asyncio
from contextlib import ExitStack
from pathlib import Path

import structlog

from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.app import make_app
from halfdrop.forecaster.service.planner import Planner
from halfdrop.forecaster.service.pools import read_pools
from halfdrop.forecaster.service.serving import claim_port, serve
from halfdrop.forecaster.service.settings import PREFIX, ForecasterSettings
from halfdrop.forecaster.service.shards import Shard, count_shards
from halfdrop.forecaster.service.sources import DemandSource, FileSource
from halfdrop.forecaster.service.streams import Streams
from halfdrop.runtime.lifecycle import stop_on_signals

log = structlog.get_logger()


async def run_forecaster(settings: ForecasterSettings) -> None:
    """Serve until a signal comes. Raises HalfdropError if it cannot start."""
    stop = stop_on_signals()
    port = claim_port(settings.host, settings.port)
    terms = read_pools(Path(settings.pools)) if settings.pools else {}
    source = choose_source(settings)
    looking = Streams()
    with ExitStack() as closing:
        shards = [Shard(str(number)) for number in range(count_shards(settings.shards))]
        for shard in shards:
            closing.callback(shard.close)
        planner = Planner(source, shards, terms=terms, learn_days=settings.learn_days, days_kept=settings.days_kept)
        app = make_app(planner, looking, hosts=tuple(name for name in settings.hosts.split(",") if name))
        async with asyncio.TaskGroup() as tasks:
            work = [tasks.create_task(planner.take_in()), tasks.create_task(planner.forecasting.run())]
            async with serve(app, host=settings.host, port=port, grace_s=settings.grace_s):
                log.info("forecaster_ready", url=f"http://{settings.host}:{port}", source=source.name)
                await stop.wait()
                log.info("forecaster_stopping")
                looking.stopping = True
                planner.tell()
            for task in work:
                task.cancel()


def choose_source(settings: ForecasterSettings) -> DemandSource:
    """Return where demand comes from."""
    if settings.history:
        return FileSource(Path(settings.history))
    raise InvalidInput(f"{PREFIX}HISTORY", got="nothing", allowed="a file (--history FILE)")
