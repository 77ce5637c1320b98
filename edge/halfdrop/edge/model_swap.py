"""Another model while the edge serves: follow the region's alias, fetch, check, warm, then swap one reference.

Whatever is wrong with a published bundle, it is refused and the edge goes on with the model that it has. The bundles
served now and before lie on the edge's disk and no others, so that going back is a matter of a second and needs
nothing fetched. See docs/adr/0015.
"""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog

from halfdrop.contracts.errors import HalfdropError, PermanentError, TransientError
from halfdrop.edge.settings import EdgeSettings
from halfdrop.edge.tenants import TenantPreviews
from halfdrop.models.bundle import Bundle, Manifest, open_bundle
from halfdrop.models.published import SERVED_KIND, RegionAlias, fetch_bundle, read_alias
from halfdrop.models.store import ModelStore
from halfdrop.runtime.bandwidth import Bandwidth
from halfdrop.runtime.objects import ObjectStore

log = structlog.get_logger()

POLL_S = 2.0
"""How often the alias is read, as API keys are (docs/adr/0009): half a dollar a month on S3."""

RETRY_MAX_S = 60.0
"""The pause after a failure that may pass doubles up to this."""

NOW, BEFORE = "serving@now", "serving@before"
"""Aliases in the edge's own store: what is kept on its disk, and what it begins with after a restart."""

FETCHING = ".fetching"
TRYING = ".trying"
TRIALS_MAX = 2
"""A bundle that ended the process in native code as often as this is refused; once may have been anybody's kill."""

KIB, MIB = 2**10, 2**20


class _Overtaken(Exception):
    """The alias moved on while its bundle was being fetched."""


class _Trial(msgspec.Struct, frozen=True, kw_only=True):
    """Lies on the disk while a bundle is loaded: found after a start, the process ended meanwhile."""

    alias: RegionAlias
    number: int


class ModelSwap:
    """Keeps an edge's model that of an alias. Made by `open_model_swap`."""

    def __init__(
        self,
        *,
        alias: str,
        directory: Path,
        objects: ObjectStore,
        previews: TenantPreviews,
        max_bytes: int,
        bandwidth: Bandwidth,
    ) -> None:
        self._alias = alias
        self._store = ModelStore(directory)
        self._objects = objects
        self._previews = previews
        self._max_bytes = max_bytes
        self._bandwidth = bandwidth
        self.refused = ""
        """Which bundle the alias means that was refused, and why; empty while there is none."""

        self.swaps = 0
        """Swaps since the start, the one after a restart included."""

    async def resume(self) -> None:
        """Serve what was served before the restart; whatever is wrong with it is logged and no more."""
        try:
            digest = self._store.aliases().get(NOW)
            if digest is not None and digest != self._previews.bundle.digest:
                bundle = await asyncio.to_thread(self._find_whole, digest)
                if bundle is not None:
                    await self._swap(bundle)
        except (HalfdropError, OSError) as error:
            log.warning("model_not_resumed", error=str(error))

    async def follow(self) -> None:
        """Follow the alias for ever."""
        tried: RegionAlias | None = None
        pause_s = POLL_S
        while True:
            wanted: RegionAlias | None = None
            try:
                wanted = await read_alias(self._objects, self._alias)
                if wanted is not None and wanted != tried:
                    await self._bring(wanted)
                    self.refused = ""
                tried, pause_s = wanted or tried, POLL_S
            except _Overtaken:
                continue
            except PermanentError as error:
                await self._refuse(wanted, error)
                tried, pause_s = wanted or tried, POLL_S
            except Exception as error:  # an outage, a full disk, a bug: the edge serves on, and tries again
                is_known = isinstance(error, TransientError | OSError)
                log.warning("model_not_followed", error=str(error), exc_info=None if is_known else error)
                pause_s = min(pause_s * 2, RETRY_MAX_S)
            await asyncio.sleep(pause_s)

    async def _bring(self, wanted: RegionAlias) -> None:
        """Serve the wanted bundle: the one in use, one on this disk, or one that is fetched."""
        if wanted.digest == self._previews.bundle.digest:
            return
        bundle = await asyncio.to_thread(self._find_whole, wanted.digest)
        if bundle is None:
            bundle = await self._fetch(wanted)
        before = self._previews.bundle.digest
        with self._trial(wanted):
            await self._swap(bundle)
        await asyncio.to_thread(self._remember, bundle.digest, before)

    async def _fetch(self, wanted: RegionAlias) -> Bundle:
        folder = self._store.directory / FETCHING
        room = folder / wanted.digest
        await asyncio.to_thread(_keep_only, folder, room.name)
        log.info("model_fetching", digest=wanted.digest, alias=self._alias)
        asked_s = time.monotonic()

        async def pace(size_bytes: int) -> None:
            nonlocal asked_s
            await self._bandwidth.take(size_bytes)
            if time.monotonic() - asked_s > POLL_S:
                asked_s = time.monotonic()
                if await read_alias(self._objects, self._alias) != wanted:
                    raise _Overtaken

        await fetch_bundle(self._objects, wanted.digest, room, check=self._check, pace=pace)
        return await asyncio.to_thread(self._store.adopt, room)

    def _check(self, manifest: Manifest) -> None:
        """Raise PermanentError(not-served) for a bundle that this edge cannot serve under its alias."""
        name, size_bytes = self._alias.partition("@")[0], sum(file.bytes for file in manifest.files.values())
        for what, got, allowed, is_allowed in (
            ("kind", manifest.kind, SERVED_KIND, manifest.kind == SERVED_KIND),
            ("name", manifest.name, f"{name}, as clients ask for it", manifest.name == name),
            ("size", f"{size_bytes} bytes", f"{self._max_bytes} bytes (model_max_mib)", size_bytes <= self._max_bytes),
        ):
            if not is_allowed:
                raise PermanentError(f"{what}: got {got}; allowed: {allowed}", code="not-served")

    async def _swap(self, bundle: Bundle) -> None:
        began_s = time.monotonic()
        self._check(bundle.manifest)
        previewer = await self._previews.previewer.load(bundle)
        before = self._previews.bundle
        self._previews.swap(bundle, previewer)
        self.swaps += 1
        loaded_s = round(time.monotonic() - began_s, 3)
        log.info("model_swapped", digest=bundle.digest, version=bundle.version, before=before.digest, loaded_s=loaded_s)

    @contextlib.contextmanager
    def _trial(self, wanted: RegionAlias) -> Iterator[None]:
        """Leave a mark while the bundle is loaded. Raises PermanentError(bad-model) if it ended the process before."""
        mark = self._store.directory / TRYING
        ended = 0
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            trial = msgspec.json.decode(mark.read_bytes(), type=_Trial)
            ended = trial.number if trial.alias == wanted else 0
        if ended >= TRIALS_MAX:
            raise PermanentError(f"the process ended {ended} times while it was loaded", code="bad-model")
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_bytes(msgspec.json.encode(_Trial(alias=wanted, number=ended + 1)))
        try:
            yield
        finally:
            mark.unlink(missing_ok=True)

    async def _refuse(self, wanted: RegionAlias | None, error: PermanentError) -> None:
        """Say once what is wrong with the bundle that is wanted, or with the alias itself."""
        refused = f"{wanted.digest[:12] if wanted else self._alias}: {error.detail}"
        if refused != self.refused:
            self.refused = refused
            log.error("model_refused", alias=self._alias, refused=refused, code=error.code)
        await asyncio.to_thread(self._prune)

    def _find_whole(self, digest: str) -> Bundle | None:
        """Return the bundle if it came with the package or is on this disk, every file checked; else None."""
        for bundle in self._store.bundles():
            if bundle.digest == digest:
                try:
                    return open_bundle(bundle.directory)
                except PermanentError as error:
                    log.warning("model_damaged", digest=digest, error=error.detail)
        return None

    def _remember(self, digest: str, before: str) -> None:
        for alias, named in ((NOW, digest), (BEFORE, before)):
            self._store.set_alias(alias, named)
        self._prune()

    def _prune(self) -> None:
        """Remove what is neither served now nor was before, and what was being fetched."""
        kept = {*self._store.aliases().values(), self._previews.bundle.digest}
        _keep_only(self._store.directory / FETCHING, "")
        for bundle in self._store.bundles():
            if not bundle.is_shipped and bundle.digest not in kept:
                self._store.remove(bundle.digest)
        for name in self._store.damaged().keys() - kept:
            self._store.remove(name)


async def open_model_swap(settings: EdgeSettings, objects: ObjectStore, previews: TenantPreviews) -> ModelSwap | None:
    """Return what keeps the edge's model that of its alias, after it has gone back to what the edge served last; None
    for an edge that serves one bundle only."""
    if settings.bundle_dir or not settings.model_alias:
        return None
    models = ModelSwap(
        alias=settings.model_alias,
        directory=Path(settings.data_dir) / "models",
        objects=objects,
        previews=previews,
        max_bytes=settings.model_max_mib * MIB,
        bandwidth=Bandwidth(settings.model_fetch_kib_s * KIB),
    )
    await models.resume()
    return models


def _keep_only(folder: Path, name: str) -> None:
    """Remove all parts in `folder` but those of one bundle."""
    for part in folder.glob("*"):
        if part.name != name:
            shutil.rmtree(part, ignore_errors=True)
