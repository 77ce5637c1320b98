"""A page and its files, read once at start: they are small, and belong to this version of the package.

For processes that serve with litestar: the edge's Studio, the forecaster's planner.
"""

import hashlib
import mimetypes
from pathlib import Path
from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from halfdrop.contracts.errors import NotFound
from halfdrop.runtime.entity_tags import matches_tag

INDEX = "index.html"
POLICY = "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"


class PageFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the page."""

    data: bytes
    media_type: str
    tag: str


def page_handlers(directory: Path, *, under: str) -> list[HTTPRouteHandler]:
    """Return the handlers of `/`, the page itself, and of `/UNDER/…`, every file below `directory`."""
    files = {file.relative_to(directory).as_posix(): _load(file) for file in directory.rglob("*") if file.is_file()}

    def answer(request: Request[Any, Any, Any], path: str) -> Response[bytes]:
        file = files.get(path)
        if file is None:
            raise NotFound(f"this page has no file {path[:60]!r}")
        headers = {
            "ETag": file.tag,
            "Cache-Control": "no-cache",  # ask each time; unchanged files are a 304
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }
        if matches_tag(request.headers.get("if-none-match", ""), file.tag):
            return Response(b"", status_code=304, headers=headers)
        return Response(file.data, media_type=file.media_type, headers=headers)

    @get("/", include_in_schema=False)
    async def get_index(request: Request[Any, Any, Any]) -> Response[bytes]:
        """The page."""
        return answer(request, INDEX)

    @get(f"/{under}/{{path:path}}", include_in_schema=False)
    async def get_file(request: Request[Any, Any, Any], path: FromPath[str]) -> Response[bytes]:
        """A file of the page."""
        return answer(request, str(path).lstrip("/"))

    return [get_index, get_file]


def _load(file: Path) -> PageFile:
    data = file.read_bytes()
    media_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return PageFile(data=data, media_type=media_type, tag=f'"{hashlib.sha256(data).hexdigest()[:20]}"')
