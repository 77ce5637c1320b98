"""The planner's page and its files, read once at start: they are small, and belong to this version of the package."""

import hashlib
import mimetypes
from pathlib import Path
from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from halfdrop.contracts.errors import NotFound

PAGE_DIR = Path(__file__).parents[1] / "page"
INDEX = "index.html"
POLICY = "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the page."""

    data: bytes
    media_type: str
    etag: str


def load_page(directory: Path = PAGE_DIR) -> dict[str, Asset]:
    """Return every file below `directory` by its path there."""
    files = (file for file in sorted(directory.rglob("*")) if file.is_file())
    return {file.relative_to(directory).as_posix(): _load(file) for file in files}


def page_handlers(assets: dict[str, Asset]) -> list[HTTPRouteHandler]:
    """Return the handlers of / and /planner/… ."""

    @get("/", include_in_schema=False)
    async def get_index(request: Request[Any, Any, Any]) -> Response[bytes]:
        """The planner's page."""
        return _answer(request, assets, INDEX)

    @get("/planner/{path:path}", include_in_schema=False)
    async def get_asset(request: Request[Any, Any, Any], path: FromPath[str]) -> Response[bytes]:
        """A file of the planner's page."""
        return _answer(request, assets, str(path).lstrip("/"))

    return [get_index, get_asset]


def _answer(request: Request[Any, Any, Any], assets: dict[str, Asset], path: str) -> Response[bytes]:
    asset = assets.get(path)
    if asset is None:
        raise NotFound(f"the planner's page has no file {path[:60]!r}")
    headers = {
        "ETag": asset.etag,
        "Cache-Control": "no-cache",  # ask each time; unchanged files are a 304
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    if asset.etag in request.headers.get("if-none-match", ""):
        return Response(b"", status_code=304, headers=headers)
    return Response(asset.data, media_type=asset.media_type, headers=headers)


def _load(file: Path) -> Asset:
    data = file.read_bytes()
    media_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return Asset(data=data, media_type=media_type, etag=f'"{hashlib.sha256(data).hexdigest()[:20]}"')
