"""The Studio page and its files, read once at start: they are small, and belong to this version of the package."""

import mimetypes
from pathlib import Path
from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler

from halfdrop.contracts.errors import NotFound
from halfdrop.edge.shelf import make_etag, matches_etag

INDEX = "index.html"
POLICY = "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the page."""

    data: bytes
    media_type: str
    etag: str


def load_studio(directory: Path) -> dict[str, Asset]:
    """Return every file below `directory` by its path there."""
    files = (file for file in sorted(directory.rglob("*")) if file.is_file())
    return {file.relative_to(directory).as_posix(): _load(file) for file in files}


def studio_handlers(assets: dict[str, Asset]) -> list[HTTPRouteHandler]:
    """Return the handlers of / and /studio/… ."""

    @get("/")
    async def get_index(request: Request[Any, Any, Any]) -> Response[bytes]:
        """The Studio page."""
        return _answer(request, assets, INDEX)

    @get("/studio/{path:path}")
    async def get_asset(request: Request[Any, Any, Any], path: str) -> Response[bytes]:
        """A file of the Studio page."""
        return _answer(request, assets, str(path).lstrip("/"))

    return [get_index, get_asset]


def _answer(request: Request[Any, Any, Any], assets: dict[str, Asset], path: str) -> Response[bytes]:
    asset = assets.get(path)
    if asset is None:
        raise NotFound(f"the Studio page has no file {path[:60]!r}")
    headers = {
        "ETag": asset.etag,
        "Cache-Control": "no-cache",  # ask each time; unchanged files are a 304
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    if matches_etag(request.headers.get("if-none-match", ""), asset.etag):
        return Response(b"", status_code=304, headers=headers)
    return Response(asset.data, media_type=asset.media_type, headers=headers)


def _load(file: Path) -> Asset:
    data = file.read_bytes()
    media_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return Asset(data=data, media_type=media_type, etag=make_etag(data))
