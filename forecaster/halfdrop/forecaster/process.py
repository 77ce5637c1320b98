"""The forecaster from start to stop: one compactor for each region's hub, metrics, and the planner with its page.

Nothing waits for it and nothing stops with it: while it is away, what members tell stays in their hub's stream.
"""

import asyncio
from functools import partial

import structlog

from halfdrop.contracts.errors import HalfdropError
from halfdrop.contracts.subjects import hub_domain
from halfdrop.forecaster.compactor import Compactor, CompactorStats, run_compactor
from halfdrop.forecaster.demand_stream import open_demand_stream
from halfdrop.forecaster.metrics import read_metrics
from halfdrop.forecaster.service.process import run_planner
from halfdrop.forecaster.service.settings import PlannerSettings
from halfdrop.forecaster.settings import PREFIX, ForecasterSettings
from halfdrop.runtime.broker import open_broker
from halfdrop.runtime.exposition import make_registry, serve_metrics
from halfdrop.runtime.lifecycle import end_tasks, stop_on_signals
from halfdrop.runtime.objects import ObjectStore, open_objects
from halfdrop.runtime.streams import ensure_demand_stream

log = structlog.get_logger()

RECONNECT_S = 2.0


async def run_forecaster(settings: ForecasterSettings, planner: PlannerSettings) -> None:
    """Keep the demand history until a signal comes. Raises HalfdropError if it cannot start."""
    stop = stop_on_signals()
    hubs = settings.hub_urls
    objects = open_objects(settings.objects_url)
    stats = {region: CompactorStats() for region in hubs}
    registry = make_registry(partial(read_metrics, stats))
    with serve_metrics(
        registry,
        host=settings.metrics_host,
        port=settings.metrics_port,
        setting=f"{PREFIX}METRICS_PORT",
    ):
        async with asyncio.TaskGroup() as tasks:
            compacting = [
                tasks.create_task(
                    compact_region(region, url, objects, stats=stats[region], every_s=settings.compact_every_s)
                )
                for region, url in hubs.items()
            ]
            if planner.serve:
                planning = run_planner(planner, objects=objects, hubs=hubs, registry=registry, stop=stop)
                compacting.append(tasks.create_task(planning))
            log.info("forecaster_ready", regions=list(hubs), objects_url=settings.objects_url)
            await stop.wait()
            log.info("forecaster_stopping")
            await end_tasks(compacting[: len(hubs)])  # the planner ends by itself, in order


async def compact_region(region: str, url: str, objects: ObjectStore, *, stats: CompactorStats, every_s: float) -> None:
    """Compact one region's demand for ever, whatever of its hub is away."""
    while True:
        try:
            async with (
                open_broker(url, name="forecaster", domain=hub_domain(region)) as broker,
                open_demand_stream(broker) as stream,
            ):
                await ensure_demand_stream(broker.js)
                await run_compactor(Compactor(objects, stream, region, stats=stats), every_s=every_s)
        except HalfdropError as error:
            stats.failures += 1
            log.warning("demand_stream_away", region=region, error=str(error))
        await asyncio.sleep(RECONNECT_S)
