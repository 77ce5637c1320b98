"""Every metric of an edge, named in one place and read from the edge's own state when Prometheus asks.

GET /metrics shows them to an admin's key (on an open edge, to everybody, who is local then). Prometheus itself should
have no such key: HALFDROP_EDGE_METRICS_PORT opens a listener of its own for it, which nobody else can reach.
"""

import time
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from typing import Any

from litestar import Request, Response, get
from prometheus_client.core import Metric

from halfdrop.cache.tiered import CacheStats
from halfdrop.contracts.jobs import JobState
from halfdrop.edge.access import needs
from halfdrop.edge.services import EdgeServices, Services
from halfdrop.edge.webhooks.metrics import FAMILIES as WEBHOOK_FAMILIES
from halfdrop.edge.webhooks.metrics import read_webhooks
from halfdrop.runtime.exposition import Family, encode_metrics, make_registry

PICTURE_ROUTE = "/p/{name}"
"""Where the shelf's hits are counted: the front answers them before any route is looked for."""

BUILD = Family(name="halfdrop_edge_build_info", kind="gauge", meaning="1; who this is", labels=("version", "model"))
REQUESTS = Family(
    name="halfdrop_http_requests_total",
    kind="counter",
    meaning="answers; `cache` is shelf (from the front, ready-made), hit, miss or none",
    labels=("route", "method", "status", "cache"),
)
DURATIONS = Family(
    name="halfdrop_http_request_duration_seconds",
    kind="histogram",
    meaning="from the request's head to the answer's end; without the shelf's hits; of a stream, how long it was open",
    labels=("route", "method"),
)
IN_FLIGHT = Family(name="halfdrop_http_requests_in_flight", kind="gauge", meaning="requests being answered now")
PROBLEMS = Family(
    name="halfdrop_http_problems_total",
    kind="counter",
    meaning="refusals and failures by the code of their problem document; 429s are `quota-exceeded` (a tenant's rate "
    "limit) and `overloaded` (too much waits here)",
    labels=("route", "code"),
)
PICTURES = Family(
    name="halfdrop_previews_sent_total",
    kind="counter",
    meaning="previews sent: none (drawn now), exact (this very one was there), variant, near",
    labels=("reuse",),
)
DRAWN = Family(name="halfdrop_previews_drawn_total", kind="counter", meaning="times that the model or composer worked")
DRAWING = Family(
    name="halfdrop_preview_drawing_duration_seconds", kind="histogram", meaning="one drawing, without its wait"
)
WAITING = Family(
    name="halfdrop_previews_waiting", kind="gauge", meaning="drawings under way or waiting; HALFDROP_EDGE_PREVIEWS_MAX"
)
TIER_HITS = Family(name="halfdrop_cache_hits_total", kind="counter", meaning="values found in a tier", labels=("tier",))
TIER_MISSES = Family(name="halfdrop_cache_misses_total", kind="counter", meaning="values not there", labels=("tier",))
TIER_ERRORS = Family(
    name="halfdrop_cache_errors_total", kind="counter", meaning="reads and writes that failed", labels=("tier",)
)
TIER_DAMAGED = Family(
    name="halfdrop_cache_damaged_total",
    kind="counter",
    meaning="values thrown away: not what was put",
    labels=("tier",),
)
TIER_SKIPS = Family(
    name="halfdrop_cache_skips_total",
    kind="counter",
    meaning="reads and writes left out because the tier had just failed",
    labels=("tier",),
)
TIER_AWAY = Family(
    name="halfdrop_cache_away", kind="gauge", meaning="1 if the tier failed when last tried", labels=("tier",)
)
FILLS = Family(name="halfdrop_cache_fills_total", kind="counter", meaning="values made because no tier had them")
SHARED = Family(
    name="halfdrop_cache_shared_flights_total", kind="counter", meaning="values that another edge was making just then"
)
REGION_ERRORS = Family(
    name="halfdrop_cache_region_errors_total", kind="counter", meaning="failures to agree with the region who makes it"
)
FLUSHES = Family(
    name="halfdrop_cache_memory_flushes_total", kind="counter", meaning="times memory was emptied after an outage"
)
DROPPED = Family(
    name="halfdrop_cache_dropped_writes_total", kind="counter", meaning="background writes left out: too many waited"
)
SPARED = Family(name="halfdrop_cache_spared_total", kind="counter", meaning="look-ups of what was just found missing")
OWED = Family(name="halfdrop_cache_owed", kind="gauge", meaning="values that the object store gets when it is back")
OWED_LOST = Family(
    name="halfdrop_cache_owed_lost_total",
    kind="counter",
    meaning="of those, forgotten by the faster tiers first",
)
DEGRADED = Family(
    name="halfdrop_degraded",
    kind="gauge",
    meaning="1 for a part that is away, full or busy, as in /healthz",
    labels=("part",),
)
ACCEPTED = Family(name="halfdrop_orders_accepted_total", kind="counter", meaning="orders taken into OUTBOX")
OPEN = Family(
    name="halfdrop_orders_open", kind="gauge", meaning="orders of this edge that are not finished", labels=("state",)
)
UNFORWARDED = Family(
    name="halfdrop_orders_unforwarded", kind="gauge", meaning="orders in OUTBOX that no hub is known to have"
)
OLDEST = Family(
    name="halfdrop_orders_unforwarded_oldest_age_seconds", kind="gauge", meaning="age of the oldest of them, or 0"
)
FORWARDED = Family(name="halfdrop_orders_forwarded_total", kind="counter", meaning="orders that a hub acknowledged")
FAILURES = Family(
    name="halfdrop_hub_failures_total", kind="counter", meaning="tries of forwarder and follower that the hub failed"
)
FOLLOWED = Family(name="halfdrop_hub_events_followed_total", kind="counter", meaning="statuses received from hubs")
LINK = Family(
    name="halfdrop_hub_link",
    kind="gauge",
    meaning="1 for what the way to the hub is: up, down, unknown",
    labels=("state",),
)
REGION_UP = Family(
    name="halfdrop_region_up",
    kind="gauge",
    meaning="1 if the region's hub answered when last asked",
    labels=("region",),
)
REGION_ORDERS = Family(
    name="halfdrop_region_orders_total",
    kind="counter",
    meaning="orders that the region's hub acknowledged; those of regions that are not home are spilled",
    labels=("region",),
)
CONNECTED = Family(name="halfdrop_nats_connected", kind="gauge", meaning="1 if the edge's own NATS server answers")
LISTENING = Family(
    name="halfdrop_clients_waiting", kind="gauge", meaning="open streams, and requests that wait for their order's end"
)

HOT = Family(name="halfdrop_hot_set_pictures", kind="gauge", meaning="pictures in the region's hot set")
PREFETCHED = Family(
    name="halfdrop_prefetched_total", kind="counter", meaning="pictures brought into memory before they were asked for"
)
PREFETCHED_BYTES = Family(
    name="halfdrop_prefetched_bytes_total", kind="counter", meaning="of those, from Redis or the object store"
)
PREFETCH_USED = Family(
    name="halfdrop_prefetched_used_total", kind="counter", meaning="prefetched pictures that were asked for afterwards"
)
PREFETCH_BUSY = Family(
    name="halfdrop_prefetch_breaks_total", kind="counter", meaning="rounds broken off because previews were being drawn"
)
SWAPS = Family(name="halfdrop_model_swaps_total", kind="counter", meaning="models put in another's place while serving")
REFUSED = Family(
    name="halfdrop_model_refused", kind="gauge", meaning="1 while the bundle that the alias means was refused"
)

DEMAND_TOLD = Family(
    name="halfdrop_demand_told_total",
    kind="counter",
    meaning="minutes of demand that this edge told of, once its own NATS server had them",
)
DEMAND_LOST = Family(
    name="halfdrop_demand_lost_total", kind="counter", meaning="of those, given up because nobody took them for days"
)

BATCHES_OPEN = Family(name="halfdrop_batches_open", kind="gauge", meaning="batches of this edge that are not over")
LINES_WAITING = Family(
    name="halfdrop_batch_lines_waiting", kind="gauge", meaning="their lines that are not placed as orders yet"
)
LINES_PLACED = Family(
    name="halfdrop_batch_lines_placed_total", kind="counter", meaning="lines of batches that became orders"
)
LINES_REFUSED = Family(
    name="halfdrop_batch_lines_refused_total", kind="counter", meaning="lines of batches that were wrong"
)

FAMILIES = (*(value for value in list(globals().values()) if isinstance(value, Family)), *WEBHOOK_FAMILIES)


@get("/metrics", guards=[needs("admin")])
async def get_metrics(request: Request[Any, Any, Any], edge: EdgeServices) -> Response[bytes]:
    """All metrics, in the form that Prometheus or an OpenMetrics reader asks for."""
    registry = make_registry(partial(read_metrics, edge))
    data, media_type = encode_metrics(registry, request.headers.get("accept", ""))
    return Response(data, media_type=media_type, headers={"Cache-Control": "no-store"})


def read_metrics(edge: Services) -> Iterator[Metric]:
    """Yield every family with its present values. May run in a thread beside the loop: it only reads, and copies."""
    yield BUILD.by([((version("halfdrop"), edge.previews.bundle.digest), 1)])
    yield from _read_traffic(edge)
    queue = edge.previews.previewer.queue
    yield DRAWN.of(queue.drawn)
    yield DRAWING.of(queue.durations)
    yield WAITING.of(queue.waiting)
    yield from _read_cache(edge.cache.stats())
    degraded = edge.degradation.degraded()
    yield DEGRADED.by(((part,), part in degraded) for part in edge.degradation.parts())
    yield from _read_orders(edge)
    link = {None: "unknown", True: "up", False: "down"}[edge.regions.is_up]
    yield LINK.by(((state,), state == link) for state in ("up", "down", "unknown"))
    links = edge.regions.links.values()
    yield FORWARDED.of(sum(link.forwarded for link in links))
    yield FOLLOWED.of(sum(link.followed for link in links))
    yield FAILURES.of(sum(link.failures for link in links))
    yield REGION_UP.by(((link.region,), link.is_up is True) for link in links)
    yield REGION_ORDERS.by(((link.region,), link.forwarded) for link in links)
    yield CONNECTED.of(edge.broker.is_connected)
    yield LISTENING.of(edge.listeners.count)
    hot = edge.hot.stats()
    yield HOT.of(hot.hot)
    yield PREFETCHED.of(hot.prefetched)
    yield PREFETCHED_BYTES.of(hot.prefetched_bytes)
    yield PREFETCH_USED.of(hot.used)
    yield PREFETCH_BUSY.of(hot.skipped_busy)
    yield SWAPS.of(edge.models.swaps if edge.models else 0)
    yield REFUSED.of(bool(edge.models and edge.models.refused))
    yield DEMAND_TOLD.of(edge.demand.counter.sent)
    yield DEMAND_LOST.of(edge.demand.counter.lost)
    batches = edge.batches.open()
    yield BATCHES_OPEN.of(len(batches))
    yield LINES_WAITING.of(sum(batch.counts().waiting for batch in batches))
    yield LINES_PLACED.of(edge.batches.lines_placed)
    yield LINES_REFUSED.of(edge.batches.room.lines_refused)
    yield from read_webhooks(edge.webhooks)


def _read_traffic(edge: Services) -> Iterator[Metric]:
    traffic = edge.observer.traffic
    shelf = edge.shelf.answered()
    hits = [((PICTURE_ROUTE, *labels, "shelf"), count) for labels, count in shelf.items()]
    yield REQUESTS.by([*hits, *list(traffic.requests.items())])
    yield DURATIONS.by(traffic.durations.items())
    yield IN_FLIGHT.of(traffic.in_flight)
    yield PROBLEMS.by(list(traffic.problems.items()))
    sent = {("none",): 0, ("exact",): 0, ("variant",): 0, ("near",): 0, **dict(traffic.pictures)}
    sent[("exact",)] += sum(shelf.values())
    yield PICTURES.by(sent.items())


def _read_cache(stats: CacheStats) -> Iterator[Metric]:
    tiers = stats.tiers
    yield TIER_HITS.by(((tier.name,), tier.hits) for tier in tiers)
    yield TIER_MISSES.by(((tier.name,), tier.misses) for tier in tiers)
    yield TIER_ERRORS.by(((tier.name,), tier.errors) for tier in tiers)
    yield TIER_DAMAGED.by(((tier.name,), tier.damaged) for tier in tiers)
    yield TIER_SKIPS.by(((tier.name,), tier.skips) for tier in tiers)
    yield TIER_AWAY.by(((tier.name,), tier.is_away) for tier in tiers)
    yield FILLS.of(stats.fills)
    yield SHARED.of(stats.shared_flights)
    yield REGION_ERRORS.of(stats.region_errors)
    yield FLUSHES.of(stats.memory_flushes)
    yield DROPPED.of(stats.dropped_writes)
    yield SPARED.of(stats.spared)
    yield OWED.of(stats.owed)
    yield OWED_LOST.of(stats.owed_lost)


def _read_orders(edge: Services) -> Iterator[Metric]:
    unfinished = edge.orders.unfinished()
    yield ACCEPTED.of(edge.orders.accepted)
    states = [state for state in JobState if not state.is_final]
    yield OPEN.by(((str(state),), sum(order.state is state for order in unfinished)) for state in states)
    waiting = [order.created_at for order in unfinished if order.queued_at is None and order.state is JobState.QUEUED]
    yield UNFORWARDED.of(len(waiting))
    yield OLDEST.of(max(0.0, time.time() - min(waiting)) if waiting else 0.0)
