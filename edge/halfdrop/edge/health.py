"""What works and what does not. 200 as long as previews can be served, because that is what an edge is for."""

import asyncio
from collections.abc import Awaitable
from typing import Any, Literal

import msgspec
from litestar import MediaType, Request, Response, get

from halfdrop.contracts.errors import Unavailable
from halfdrop.edge.access import SCOPE_NAME
from halfdrop.edge.hot_set import HotStats
from halfdrop.edge.services import EdgeServices

PROBE_KEY = "0" * 32 + "/256"
"""A picture that no pattern has: asking for it proves that a tier answers."""

State = Literal["ok", "away", "unknown"]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that the edge uses."""

    state: State
    detail: str = ""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of GET /healthz. `status` is "degraded" when a part is away that the edge can do without."""

    status: Literal["ok", "degraded"]
    name: str
    parts: dict[str, Part]
    previews_drawn: int
    """Since the start; what came from a cache does not count."""

    clients_waiting: int
    """Open streams, and requests that wait for the end of their order."""

    hot_set: HotStats
    """What is hot in the region, and what was fetched before it was asked for."""


@get("/healthz")
async def get_health(request: Request[Any, Any, Any], edge: EdgeServices) -> Response[bytes]:
    """Tell each part's state; why it is so, to those who may know: on an open edge everybody, else an admin's key."""
    redis, objects = await asyncio.gather(
        _probe(edge.redis_tier.get(PROBE_KEY)), _probe(edge.object_tier.get(PROBE_KEY))
    )
    parts = {
        "model": _model_part(edge),
        "nats": Part(state="ok") if edge.broker.is_connected else Part(state="away", detail="reconnecting"),
        "hub": _hub_part(edge),
        "redis": redis,
        "objects": objects,
    }
    access = request.scope.get(SCOPE_NAME)
    if access is None or not access.may("admin"):  # type: ignore[attr-defined]
        parts = {name: Part(state=part.state) for name, part in parts.items()}
    status: Literal["ok", "degraded"] = "ok" if all(p.state == "ok" for p in parts.values()) else "degraded"
    health = Health(
        status=status,
        name=edge.name,
        parts=parts,
        previews_drawn=edge.previews.drawn,
        clients_waiting=edge.listeners.count,
        hot_set=edge.hot.stats(),
    )
    return Response(msgspec.json.encode(health), media_type=MediaType.JSON, headers={"Cache-Control": "no-store"})


async def _probe(asked: Awaitable[object]) -> Part:
    try:
        await asked
        return Part(state="ok")
    except Unavailable as error:
        return Part(state="away", detail=error.detail)


def _model_part(edge: EdgeServices) -> Part:
    bundle, refused = edge.previews.bundle, edge.models.refused if edge.models else ""
    detail = f"{bundle.name}-{bundle.version}:{bundle.digest}"
    return Part(state="ok", detail=f"{detail}; refused: {refused}" if refused else detail)


def _hub_part(edge: EdgeServices) -> Part:
    state: State = {None: "unknown", True: "ok", False: "away"}[edge.link.is_up]  # type: ignore[assignment]
    return Part(state=state, detail=edge.link.detail)
