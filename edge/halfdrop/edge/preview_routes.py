"""HTTP: previews by request, pictures by key."""

from typing import Any

import msgspec
from litestar import MediaType, Request, Response, get, post

from halfdrop.contracts.patterns import PatternSpec
from halfdrop.edge.access import Access, access_of, needs
from halfdrop.edge.degradation import note_reduced
from halfdrop.edge.names import picture_key, plates_key
from halfdrop.edge.painted_orders import refuse_preview
from halfdrop.edge.picture_files import PictureForm, read_address
from halfdrop.edge.previews import Picture
from halfdrop.edge.requests import PreviewRequest, check_preview_size, read_body
from halfdrop.edge.reuse import Reuse, choose_pattern, note_pattern
from halfdrop.edge.services import EdgeServices
from halfdrop.edge.shelf import CACHE_NAME, make_etag
from halfdrop.edge.template_orders import fit_preview
from halfdrop.runtime.entity_tags import matches_tag


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of POST /v1/previews to a client that asks for JSON."""

    key: str
    url: str
    """Address of the picture on this server, good for ever with a key. On an edge that asks for keys it is signed, and
    good without one until it expires."""

    size_px: int
    """Width and height of the picture at `url`: less than asked for while the edge has too much to draw."""

    spec: PatternSpec
    """What was understood."""

    palette: tuple[str, ...]
    """Ground and four layers."""

    unknown_words: tuple[str, ...]
    """Words with nothing near among what the model was taught; they had no effect."""

    read_as: dict[str, str]
    """Words that the model does not know, and what was drawn for each: {"sunflowers": "daisies"}."""

    reuse: Reuse
    """none: drawn now. exact: this very pattern was there. variant, near: `key` and `spec` are those of another seed's
    or another wording's pattern; order that one by its spec."""


@post("/v1/previews", status_code=200, guards=[needs("previews")])
async def create_preview(request: Request[Any, Any, Any], edge: EdgeServices) -> Response[bytes]:
    """Draw a pattern, or find it, and answer with its picture or with JSON that says where the picture is."""
    body = fit_preview(edge.templates, await read_body(request, PreviewRequest))
    size_px = check_preview_size(body.size_px)
    access = access_of(request)
    previews = edge.previews.of(access.tenant)
    refuse_preview(previews, edge.pools.imported(), body)
    asked = previews.understand(body)
    pattern, reuse = await choose_pattern(edge.reuse, previews, access.tenant, asked, body)
    picture = await previews.preview_pattern(pattern, size_px)
    await note_pattern(edge.reuse, previews, access.tenant, pattern)
    _shelve(edge, access, picture)
    if picture.size_px != size_px:
        note_reduced(request.scope)
    address = edge.door.sign(_address(picture), access.tenant)
    if not _wants_json(request.headers.get("accept", "")):
        # The answer to a POST is not cached by anybody, whatever it says; its Content-Location is what lasts.
        return _answer_picture(picture, reuse, cache_control="no-store", address=address)
    plates = await previews.plates(pattern)
    preview = Preview(
        key=pattern.key,
        url=address,
        size_px=picture.size_px,
        spec=pattern.spec,
        palette=plates.palette,
        unknown_words=pattern.wording.unknown_words,
        read_as=pattern.wording.read_as,
        reuse="none" if reuse == "exact" and not picture.is_hit else reuse,
    )
    return Response(msgspec.json.encode(preview), media_type=MediaType.JSON, headers=_headers(picture, reuse, address))


@get("/p/{name:str}", guards=[needs("previews")])
async def get_picture(request: Request[Any, Any, Any], edge: EdgeServices, name: str) -> Response[bytes]:
    """Answer the picture of a key: what the front had not on its shelf."""
    key, form = read_address(name, request.query_params)
    access = access_of(request)
    previews = edge.previews.of(access.tenant)
    if not form.is_preview:
        return await _answer_file(request, edge, key, form)
    picture = await previews.find_picture(key, form.size_px)
    _shelve(edge, access, picture)
    if picture.size_px != form.size_px:  # another picture than this address names: nobody may keep it for that one
        note_reduced(request.scope)
        return _answer_picture(picture, "exact", cache_control="no-store", address=_address(picture))
    if _is_known(request, picture.webp):
        headers = {**_headers(picture, "exact", _address(picture)), "Cache-Control": edge.shelf.cache_control}
        return Response(b"", status_code=304, headers=headers)
    # Whoever fetches has an address already: a signature in the answer would go stale in their cache.
    return _answer_picture(picture, "exact", cache_control=edge.shelf.cache_control, address=_address(picture))


async def _answer_file(
    request: Request[Any, Any, Any], edge: EdgeServices, key: str, form: PictureForm
) -> Response[bytes]:
    """Answer a picture that no tier keeps: composed now, and kept on the shelf while it is asked for."""
    access = access_of(request)
    data = await edge.previews.of(access.tenant).find_file(key, form)
    edge.shelf.put_file(access.shelf_prefix + plates_key(key), form, data)
    headers = {
        "Halfdrop-Key": key,
        "ETag": make_etag(data),
        "Cache-Control": edge.shelf.cache_control,
        "Cache-Status": f"{CACHE_NAME}; fwd=miss; stored",
    }
    if _is_known(request, data):
        return Response(b"", status_code=304, headers=headers)
    return Response(data, media_type=form.media_type, headers=headers)


def _is_known(request: Request[Any, Any, Any], data: bytes) -> bool:
    asked = request.headers.get("if-none-match", "")
    return bool(asked) and matches_tag(asked, make_etag(data))


def _wants_json(accept: str) -> bool:
    # Anything but a plain wish for JSON gets the picture: a wrong Accept is no reason to refuse one.
    return any(part.partition(";")[0].strip().lower() == "application/json" for part in accept.split(","))


def _answer_picture(picture: Picture, reuse: Reuse, *, cache_control: str, address: str) -> Response[bytes]:
    headers = _headers(picture, reuse, address)
    headers["Cache-Control"] = cache_control
    return Response(picture.webp, media_type="image/webp", headers=headers)


def _headers(picture: Picture, reuse: Reuse, address: str) -> dict[str, str]:
    # RFC 9211, 2.8: `detail` is ours to fill. A tier's name says an exact hit; a reused pattern says how it was found.
    detail = picture.source if reuse == "exact" else reuse
    status = f"hit; detail={detail}" if picture.is_hit else "fwd=miss; stored"
    if reuse != "exact" and not picture.is_hit:
        status += f"; detail={detail}"
    return {
        "Halfdrop-Key": picture.key,
        "Content-Location": address,
        "ETag": make_etag(picture.webp),
        "Cache-Status": f"{CACHE_NAME}; {status}",
    }


def _address(picture: Picture) -> str:
    return PictureForm(size_px=picture.size_px).address(picture.key)


def _shelve(edge: EdgeServices, access: Access, picture: Picture) -> None:
    key = access.shelf_prefix + picture_key(picture.key, picture.size_px)
    edge.hot.note(key)
    edge.shelf.put_picture(key, picture.webp)
