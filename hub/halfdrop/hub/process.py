"""One hub process, from its settings to its last ack: resources open in order and close in reverse."""

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import structlog
import uvloop

from halfdrop.contracts.errors import HalfdropError, PermanentError
from halfdrop.contracts.subjects import hub_domain
from halfdrop.hub.demand import HubDemand, process_age_s
from halfdrop.hub.interruption import watch_for_interruption
from halfdrop.hub.metrics import read_metrics
from halfdrop.hub.refining import PlateRefiner
from halfdrop.hub.sampler import Sampler
from halfdrop.hub.settings import PREFIX, HubSettings
from halfdrop.hub.warming import Warmth, readiness, warm_models
from halfdrop.hub.withdrawing import withdraw_canceled
from halfdrop.hub.worker import Hub, run_worker
from halfdrop.models.bundle import Bundle, peek_bundle, shipped_bundle_dir, shipped_refiner_dir
from halfdrop.runtime.broker import open_broker
from halfdrop.runtime.exposition import make_registry, serve_metrics
from halfdrop.runtime.health import serve_health
from halfdrop.runtime.lifecycle import end_tasks, stop_on_signals
from halfdrop.runtime.logs import configure_logs
from halfdrop.runtime.objects import open_objects
from halfdrop.runtime.settings import load_settings
from halfdrop.runtime.tracing import Tracing, open_tracing

log = structlog.get_logger()


def main() -> None:
    """Run until SIGTERM or SIGINT, or a warning. What cannot even start says why in one line and exits with 1."""
    try:
        settings = load_settings(HubSettings, prefix=PREFIX, environ=os.environ)
        configure_logs(settings.name)
        with open_tracing("halfdrop-hub", settings.name) as tracing:
            uvloop.run(_run(settings, tracing))
    except HalfdropError as error:
        sys.exit("hub: " + " ".join(str(error).split()))  # a library's message may have several lines
    # All is closed. Only the sampler's thread may still be importing torch, which nothing can interrupt: an ordered
    # stop must not wait for what is no longer needed.
    sys.stderr.flush()
    os._exit(0)


async def _run(settings: HubSettings, tracing: Tracing) -> None:
    stop = stop_on_signals()
    objects = open_objects(settings.objects_url)
    bundle_dir = Path(settings.bundle_dir) if settings.bundle_dir else shipped_bundle_dir()
    refiner_dir = Path(settings.refiner_dir) if settings.refiner_dir else shipped_refiner_dir()
    with (
        ThreadPoolExecutor(settings.threads, thread_name_prefix="finishing") as threads,
        Sampler(
            bundle_dir,
            device=settings.device,
            threads=settings.threads,
            models_bytes=settings.models_mib * 2**20,
            precision=settings.precision,
            models_dir=Path(settings.models_dir) if settings.models_dir else None,
        ) as sampler,
        PlateRefiner(refiner_dir, bundle_dir, device=settings.device, enabled=settings.refine) as refiner,
    ):
        async with open_broker(settings.nats_url, name=settings.name, domain=hub_domain(settings.region)) as broker:
            bundle = await asyncio.to_thread(_sampled_bundle, bundle_dir)
            hub = Hub(
                settings=settings,
                broker=broker,
                objects=objects,
                sampler=sampler,
                refiner=refiner,
                threads=threads,
                models=() if bundle is None else (bundle.digest,),
                tracing=tracing,
                demand=HubDemand(settings, model="house" if bundle is None else bundle.name),
            )
            counter = hub.demand.counter if hub.demand else None
            warmth = Warmth(settings.wanted_models)
            with (
                serve_metrics(
                    make_registry(partial(read_metrics, hub.tally, partial(_load_seconds, hub), hub.sampler, counter)),
                    host=settings.metrics_host,
                    port=settings.metrics_port,
                    setting=f"{PREFIX}METRICS_PORT",
                ),
                serve_health(
                    host=settings.health_host,
                    port=settings.health_port,
                    setting=f"{PREFIX}HEALTH_PORT",
                    why_not_ready=partial(
                        readiness,
                        warmth,
                        is_bound=hub.bound.is_set,
                        is_connected=lambda: broker.is_connected,
                        is_stopping=stop.is_set,
                    ),
                    loop=asyncio.get_running_loop(),
                ),
            ):
                log.info("hub_ready", objects_url=settings.objects_url)
                async with asyncio.TaskGroup() as tasks:
                    booting = tasks.create_task(_boot(hub, warmth))
                    tasks.create_task(watch_for_interruption(settings.interruption_file, stop))
                    withdrawing = tasks.create_task(withdraw_canceled(broker, objects, hub.clock))
                    telling = tasks.create_task(hub.demand.tell(broker)) if hub.demand else None
                    await run_worker(hub, stop)
                    await end_tasks([task for task in (withdrawing, booting, telling) if task is not None])
    log.info("hub_stopped")


def _load_seconds(hub: Hub) -> dict[str, float]:
    """Return how long each model that is loaded took to load."""
    seconds = {**hub.sampler.pool.counters.load_seconds, "house-render": hub.refiner.load_s}
    return {model: load_s for model, load_s in seconds.items() if load_s is not None}


def _sampled_bundle(bundle_dir: Path) -> Bundle | None:
    """Return the bundle that the sampler loads when it must; None if there is no such bundle."""
    try:
        return peek_bundle(bundle_dir)
    except PermanentError as error:
        log.error("model_unavailable", error=error.detail)
        return None


async def _boot(hub: Hub, warmth: Warmth) -> None:
    """Take jobs once that is possible, and then load what is to be warm; the start is over when all of it is done."""
    await hub.bound.wait()
    if hub.demand is not None:
        hub.demand.begin()
    wanted = hub.settings.wanted_models
    if hub.settings.warm or wanted:
        # Importing torch holds the interpreter for seconds; jobs that bring their plates should not wait for it.
        await warm_models(wanted, warmth, sampler=hub.sampler, refiner=hub.refiner, digests=hub.models)
        await hub.refiner.warm()
        await hub.sampler.warm()
    if hub.demand is not None:
        hub.demand.note_boot(process_age_s())
