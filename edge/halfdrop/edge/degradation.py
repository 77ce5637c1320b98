"""Degrading on purpose: which parts are away, full or busy, known within a second or two, in one place.

`Degradation.parts` is what GET /healthz tells and the metrics read; the header field Halfdrop-Degraded names those that
an answer suffers from. docs/degradation.md says for each what goes on and what a client sees.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from halfdrop.cache.disk import LmdbTier
from halfdrop.cache.guard import TierStats
from halfdrop.cache.tiered import PROBE_TIMEOUT_S, TieredCache
from halfdrop.contracts.errors import Unavailable
from halfdrop.edge.orders import OrderBook
from halfdrop.edge.regions import Regions
from halfdrop.edge.tenants import TenantPreviews
from halfdrop.runtime.broker import Broker

HEADER = "Halfdrop-Degraded"

PROBE_KEY = "0" * 32 + "/256"
"""A picture that no pattern has: asking for it proves that a tier answers."""

EVERY_S = 1.0
"""Pause between two rounds of probes. Each asks Redis, the object store and the hub one small thing."""

State = Literal["ok", "away", "full", "busy", "unknown"]


PREVIEW_PARTS: tuple[str, ...] = ("redis", "objects", "disk")
ORDER_PARTS: tuple[str, ...] = ("nats", "hub", "outbox", "objects")
_PARTS_BY_PATH: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("/v1/predictions", ORDER_PARTS),
    ("/v1/batches", ORDER_PARTS),
    ("/v1/models/", ORDER_PARTS),
    ("/v1/previews", PREVIEW_PARTS),
    ("/v1/images/", PREVIEW_PARTS),
    ("/p/", PREVIEW_PARTS),
)
"""What an answer to a path can suffer from. `previews` is not here: it concerns single answers (`note_reduced`)."""

_REDUCED = "halfdrop.reduced"
TOO_MANY = 429

Message = dict[str, Any]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that the edge uses. away: it does not answer; full: it takes nothing new; busy: answers are reduced."""

    state: State
    detail: str = ""


class Degradation:
    """The state of all that an edge can do without."""

    def __init__(
        self,
        *,
        cache: TieredCache,
        disk: LmdbTier,
        broker: Broker,
        regions: Regions,
        orders: OrderBook,
        previews: TenantPreviews,
    ) -> None:
        self._cache = cache
        self._disk = disk
        self._broker = broker
        self._regions = regions
        self._orders = orders
        self._previews = previews
        self._nats_error = ""

    async def follow(self) -> None:
        """Probe for ever."""
        while True:
            await self.probe()
            await asyncio.sleep(EVERY_S)

    async def probe(self) -> None:
        """Learn the state of what is outside this process; takes as long as the slowest time limit."""
        await asyncio.gather(self._cache.probe(PROBE_KEY), self._regions.probe(), self._look_at_outbox())

    def parts(self) -> dict[str, Part]:
        """Return the state of each part, as last seen."""
        stats = self._cache.stats()
        tiers = {tier.name: tier for tier in stats.tiers}
        owed = f"{stats.owed} values wait to be written" if stats.owed else ""
        hub: State = {None: "unknown", True: "ok", False: "away"}[self._regions.is_up]  # type: ignore[assignment]
        nats = self._nats_error or ("" if self._broker.is_connected else "reconnecting")
        full, short = self._orders.full, self._disk.shortage
        return {
            "nats": Part(state="away", detail=nats) if nats else Part(state="ok"),
            "hub": Part(state=hub, detail=self._regions.detail),
            "redis": _tier_part(tiers["redis"]),
            "objects": _tier_part(tiers["objects"], owed),
            "disk": Part(state="full", detail=short) if short else Part(state="ok"),
            "outbox": Part(state="full", detail=full) if full else Part(state="ok"),
            "previews": Part(state="busy" if self._previews.is_busy else "ok"),
        }

    def degraded(self) -> list[str]:
        """Return the names of the parts that are away, full or busy."""
        return [name for name, part in self.parts().items() if part.state not in ("ok", "unknown")]

    def marking(self, inner: App) -> App:
        """Return `inner` with the header field on those of its answers that suffer from something."""

        async def answer(scope: Any, receive: Any, send: Send) -> None:
            suffers_from = _parts_of(scope["path"]) if scope["type"] == "http" else ()
            if not suffers_from:
                await inner(scope, receive, send)
                return

            async def send_marked(message: Message) -> None:
                if message["type"] == "http.response.start":
                    names = self._names(scope, suffers_from, message["status"])
                    # What a cache may keep says nothing of the moment: the picture is right, whatever is away.
                    if names and not _may_be_stored(message["headers"]):
                        field = (HEADER.lower().encode(), ", ".join(names).encode())
                        message = {**message, "headers": [*message["headers"], field]}
                await send(message)

            await inner(scope, receive, send_marked)

        return answer

    def _names(self, scope: Any, suffers_from: tuple[str, ...], status: int) -> list[str]:
        degraded = self.degraded()
        names = [name for name in degraded if name in suffers_from]
        if scope.get(_REDUCED) or (status == TOO_MANY and "previews" in degraded):
            names.append("previews")
        return names

    async def _look_at_outbox(self) -> None:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await self._orders.look_at_outbox()
        except (Unavailable, TimeoutError) as error:
            self._nats_error = str(error) or f"no answer within {PROBE_TIMEOUT_S:g} s"
        else:
            self._nats_error = ""


def _tier_part(tier: TierStats, more: str = "") -> Part:
    return Part(state="away" if tier.is_away else "ok", detail="; ".join(filter(None, (tier.error, more))))


def note_reduced(scope: Any) -> None:
    """Have the answer to this request say that it is less than what was asked for."""
    scope[_REDUCED] = True


def _parts_of(path: str) -> tuple[str, ...]:
    return next((parts for start, parts in _PARTS_BY_PATH if path.startswith(start)), ())


def _may_be_stored(headers: Any) -> bool:
    return any(name.lower() == b"cache-control" and b"max-age" in value for name, value in headers)
