"""One hub process, from its settings to its last ack: resources open in order and close in reverse."""

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import structlog

from halfdrop.contracts.errors import HalfdropError, PermanentError
from halfdrop.contracts.subjects import hub_domain
from halfdrop.hub.interruption import watch_for_interruption
from halfdrop.hub.metrics import read_metrics
from halfdrop.hub.refining import PlateRefiner
from halfdrop.hub.sampler import Sampler
from halfdrop.hub.settings import PREFIX, HubSettings
from halfdrop.hub.withdrawing import withdraw_canceled
from halfdrop.hub.worker import Hub, run_worker
from halfdrop.models.bundle import peek_bundle, shipped_bundle_dir, shipped_refiner_dir
from halfdrop.runtime.broker import open_broker
from halfdrop.runtime.exposition import make_registry, serve_metrics
from halfdrop.runtime.lifecycle import stop_on_signals
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
            asyncio.run(_run(settings, tracing))
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
        ) as sampler,
        PlateRefiner(refiner_dir, bundle_dir, device=settings.device, enabled=settings.refine) as refiner,
    ):
        async with open_broker(settings.nats_url, name=settings.name, domain=hub_domain(settings.region)) as broker:
            hub = Hub(
                settings=settings,
                broker=broker,
                objects=objects,
                sampler=sampler,
                refiner=refiner,
                threads=threads,
                models=await asyncio.to_thread(_sampled_models, bundle_dir),
                tracing=tracing,
            )
            with serve_metrics(
                make_registry(partial(read_metrics, hub.tally, partial(_load_seconds, hub), hub.sampler)),
                host=settings.metrics_host,
                port=settings.metrics_port,
                setting=f"{PREFIX}METRICS_PORT",
            ):
                log.info("hub_ready", objects_url=settings.objects_url)
                async with asyncio.TaskGroup() as tasks:
                    warming = tasks.create_task(_warm_once_bound(hub)) if settings.warm else None
                    tasks.create_task(watch_for_interruption(settings.interruption_file, stop))
                    withdrawing = tasks.create_task(withdraw_canceled(broker, objects, hub.clock))
                    await run_worker(hub, stop)
                    withdrawing.cancel()
                    if warming is not None:
                        warming.cancel()
    log.info("hub_stopped")


def _load_seconds(hub: Hub) -> dict[str, float]:
    """Return how long each model that is loaded took to load."""
    seconds = {**hub.sampler.pool.counters.load_seconds, "house-render": hub.refiner.load_s}
    return {model: load_s for model, load_s in seconds.items() if load_s is not None}


def _sampled_models(bundle_dir: Path) -> tuple[str, ...]:
    """Return the digest of the bundle that the sampler loads when it must; none if there is no such bundle."""
    try:
        return (peek_bundle(bundle_dir).digest,)
    except PermanentError as error:
        log.error("model_unavailable", error=error.detail)
        return ()


async def _warm_once_bound(hub: Hub) -> None:
    # Importing torch holds the interpreter for seconds; jobs that bring their plates should not wait for it.
    await hub.bound.wait()
    await hub.refiner.warm()
    await hub.sampler.warm()
