"""The planner from start to stop. What it knows is in memory and is learnt again at the next start."""

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.subjects import hub_domain
from halfdrop.forecaster.app import make_app
from halfdrop.forecaster.service.calendars import LOOK_EVERY_S, HubCalendar, OwnCalendar
from halfdrop.forecaster.service.hindsight import quietly
from halfdrop.forecaster.service.metrics import read_metrics
from halfdrop.forecaster.service.planner import Planner
from halfdrop.forecaster.service.policies import Policies, follow_calendar
from halfdrop.forecaster.service.pools import read_pools
from halfdrop.forecaster.service.publishing import Publisher
from halfdrop.forecaster.service.replays import Replays
from halfdrop.forecaster.service.serving import serve
from halfdrop.forecaster.service.settings import PREFIX, PlannerSettings
from halfdrop.forecaster.service.shards import Shard, count_shards
from halfdrop.forecaster.service.sources import DemandSource, FileSource, HistorySource
from halfdrop.forecaster.service.streams import Streams
from halfdrop.runtime.exposition import add_reader
from halfdrop.runtime.lifecycle import end_tasks, stop_on_signals
from halfdrop.runtime.objects import ObjectStore
from halfdrop.runtime.serving import claim_port

log = structlog.get_logger()


async def run_planner(
    settings: PlannerSettings,
    *,
    objects: ObjectStore | None = None,
    hubs: dict[str, str] | None = None,
    registry: CollectorRegistry | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until a signal comes, or `stop` is set. Raises HalfdropError if it cannot start.

    objects: the demand history lies there, and applied policies are kept there. hubs: URL of each region's hub, home
    first; plans are published there. Both are needed unless the settings name a history file. registry: of the
    process's metrics, which gets the planner's.
    """
    stop = stop or stop_on_signals()
    port = claim_port(settings.host, settings.port, choose=f"--port or {PREFIX}PORT")
    terms = read_pools(Path(settings.pools)) if settings.pools else {}
    source = choose_source(settings, objects)
    hubs = hubs or {}
    calendar = HubCalendar(next(iter(hubs.values())), domain=hub_domain(next(iter(hubs)))) if hubs else OwnCalendar()
    looking, replays = Streams(), Replays()
    with ExitStack() as closing:
        shards = [Shard(str(number)) for number in range(count_shards(settings.shards))]
        for shard in shards:
            closing.callback(shard.close)
        planner = Planner(
            source,
            shards,
            terms=terms,
            calendar=calendar,
            learn_days=settings.learn_days,
            days_kept=settings.days_kept,
        )
        policies = Policies(planner, objects)
        planner.know(await policies.load())
        if registry is not None:
            add_reader(registry, partial(read_metrics, planner))
        app = make_app(
            planner,
            looking,
            replays=replays,
            policies=policies,
            hosts=tuple(name for name in settings.hosts.split(",") if name),
        )
        endless: list[Coroutine[Any, Any, None]] = [
            planner.take_in(),
            planner.forecasting.run(),
            replays.run(),
            quietly(planner, replays),
            follow_calendar(planner, LOOK_EVERY_S),
        ]
        if isinstance(calendar, HubCalendar):
            endless.append(calendar.keep_connected())
        if hubs:
            publisher = Publisher(planner, hubs)
            endless.extend(publisher.run(region) for region in hubs)
        async with asyncio.TaskGroup() as tasks:
            work = [tasks.create_task(each) for each in endless]
            async with serve(app, host=settings.host, port=port, grace_s=settings.grace_s):
                log.info("planner_ready", url=f"http://{settings.host}:{port}", source=source.name)
                await stop.wait()
                log.info("planner_stopping")
                looking.stopping = True
                planner.tell()
            await end_tasks(work)


def choose_source(settings: PlannerSettings, objects: ObjectStore | None) -> DemandSource:
    """Return where demand comes from."""
    if settings.history:
        return FileSource(Path(settings.history))
    if objects is None:
        raise InvalidInput(f"{PREFIX}HISTORY", got="nothing", allowed="a file (--history FILE), or an object store")
    return HistorySource(objects, days=settings.days_kept)
