"""Bundles in a region's object store: published for its edges, and fetched by them.

    models/<digest>/…                 a bundle's files; its manifest is written last, so where there is one all is there
    model-aliases/house@stable.json   which of them edges serve

A digest names exactly one bundle, so nothing published is ever changed; what moves is the alias. Whoever fetches
believes nothing: the manifest must have the digest that was asked for, and each file the digest in the manifest.
"""

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec

from halfdrop.contracts.errors import InvalidInput, NotFound, PermanentError, Unavailable
from halfdrop.contracts.subjects import ALIASES_FOLDER, BUNDLES_FOLDER, bundle_alias_path, bundle_path
from halfdrop.models.bundle import (
    MANIFEST_MAX_BYTES,
    MANIFEST_NAME,
    Bundle,
    BundleFile,
    Manifest,
    OnProgress,
    bad_bundle,
    bundle_digest,
    decode_manifest,
    plain_file,
)
from halfdrop.models.staging import FREE_MARGIN_BYTES, read_checked
from halfdrop.models.store import ALIAS_ALLOWED, ALIAS_FORM, PREFIX_MIN_CHARS
from halfdrop.runtime.objects import ObjectStore

SERVED_KIND = "house-preview"
"""What an edge can draw with."""

CHUNK_BYTES = 256 * 1024
"""Read at once, and so about what a bound on bandwidth is kept to."""

ALIAS_MAX_BYTES = 4_096

Pace = Callable[[int], Awaitable[None]]
"""Awaited with the size of each chunk before it is read; may raise to stop."""


class RegionAlias(msgspec.Struct, frozen=True, kw_only=True, tag="model-alias.v1"):
    """What an alias means in a region. Set once more to the same digest it differs in `set_at`: edges try again."""

    digest: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    set_at: float
    """Unix seconds."""


async def publish_bundle(objects: ObjectStore, bundle: Bundle, on_progress: OnProgress | None = None) -> None:
    """Write a bundle into the store, its manifest last. Written again it is the same, so a damaged one is mended.

    on_progress is told ("publishing", bytes, of bytes). Raises PermanentError(not-served) for a bundle that no edge
    draws with, PermanentError(bad-bundle) when a file is not what the manifest says, and Unavailable.
    """
    if bundle.manifest.kind != SERVED_KIND:
        detail = f"{bundle.name}-{bundle.version}: got a {bundle.manifest.kind}; allowed: a {SERVED_KIND}"
        raise PermanentError(f"{detail}, which is what edges draw with", code="not-served")
    manifest = plain_file(bundle.directory, MANIFEST_NAME).read_bytes()
    if bundle_digest(decode_manifest(manifest, source=bundle.directory).files) != bundle.digest:
        raise bad_bundle(bundle.directory, "its manifest was changed meanwhile; publish it again")
    done_bytes = 0
    for path, file in sorted(bundle.manifest.files.items()):
        content = b"".join(read_checked(bundle.directory, path, file))
        await objects.put(bundle_path(bundle.digest, path), content)
        done_bytes += file.bytes
        if on_progress is not None:
            on_progress("publishing", done_bytes, bundle.size_bytes)
    await objects.put(bundle_path(bundle.digest, MANIFEST_NAME), manifest, media_type="application/json")


async def find_published(objects: ObjectStore, reference: str) -> tuple[str, Manifest]:
    """Return digest and manifest of the one published bundle that `reference` means: a name, name-version, digest,
    name:digest or at least the first eight digits of one. Raises NotFound, which lists what there is, for anything
    else."""
    found: dict[str, Manifest] = {}
    for digest in sorted({path.split("/")[1] for path in await objects.list(BUNDLES_FOLDER)}):
        data = await objects.get(bundle_path(digest, MANIFEST_NAME))
        if data is not None:  # else it is being published right now
            with contextlib.suppress(PermanentError):  # one that is damaged hides no other
                found[digest] = decode_manifest(data, source=Path(digest))
    meant = [digest for digest, manifest in found.items() if _is_meant(reference, digest, manifest)]
    if len(meant) == 1:
        return meant[0], found[meant[0]]
    there_are = ", ".join(_describe(digest, found[digest]) for digest in (meant or found)) or "none"
    if meant:
        raise NotFound(f"{reference[:80]!r} may be any of {there_are}; name one by its digest")
    raise NotFound(f"no model {reference[:80]!r} is published in {objects.url}; there are: {there_are}")


async def read_alias(objects: ObjectStore, alias: str) -> RegionAlias | None:
    """Return what `alias` means in the region; None if nothing. Raises Unavailable, PermanentError(bad-alias)."""
    data = await objects.get(bundle_alias_path(alias))
    if data is None:
        return None
    try:
        return msgspec.json.decode(data[:ALIAS_MAX_BYTES], type=RegionAlias)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        detail = f"{bundle_alias_path(alias)}: {error}; set the alias again"
        raise PermanentError(detail, code="bad-alias") from error


async def read_aliases(objects: ObjectStore) -> dict[str, RegionAlias]:
    """Return all aliases of the region, by name."""
    paths = await objects.list(ALIASES_FOLDER)
    names = [path.removeprefix(f"{ALIASES_FOLDER}/").removesuffix(".json") for path in paths]
    read = {name: await read_alias(objects, name) for name in names}
    return {name: alias for name, alias in read.items() if alias is not None}


async def set_alias(objects: ObjectStore, alias: str, reference: str) -> tuple[str, Manifest]:
    """Let `alias` mean a published bundle from now on; return its digest and manifest.

    Raises InvalidInput for an alias in another form or of another name than the bundle's, because clients ask for a
    model by its name; and NotFound as `find_published` does.
    """
    if not ALIAS_FORM.fullmatch(alias):
        raise InvalidInput("alias", got=alias, allowed=ALIAS_ALLOWED)
    digest, manifest = await find_published(objects, reference)
    name = alias.partition("@")[0]
    if manifest.name != name:
        raise InvalidInput("alias", got=alias, allowed=f"{manifest.name}@LABEL for {_describe(digest, manifest)}")
    told = RegionAlias(digest=digest, set_at=time.time())
    await objects.put(bundle_alias_path(alias), msgspec.json.encode(told), media_type="application/json")
    return digest, manifest


async def drop_alias(objects: ObjectStore, alias: str) -> None:
    """Forget an alias of the region. Raises NotFound, which lists what there is, if there is none of that name."""
    aliases = await read_aliases(objects)
    if alias not in aliases:
        raise NotFound(f"no alias {alias[:80]!r} in {objects.url}; there are: {', '.join(aliases) or 'none'}")
    await objects.delete(bundle_alias_path(alias))


async def fetch_bundle(
    objects: ObjectStore, digest: str, room: Path, *, check: Callable[[Manifest], None], pace: Pace
) -> None:
    """Bring the published bundle `digest` into the folder `room`, every file compared with its digest.

    What an earlier call left in `room` is gone on with. `check` sees the manifest before anything large is read, and
    raises to refuse it. Raises PermanentError(bad-bundle) for what is not the bundle of that digest, NotFound if it is
    not published, Unavailable if the store is away or the disk full, and what `check` and `pace` raise.
    """
    source = Path(BUNDLES_FOLDER, digest)
    data = await _get_manifest(objects, digest, source)
    manifest = decode_manifest(data, source=source)
    if bundle_digest(manifest.files) != digest:
        raise bad_bundle(source, f"its manifest is that of {bundle_digest(manifest.files)}; publish it again")
    check(manifest)
    await asyncio.to_thread(_make_room, room, sum(file.bytes for file in manifest.files.values()))
    for path, file in sorted(manifest.files.items()):
        await _fetch_file(objects, bundle_path(digest, path), room / path, file, pace)
    await asyncio.to_thread((room / MANIFEST_NAME).write_bytes, data)


async def _get_manifest(objects: ObjectStore, digest: str, source: Path) -> bytes:
    path = bundle_path(digest, MANIFEST_NAME)
    size_bytes = await objects.size(path)
    if size_bytes is not None and size_bytes > MANIFEST_MAX_BYTES:
        raise bad_bundle(source, f"{MANIFEST_NAME}: got {size_bytes} bytes; allowed: {MANIFEST_MAX_BYTES}")
    data = await objects.get(path)
    if data is None:
        raise NotFound(f"no model {digest} is published in {objects.url}; `halfdrop models publish` brings it there")
    return data


def _make_room(room: Path, size_bytes: int) -> None:
    room.mkdir(parents=True, exist_ok=True)
    free_bytes, needed_bytes = shutil.disk_usage(room).free, size_bytes + FREE_MARGIN_BYTES
    if free_bytes < needed_bytes:
        raise Unavailable(f"{room}: got {free_bytes} bytes free; allowed: {needed_bytes} or more")


async def _fetch_file(objects: ObjectStore, source: str, target: Path, file: BundleFile, pace: Pace) -> None:
    refused = bad_bundle(Path(source), f"it is not what {MANIFEST_NAME} says; publish the bundle again")
    if await objects.size(source) != file.bytes:
        raise refused
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("a+b") as stream:
        while True:
            begun_bytes = stream.seek(0, os.SEEK_END)
            for start in range(begun_bytes, file.bytes, CHUNK_BYTES):
                length = min(CHUNK_BYTES, file.bytes - start)
                await pace(length)
                await asyncio.to_thread(stream.write, await objects.get_range(source, start, length) or b"")
            if await asyncio.to_thread(_sha256, stream) == file.sha256:
                return
            stream.truncate(0)
            # What an earlier process left may have been damaged by a crash of the machine: once more, from the start.
            if not begun_bytes:
                raise refused


def _sha256(stream: BinaryIO) -> str:
    stream.seek(0)
    return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]  # typeshed wants readinto only


def _is_meant(reference: str, digest: str, manifest: Manifest) -> bool:
    bundle = Bundle(name=manifest.name, version=manifest.version, digest=digest, directory=Path(), manifest=manifest)
    is_prefix = re.fullmatch(rf"[0-9a-f]{{{PREFIX_MIN_CHARS},64}}", reference) is not None
    return bundle.answers_to(reference) or (is_prefix and digest.startswith(reference))


def _describe(digest: str, manifest: Manifest) -> str:
    return f"{manifest.name}-{manifest.version} ({digest[:12]})"
