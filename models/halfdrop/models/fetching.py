"""Published bundles brought to a node before anything needs them, under names that stay while what they mean changes.

    <folder>/<digest>/…            a bundle, whole or not there
    <folder>/house@stable          a link to what that name meant when it was last fetched

A worker is told the link (HALFDROP_HUB_BUNDLE_DIR=/models/house@stable) and resolves it once, at its start. The folder
may belong to a node and be filled by several pods at once: each puts a bundle together out of sight, and the first
one's stays.
"""

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from halfdrop.contracts.errors import InvalidInput, NotFound, PermanentError
from halfdrop.models.bundle import Bundle, Manifest, open_bundle
from halfdrop.models.published import Pace, fetch_bundle, find_published, read_alias
from halfdrop.models.staging import flush, flush_tree, hold_store
from halfdrop.models.store import ALIAS_FORM, ModelStore
from halfdrop.runtime.objects import ObjectStore

log = structlog.get_logger()

REFERENCES_MAX = 64
DIGEST_CHARS = 64


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that is at hand."""

    reference: str
    link: Path
    bundle: Bundle
    was_there: bool


async def fetch_models(
    objects: ObjectStore, references: Sequence[str], folder: Path, *, max_bytes: int, pace: Pace
) -> list[Fetched]:
    """Bring the bundles that `references` mean into `folder`, in their order, so give what is asked for most first.

    references: an alias of the region (house@stable), or a name, name-version or digest of what is published there.
    What a link meant before stays, for workers that are starting; older bundles go. Raises NotFound, Unavailable,
    PermanentError(too-large), PermanentError(bad-bundle), and what `pace` raises; what came before it is at hand.
    """
    if not 0 < len(references) <= REFERENCES_MAX:
        raise InvalidInput("models", got=str(len(references)), allowed=f"1 to {REFERENCES_MAX}")
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    done: list[Fetched] = []
    for reference in references:
        digest = await _resolve(objects, reference)
        bundle = await asyncio.to_thread(_whole, folder / digest)
        was_there = bundle is not None
        if bundle is None:
            bundle = await _bring(objects, digest, folder, max_bytes=max_bytes, pace=pace)
        link = folder / reference
        await asyncio.to_thread(_point, link, digest)
        done.append(Fetched(reference=reference, link=link, bundle=bundle, was_there=was_there))
    return done


async def _resolve(objects: ObjectStore, reference: str) -> str:
    if not ALIAS_FORM.fullmatch(reference):
        return (await find_published(objects, reference))[0]
    alias = await read_alias(objects, reference)
    if alias is None:
        raise NotFound(f"no alias {reference!r} in {objects.url}; `halfdrop models serve {reference} MODEL` sets it")
    return alias.digest


async def _bring(objects: ObjectStore, digest: str, folder: Path, *, max_bytes: int, pace: Pace) -> Bundle:
    def check(manifest: Manifest) -> None:
        size_bytes = sum(file.bytes for file in manifest.files.values())
        if size_bytes > max_bytes:
            detail = f"{manifest.name}-{manifest.version}: got {size_bytes} bytes; allowed: {max_bytes} (--max-mib)"
            raise PermanentError(detail, code="too-large")

    with ModelStore(folder).incoming() as room:
        await fetch_bundle(objects, digest, room, check=check, pace=pace)
        return await asyncio.to_thread(_place, room, folder / digest)


def _whole(home: Path) -> Bundle | None:
    """Return the bundle in `home` if every file of it is right; None if there is none, or it is damaged."""
    if not home.is_dir():
        return None
    try:
        return open_bundle(home)
    except PermanentError as error:
        log.warning("model_damaged", directory=str(home), error=error.detail)
        return None


def _place(room: Path, home: Path) -> Bundle:
    open_bundle(room)
    flush_tree(room)
    with hold_store(home.parent):
        if _whole(home) is None:
            if home.exists():
                home.rename(room.with_name("damaged"))
            room.rename(home)
            flush(home.parent)
    return open_bundle(home)


def _point(link: Path, digest: str) -> None:
    """Let `link` mean the bundle from now on, in one step, and remove what no link means or meant just before."""
    with hold_store(link.parent):
        before = os.readlink(link) if link.is_symlink() else ""
        if before == digest:
            return
        if link.exists() and not link.is_symlink():  # a whole digest is its own name
            return
        fresh = link.with_name(f".{link.name}.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(digest)
        fresh.replace(link)
        kept = {os.readlink(one) for one in link.parent.iterdir() if one.is_symlink()} | {before, digest}
        for old in link.parent.iterdir():
            if len(old.name) == DIGEST_CHARS and old.name not in kept and not old.is_symlink():
                shutil.rmtree(old, ignore_errors=True)
