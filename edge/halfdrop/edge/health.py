"""What works and what does not. 200 as long as previews can be served, because that is what an edge is for."""

from typing import Any, Literal

import msgspec
from litestar import MediaType, Request, Response, get

from halfdrop.edge.access import SCOPE_NAME
from halfdrop.edge.degradation import Part
from halfdrop.edge.hot_set import HotStats
from halfdrop.edge.services import EdgeServices


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of GET /healthz, as known a second ago. `status` is "degraded" when a part is away, full or busy that the
    edge can do without."""

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
    parts: dict[str, Part] = {
        "model": _model_part(edge),
        **edge.degradation.parts(),
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


def _model_part(edge: EdgeServices) -> Part:
    bundle, refused = edge.previews.bundle, edge.models.refused if edge.models else ""
    detail = f"{bundle.name}-{bundle.version}:{bundle.digest}"
    return Part(state="ok", detail=f"{detail}; refused: {refused}" if refused else detail)
