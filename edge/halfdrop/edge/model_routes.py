"""HTTP: the model by the names that Replicate's clients use, so that `replicate.run("halfdrop/house", …)` works."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, get, post

from halfdrop.contracts.errors import NotFound
from halfdrop.edge.access import needs
from halfdrop.edge.openapi import describe_model
from halfdrop.edge.prediction_routes import answer_new_prediction
from halfdrop.edge.predictions import OWNER
from halfdrop.edge.services import EdgeServices
from halfdrop.models.bundle import MANIFEST_NAME


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A model bundle in Replicate's shape."""

    id: str
    """The bundle's digest."""

    created_at: str
    """When the bundle was put where the edge found it."""

    cog_version: str
    """Asked for by clients; we use no Cog."""

    openapi_schema: dict[str, Any]
    """Schemas `Input` and `Output`."""


@post("/v1/models/{owner:str}/{name:str}/predictions", status_code=201, guards=[needs("orders")])
async def create_model_prediction(
    request: Request[Any, Any, Any], edge: EdgeServices, owner: str, name: str
) -> Response[bytes]:
    """Accept an order for a model named in the path."""
    _check_name(edge, owner, name)
    return await answer_new_prediction(request, edge)


@get("/v1/models/{owner:str}/{name:str}/versions/{version:str}", guards=[needs(None)])
async def get_model_version(edge: EdgeServices, owner: str, name: str, version: str) -> Response[bytes]:
    """Describe a version of the model: its inputs and outputs."""
    _check_name(edge, owner, name)
    bundle = edge.previews.bundle
    if not bundle.answers_to(version):
        raise NotFound(f"model {owner}/{name} has no version {version[:80]!r}; it has {bundle.digest}")
    placed_s = (bundle.directory / MANIFEST_NAME).stat().st_mtime
    found = ModelVersion(
        id=bundle.digest,
        created_at=datetime.fromtimestamp(placed_s, UTC).isoformat(timespec="seconds"),
        cog_version="",
        openapi_schema=describe_model(),
    )
    return Response(msgspec.json.encode(found), media_type=MediaType.JSON)


def _check_name(edge: EdgeServices, owner: str, name: str) -> None:
    bundle = edge.previews.bundle
    if owner != OWNER or not bundle.answers_to(name):
        raise NotFound(f"no model is called {owner[:40]}/{name[:40]}; this edge has {OWNER}/{bundle.name}")
