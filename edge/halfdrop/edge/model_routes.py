"""HTTP: the model as OpenAI's clients list it, and by the names that Replicate's clients use, so that
`replicate.run("halfdrop/house", …)` works.
"""

from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from litestar import MediaType, Request, Response, get, post

from halfdrop.contracts.errors import NotFound
from halfdrop.contracts.imported import ImportedModel, find_imported, say_models
from halfdrop.edge.access import access_of, needs
from halfdrop.edge.model_answers import ListedModel, ModelList
from halfdrop.edge.prediction_routes import answer_new_prediction
from halfdrop.edge.predictions import OWNER
from halfdrop.edge.schemas import describe_model
from halfdrop.edge.services import EdgeServices
from halfdrop.models.bundle import MANIFEST_NAME

HOUSE_IS = "Seamless repeats for textiles, wallpaper and print, from a prompt."
IMPORTED_IS = "A user's checkpoint, family {family}, trained at {native_px} px: paints seamless repeats on a hub."


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
    """List the names of the model that this edge draws with, and those that hubs have of their users, in OpenAI's
    shape."""
    names = (edge.previews.bundle.name, f"{edge.previews.bundle.name}-{edge.previews.bundle.version}")
    imported = [_list_imported(model) for model in edge.pools.imported()]
    models = ModelList(data=[*(_list_model(edge, name) for name in names), *imported])
    return Response(msgspec.json.encode(models), media_type=MediaType.JSON)


@get("/v1/models/{name:str}", guards=[needs(None)])
async def get_listed_model(edge: EdgeServices, name: str) -> Response[bytes]:
    """Describe a model by any of its names, in OpenAI's shape."""
    model = _find_model(edge, OWNER, name)
    listed = _list_model(edge, name) if model is None else _list_imported(model)
    return Response(msgspec.json.encode(listed), media_type=MediaType.JSON)


@get("/v1/models/{owner:str}/{name:str}", guards=[needs(None)])
async def get_model(request: Request[Any, Any, Any], edge: EdgeServices, owner: str, name: str) -> Response[bytes]:
    """Describe a model that can be ordered here."""
    model = _find_model(edge, owner, name)
    called = edge.previews.bundle.name if model is None else model.name
    found = Model(
        url=f"{str(request.base_url).rstrip('/')}/v1/models/{OWNER}/{called}",
        owner=OWNER,
        name=called,
        description=HOUSE_IS if model is None else IMPORTED_IS.format(family=model.family, native_px=model.native_px),
        visibility="public",
        run_count=edge.orders.count(access_of(request).tenant),
        latest_version=_describe_version(edge, model),
    )
    return Response(msgspec.json.encode(found), media_type=MediaType.JSON, headers={"Cache-Control": "no-store"})


@get("/v1/models/{owner:str}/{name:str}/versions", guards=[needs(None)])
async def list_model_versions(edge: EdgeServices, owner: str, name: str) -> Response[bytes]:
    """List the versions that can be ordered here."""
    page = ModelVersionPage(results=[_describe_version(edge, _find_model(edge, owner, name))])
    return Response(msgspec.json.encode(page), media_type=MediaType.JSON)


@post("/v1/models/{owner:str}/{name:str}/predictions", status_code=201, guards=[needs("orders")])
async def create_model_prediction(
    request: Request[Any, Any, Any], edge: EdgeServices, owner: str, name: str
) -> Response[bytes]:
    """Accept an order for a model named in the path."""
    model = _find_model(edge, owner, name)
    return await answer_new_prediction(request, edge, model=None if model is None else model.digest)


@get("/v1/models/{owner:str}/{name:str}/versions/{version:str}", guards=[needs(None)])
async def get_model_version(edge: EdgeServices, owner: str, name: str, version: str) -> Response[bytes]:
    """Describe a version of the model: its inputs and outputs."""
    model = _find_model(edge, owner, name)
    bundle = edge.previews.bundle
    if not (bundle.answers_to(version) if model is None else model.answers_to(version)):
        digest = bundle.digest if model is None else model.digest
        raise NotFound(f"model {owner}/{name} has no version {version[:80]!r}; it has {digest}")
    return Response(msgspec.json.encode(_describe_version(edge, model)), media_type=MediaType.JSON)


def _describe_version(edge: EdgeServices, model: ImportedModel | None) -> ModelVersion:
    return ModelVersion(
        id=edge.previews.bundle.digest if model is None else model.digest,
        created_at=datetime.fromtimestamp(_placed_s(edge), UTC).isoformat(timespec="seconds"),
        cog_version="",
        openapi_schema=describe_model(is_imported=model is not None),
    )


def _list_model(edge: EdgeServices, name: str) -> ListedModel:
    return ListedModel(id=name, created=int(_placed_s(edge)), digest=edge.previews.bundle.digest)


def _list_imported(model: ImportedModel) -> ListedModel:
    return ListedModel(
        id=model.name,
        created=0,
        owned_by="user",
        digest=model.digest,
        kind=model.kind,
        family=model.family,
        has_previews=False,
        native_px=model.native_px or None,
    )


def _placed_s(edge: EdgeServices) -> float:
    return (edge.previews.bundle.directory / MANIFEST_NAME).stat().st_mtime


def _find_model(edge: EdgeServices, owner: str, name: str) -> ImportedModel | None:
    """Return the imported model of that name; None for the one that this edge draws with. Raises NotFound."""
    bundle, known = edge.previews.bundle, edge.pools.imported()
    if owner == OWNER and bundle.answers_to(name):
        return None
    model = find_imported(known, name) if owner == OWNER else None
    if model is None:
        there_are = f"this edge has {OWNER}/{bundle.name}; imported, as pools tell now: {say_models(known)}"
        raise NotFound(f"no model is called {owner[:40]}/{name[:40]}; {there_are}")
    return model
