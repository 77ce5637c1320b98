"""HTTP: the model as OpenAI's clients list it, and by the names that Replicate's clients use, so that
`replicate.run("halfdrop/house", …)` works.
"""

from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from litestar import MediaType, Request, Response, get, post

from halfdrop.contracts.errors import NotFound
from halfdrop.edge.access import access_of, needs
from halfdrop.edge.model_answers import ListedModel, ModelList
from halfdrop.edge.prediction_routes import answer_new_prediction
from halfdrop.edge.predictions import OWNER
from halfdrop.edge.schemas import describe_model
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


class ModelVersionPage(msgspec.Struct, frozen=True, kw_only=True):
    """The versions that this edge serves: one."""

    results: list[ModelVersion]
    next: str | None = None
    previous: str | None = None


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model in Replicate's shape."""

    url: str
    """Address of this description."""

    owner: str
    name: str
    description: str
    visibility: Literal["public"]
    run_count: int
    """Your orders that this edge knows of."""

    latest_version: ModelVersion


@get("/v1/models", guards=[needs(None)])
async def list_models(edge: EdgeServices) -> Response[bytes]:
    """List the names of the model that this edge draws with, in OpenAI's shape."""
    names = (edge.previews.bundle.name, f"{edge.previews.bundle.name}-{edge.previews.bundle.version}")
    models = ModelList(data=[_list_model(edge, name) for name in names])
    return Response(msgspec.json.encode(models), media_type=MediaType.JSON)


@get("/v1/models/{name:str}", guards=[needs(None)])
async def get_listed_model(edge: EdgeServices, name: str) -> Response[bytes]:
    """Describe a model by any of its names, in OpenAI's shape."""
    _check_name(edge, OWNER, name)
    return Response(msgspec.json.encode(_list_model(edge, name)), media_type=MediaType.JSON)


@get("/v1/models/{owner:str}/{name:str}", guards=[needs(None)])
async def get_model(request: Request[Any, Any, Any], edge: EdgeServices, owner: str, name: str) -> Response[bytes]:
    """Describe the model that this edge draws with."""
    _check_name(edge, owner, name)
    found = Model(
        url=f"{str(request.base_url).rstrip('/')}/v1/models/{OWNER}/{edge.previews.bundle.name}",
        owner=OWNER,
        name=edge.previews.bundle.name,
        description="Seamless repeats for textiles, wallpaper and print, from a prompt.",
        visibility="public",
        run_count=edge.orders.count(access_of(request).tenant),
        latest_version=_describe_version(edge),
    )
    return Response(msgspec.json.encode(found), media_type=MediaType.JSON, headers={"Cache-Control": "no-store"})


@get("/v1/models/{owner:str}/{name:str}/versions", guards=[needs(None)])
async def list_model_versions(edge: EdgeServices, owner: str, name: str) -> Response[bytes]:
    """List the versions that can be ordered here."""
    _check_name(edge, owner, name)
    page = ModelVersionPage(results=[_describe_version(edge)])
    return Response(msgspec.json.encode(page), media_type=MediaType.JSON)


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
    if not edge.previews.bundle.answers_to(version):
        raise NotFound(f"model {owner}/{name} has no version {version[:80]!r}; it has {edge.previews.bundle.digest}")
    return Response(msgspec.json.encode(_describe_version(edge)), media_type=MediaType.JSON)


def _describe_version(edge: EdgeServices) -> ModelVersion:
    return ModelVersion(
        id=edge.previews.bundle.digest,
        created_at=datetime.fromtimestamp(_placed_s(edge), UTC).isoformat(timespec="seconds"),
        cog_version="",
        openapi_schema=describe_model(),
    )


def _list_model(edge: EdgeServices, name: str) -> ListedModel:
    return ListedModel(id=name, created=int(_placed_s(edge)))


def _placed_s(edge: EdgeServices) -> float:
    return (edge.previews.bundle.directory / MANIFEST_NAME).stat().st_mtime


def _check_name(edge: EdgeServices, owner: str, name: str) -> None:
    bundle = edge.previews.bundle
    if owner != OWNER or not bundle.answers_to(name):
        raise NotFound(f"no model is called {owner[:40]}/{name[:40]}; this edge has {OWNER}/{bundle.name}")
