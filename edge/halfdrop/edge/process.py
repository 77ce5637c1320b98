"""The edge from start to stop.

Resources open in the order below and close in reverse; a signal ends the streams, lets requests in flight finish, waits
for what is owed where it is told to, and then stops forwarder and follower. Whatever they had in hand is in OUTBOX yet,
and comes again.
"""

import asyncio
import time
from collections.abc import Coroutine
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from halfdrop.cache.disk import open_lmdb_tier
from halfdrop.cache.memory import MemoryTier
from halfdrop.cache.objects import ObjectTier
from halfdrop.cache.regional import open_redis_tier
from halfdrop.cache.tiered import Region, TieredCache
from halfdrop.contracts.subjects import IDEMPOTENCY_BUCKET, edge_domain
from halfdrop.edge.access import Door, follow_keys, load_keys
from halfdrop.edge.app import make_app
from halfdrop.edge.at_rest import PatternForm
from halfdrop.edge.batch_book import open_batches
from halfdrop.edge.batch_ends import tell_ends
from halfdrop.edge.batch_feeder import feed_batches
from halfdrop.edge.batch_intake import BatchLimits
from halfdrop.edge.degradation import Degradation
from halfdrop.edge.demand import EdgeDemand, forward_demand
from halfdrop.edge.elsewhere import ask_hubs
from halfdrop.edge.estimates import Estimates
from halfdrop.edge.farewell import settle_debts
from halfdrop.edge.follower import follow_events
from halfdrop.edge.forwarder import forward_orders
from halfdrop.edge.hot_set import HotSet, keep_hot, share_hot_set
from halfdrop.edge.idempotency import IdempotencyKeys
from halfdrop.edge.limits import PREFIX as LIMITS_PREFIX
from halfdrop.edge.limits import RateLimits
from halfdrop.edge.listeners import Listeners
from halfdrop.edge.metrics import read_metrics
from halfdrop.edge.model_swap import open_model_swap
from halfdrop.edge.names import object_path
from halfdrop.edge.observing import Observer
from halfdrop.edge.orders import open_orders
from halfdrop.edge.overdue import cancel_overdue
from halfdrop.edge.pools import Pools, follow_pools
from halfdrop.edge.previewer import open_previewer
from halfdrop.edge.region_choice import SpillRule
from halfdrop.edge.regions import open_regions
from halfdrop.edge.reuse import ReusePools
from halfdrop.edge.server import serve
from halfdrop.edge.services import Services
from halfdrop.edge.settings import PREFIX, EdgeSettings, choose_bundle_dir, count_threads, is_open, region_names
from halfdrop.edge.shelf import Shelf
from halfdrop.edge.tenants import TenantPreviews
from halfdrop.edge.webhooks.opening import choose_policy, make_describe, open_webhooks
from halfdrop.models.bundle import open_bundle, shipped_bundle_dir
from halfdrop.models.template_shelf import open_shelf
from halfdrop.runtime.bandwidth import Bandwidth
from halfdrop.runtime.broker import open_broker
from halfdrop.runtime.exposition import make_registry, serve_metrics
from halfdrop.runtime.lifecycle import end_tasks, stop_on_signals
from halfdrop.runtime.objects import open_objects
from halfdrop.runtime.serving import claim_port
from halfdrop.runtime.streams import IDEMPOTENCY_KEPT_S, ensure_bucket
from halfdrop.runtime.tracing import Tracing

log = structlog.get_logger()

KIB, MIB = 2**10, 2**20


async def run_edge(settings: EdgeSettings, tracing: Tracing, *, began_s: float) -> None:
    """Open everything, serve, and close it again when a signal comes. Raises HalfdropError if it cannot start."""
    stop = stop_on_signals()
    port = claim_port(settings.host, settings.port, choose=f"{PREFIX}PORT")
    bundle = await asyncio.to_thread(open_bundle, choose_bundle_dir(settings, shipped_bundle_dir()))
    templates = open_shelf(Path(settings.templates_dir) if settings.templates_dir else None)
    objects = open_objects(settings.objects_url)
    door = Door(is_open=is_open(settings), address_ttl_s=settings.address_ttl_s)
    if not door.is_open:
        await load_keys(objects, door)
    redis_tier = open_redis_tier(settings.redis_url)
    object_tier = ObjectTier(objects, path_of=object_path, form=PatternForm())
    memory_tier = MemoryTier(settings.memory_mib * MIB)
    cache_dir = Path(settings.data_dir) / "cache"
    lmdb_tier = open_lmdb_tier(cache_dir, free_min_bytes=settings.disk_free_min_mib * MIB)
    region = Region(redis_tier, heard_path=cache_dir / "region-heard")
    shelf = Shelf(settings.shelf_mib * MIB, is_private=not door.is_open)
    listeners = Listeners()
    async with (
        aclosing(open_redis_tier(settings.redis_url, prefix=LIMITS_PREFIX)) as counters,
        TieredCache([memory_tier, lmdb_tier, redis_tier, object_tier], region=region, above=shelf) as cache,
        open_broker(settings.nats_url, name=f"edge-{settings.name}", domain=edge_domain(settings.name)) as broker,
        open_previewer(
            bundle, threads=count_threads(settings), waiting_max=settings.previews_max, tracing=tracing
        ) as previewer,
        asyncio.TaskGroup() as tasks,
    ):
        previews = TenantPreviews(bundle=bundle, previewer=previewer, cache=cache)
        del previewer  # a model that is replaced must not be kept alive from here
        models = await open_model_swap(settings, objects, previews)
        hot = HotSet()
        regions = open_regions(
            broker, region_names(settings), SpillRule(factor=settings.spill_factor, wait_min_s=settings.spill_min_s)
        )
        orders = await open_orders(broker, listeners, ask_elsewhere=partial(ask_hubs, regions.links.values()))
        batches = await open_batches(broker, objects, settings)
        listeners.watch(batches.note)
        pools = Pools(hand_on=regions.hear if regions.are_several else None)
        estimates = Estimates(pools, home=regions.home.region, unfinished=orders.unfinished())
        listeners.watch(estimates.note)
        describe = make_describe(settings, previews=previews, estimates=estimates, regions=regions, door=door)
        policy = choose_policy(settings, is_open=door.is_open)
        webhooks = await open_webhooks(broker, objects, policy=policy, describe=describe)
        orders.on_news = webhooks.record
        demand = EdgeDemand(
            broker, pools, edge=settings.name, home=regions.home.region, model=lambda: previews.bundle.name
        )
        orders.on_accepted = demand.note
        degradation = Degradation(
            cache=cache, disk=lmdb_tier, broker=broker, regions=regions, orders=orders, previews=previews
        )
        await degradation.probe()
        services = Services(
            name=settings.name,
            previews=previews,
            models=models,
            cache=cache,
            reuse=ReusePools(),
            door=door,
            limits=RateLimits(counters),
            shelf=shelf,
            hot=hot,
            orders=orders,
            batches=batches,
            batch_limits=BatchLimits(lines_max=settings.batch_lines_max, bytes_max=settings.batch_max_mib * MIB),
            pools=pools,
            estimates=estimates,
            idempotency=IdempotencyKeys(await ensure_bucket(broker.js, IDEMPOTENCY_BUCKET, kept_s=IDEMPOTENCY_KEPT_S)),
            webhooks=webhooks,
            listeners=listeners,
            regions=regions,
            broker=broker,
            objects=objects,
            degradation=degradation,
            templates=templates,
            demand=demand,
            observer=Observer(tracing),
            tracing=tracing,
        )
        work = [*_background(services, settings, memory_tier), demand.run()]
        background = [tasks.create_task(endless) for endless in work]
        app = make_app(services, body_s=settings.body_s, answer_s=settings.answer_s, batch_s=settings.batch_s)
        with serve_metrics(
            make_registry(partial(read_metrics, services)),
            host=settings.metrics_host,
            port=settings.metrics_port,
            setting=f"{PREFIX}METRICS_PORT",
        ):
            async with serve(app, host=settings.host, port=port, grace_s=settings.grace_s):
                log.info(
                    "edge_ready",
                    url=f"http://{settings.host}:{port}",
                    after_s=round(time.monotonic() - began_s, 2),
                    model=previews.bundle.digest,
                )
                await stop.wait()
                log.info("edge_stopping")
                listeners.close()
                batches.close()
            await settle_debts(services, settle_s=settings.settle_s)
        await end_tasks(background)


def _background(edge: Services, settings: EdgeSettings, memory: MemoryTier) -> list[Coroutine[Any, Any, None]]:
    """Return what an edge does beside answering, each until it is cancelled."""
    work: list[Coroutine[Any, Any, None]] = [
        forward_orders(edge.broker, edge.regions, edge.orders, edge.tracing),
        *(
            follow_events(edge.broker, link, edge.name, edge.orders, edge.tracing)
            for link in edge.regions.links.values()
        ),
        cancel_overdue(edge.orders),
        follow_pools(edge.broker, edge.pools),
        feed_batches(
            edge.batches, edge.orders, edge.previews, edge.objects, templates=edge.templates, origin=edge.name
        ),
        tell_ends(edge.batches, edge.webhooks),
        edge.webhooks.run(),
        forward_demand(edge.broker, edge.regions.home.js, edge.regions.home.region),
        edge.degradation.follow(),
        share_hot_set(edge.broker, edge.hot, edge=edge.name, region=settings.region),
    ]
    if settings.prefetch_kib_s:
        bandwidth = Bandwidth(settings.prefetch_kib_s * KIB)
        queue = edge.previews.previewer.queue
        work.append(keep_hot(edge.hot, edge.cache, memory, edge.shelf, queue=queue, bandwidth=bandwidth))
    if edge.models is not None:
        work.append(edge.models.follow())
    if not edge.door.is_open:
        work.append(follow_keys(edge.objects, edge.door))
    return work
