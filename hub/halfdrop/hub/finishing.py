"""A design to print files: the master, its separations, the vector drawing, the proof and what was asked for beside
them, each stored as it is done; the manifest of all of them last.

What the layers cover is computed once, for all files and colourways. The seams are measured before any file is made,
because every file carries that report. Then files are encoded side by side, each in its own thread, because encoders
release the interpreter for nearly all of their time.
"""

import asyncio
import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import UNSET

from halfdrop.contracts.jobs import Artifact, Job, colourways_of, formats_of, printing_of, usual_of
from halfdrop.contracts.patterns import pattern_key
from halfdrop.contracts.printing import count_more_files
from halfdrop.contracts.subjects import artifact_path
from halfdrop.hub.engine.seams import Stopped
from halfdrop.hub.gates.seams import measure_seams
from halfdrop.hub.gating import AnotherSeed, GateFailed, Gatekeeper
from halfdrop.hub.printing.artwork import Artwork
from halfdrop.hub.printing.design import Design
from halfdrop.hub.printing.manifest import write_manifest
from halfdrop.hub.printing.plan import MANIFEST_NAME, PlannedFile, plan_files
from halfdrop.hub.printing.profiles import find_profile
from halfdrop.hub.printing.separations import check_press
from halfdrop.hub.progress import Progress
from halfdrop.hub.reporting import Report
from halfdrop.runtime.objects import ObjectStore
from halfdrop.runtime.semantics import FILE_NAME

COMPOSING_STEPS = 8
"""Composing in eighths; then master, separations, drawing and proof. The manifest comes with the last of them."""

T = TypeVar("T")


def finishing_steps(job: Job) -> int:
    """Return how many steps it takes to make a job's files; each one beside the usual ones is one more."""
    return (
        COMPOSING_STEPS
        + len(usual_of(job))
        + count_more_files(formats=len(formats_of(job)), colourways=len(colourways_of(job)))
    )


@dataclass(frozen=True, kw_only=True)
class _File:
    name: str
    media_type: str
    data: bytes
    sha256: str
    side_px: int | None


class _Bench:
    """One job's work: what to draw, where to put it, and how to call it off."""

    def __init__(
        self,
        job: Job,
        *,
        design: Design,
        objects: ObjectStore,
        threads: Executor,
        report: Report,
        progress: Progress,
        gatekeeper: Gatekeeper | None,
    ) -> None:
        self.gatekeeper = gatekeeper
        self.job = job
        self.design = design
        self.report = report
        self.made: dict[str, Artifact] = {}
        """Files that an earlier delivery stored: they are not made again."""

        self.stored: list[Artifact] = []
        self._progress = progress
        self.called_off = threading.Event()
        self._objects = objects
        self._threads = threads

    async def look_for_made(self) -> None:
        """Find the files that an earlier delivery stored."""
        self.made = await self._progress.begin_files(self.design.fields, self.design.origin)

    async def in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._unless_called_off, work)

    def stop_if_called_off(self, _: int = 0, __: int = 0) -> None:
        """The renderer's `on_rows`. Raises Stopped once nobody wants the work any more."""
        if self.called_off.is_set():
            raise Stopped

    def _unless_called_off(self, work: Callable[[], T]) -> T:
        self.stop_if_called_off()
        return work()

    async def store(self, file: _File) -> Artifact:
        path = artifact_path(self.job.tenant, self.job.id, file.name)
        with self.report.timed("upload", **{FILE_NAME: file.name}):
            await self._objects.put(path, file.data, media_type=file.media_type)
        artifact = Artifact(
            name=file.name,
            path=path,
            media_type=file.media_type,
            size_bytes=len(file.data),
            sha256=file.sha256,
            width_px=file.side_px,
            height_px=file.side_px,
        )
        self._progress.keep_file(artifact)
        self.stored.append(artifact)
        return artifact

    async def read(self, made: Artifact) -> bytes:
        """Return a file that an earlier delivery stored; nothing if it is gone."""
        return await self._objects.get(made.path) or b""

    def check(self, file: PlannedFile, data: bytes) -> None:
        """Hold a file against the gates, if there are any. Raises AnotherSeed or GateFailed."""
        if self.gatekeeper is not None:
            self.gatekeeper.check(file.name, data, file.artwork)

    async def store_report(self, gatekeeper: Gatekeeper) -> tuple[Artifact, ...]:
        """Store what the gates found."""
        files = await self.in_thread(lambda: gatekeeper.report(self.job))
        return tuple([await self.store(_file(name, kind, data, None)) for name, kind, data in files])

    async def forget(self) -> None:
        """Remove the files of an attempt that did not pass: nobody shall take them for the order's."""
        for artifact in [*self.stored, *self.made.values()]:
            await self._objects.delete(artifact.path)
        self.stored, self.made = [], {}
        self._progress.forget_files()


async def finish(
    job: Job,
    design: Design,
    *,
    objects: ObjectStore,
    threads: Executor,
    report: Report,
    progress: Progress,
    device: str = "cpu",
    profiles: Path | None = None,
    gatekeeper: Gatekeeper | None = None,
) -> tuple[Artifact, ...]:
    """Make and store every file of the job, and return them: master, separations, drawing, proof, others, manifest.

    design: what files are made of; fields on any grid. device: what they were refined on. profiles: the folder of ICC
    profiles that jobs may name. Raises Unavailable when the store is away, PermanentError for what the press cannot
    print. With a `gatekeeper`, AnotherSeed or GateFailed for what does not pass; the files of that attempt are removed
    then, and of one that failed for good the report is stored. When the caller is cancelled, threads stop at their next
    strip or file; what was stored stays, and is not made again by the next delivery if `progress` was saved.
    """
    name = printing_of(job).profile
    profile = await asyncio.to_thread(find_profile, profiles, name) if name else b""
    bench = _Bench(
        job,
        design=design,
        objects=objects,
        threads=threads,
        report=report,
        progress=progress,
        gatekeeper=gatekeeper,
    )
    await bench.look_for_made()
    refiner = report.status.refiner_digest
    artwork = design.artwork(
        job.spec,
        job.size_px,
        printing_of(job),
        refiner_digest="" if refiner is UNSET else refiner,
        profile=profile,
        on_rows=_CountEighths(bench),
    )
    check_press(artwork)
    try:
        artwork = await _measure(bench, artwork)
        if gatekeeper is not None:
            artwork = await _pass_gates(bench, gatekeeper, artwork)
        plan = plan_files(artwork, formats_of(job), design.colourways, usual_of(job))
        async with asyncio.TaskGroup() as tasks:
            groups = [tasks.create_task(_make_group(bench, files)) for files in plan.groups()]
            groups.append(tasks.create_task(_make_others(bench, plan.others)))
        made = tuple(artifact for group in groups for artifact in group.result())
        found = () if gatekeeper is None else await bench.store_report(gatekeeper)
        if gatekeeper is not None:
            await gatekeeper.remember(job.tenant, pattern_key(job.spec))
        return (*made, *found, await _write_manifest(bench, artwork, made, device=device))
    except (ExceptionGroup, AnotherSeed, GateFailed) as error:
        cause = gravest(error) if isinstance(error, ExceptionGroup) else error
        if isinstance(cause, (AnotherSeed, GateFailed)):
            await bench.forget()
        if isinstance(cause, GateFailed) and gatekeeper is not None:
            cause.artifacts = await bench.store_report(gatekeeper)
        raise cause from error
    finally:
        bench.called_off.set()


async def _measure(bench: _Bench, artwork: Artwork) -> Artwork:
    """Paint the tile, and hold its seams against the lines inside; every file carries what came of it."""

    def paint() -> Artwork:
        tile = artwork.tile()
        if artwork.shows_painting:
            artwork.coverage.get()  # what its separations cover is counted as a part of composing, too
        fields = None if artwork.shows_painting else artwork.fields
        seams = measure_seams(tile, artwork.spec.repeat, fields, artwork.palette)
        return artwork.with_gates(msgspec.json.encode({"seams": round(seams, 3)}).decode(), painted=tile)

    with bench.report.stage("composing"):
        measured = await bench.in_thread(paint)
    bench.report.note(f"seams: {msgspec.json.decode(measured.gates)['seams']:.3f} of the worst line inside")
    return measured


async def _pass_gates(bench: _Bench, gatekeeper: Gatekeeper, artwork: Artwork) -> Artwork:
    """Look at the pattern before anything is made of it; every file carries what came of it."""
    with bench.report.stage("gates"):
        await bench.in_thread(partial(gatekeeper.look, artwork))
        await gatekeeper.compare(bench.job.tenant)
    return artwork.with_gates(gatekeeper.summary(), painted=artwork.painted)


def gravest(group: ExceptionGroup[Exception]) -> Exception:
    """Return what counts of several errors: a gate that failed for good, else a seed that did, else the first."""
    for kind in (GateFailed, AnotherSeed):
        for error in group.exceptions:
            if isinstance(error, kind):
                return error
    return group.exceptions[0]


async def _make_group(bench: _Bench, files: Sequence[PlannedFile]) -> list[Artifact]:
    """Make files that are one step of the job, one after another."""
    artifacts = []
    if any(file.name not in bench.made for file in files):
        with bench.report.stage(files[0].stage):
            artifacts = [await _make_file(bench, file) for file in files]
    else:
        artifacts = [bench.made[file.name] for file in files]
    bench.report.advance()
    return artifacts


async def _make_others(bench: _Bench, files: Sequence[PlannedFile]) -> list[Artifact]:
    """Make what was asked for beside the usual files, each a step, one after another: the usual ones come first."""
    return [artifact for file in files for artifact in await _make_group(bench, [file])]


async def _make_file(bench: _Bench, file: PlannedFile) -> Artifact:
    """Return the file that an earlier delivery stored, or make it."""
    made = bench.made.get(file.name)
    if made is not None:
        if bench.gatekeeper is not None:  # it passed then; the report of this delivery is to say so, too
            data = await bench.read(made)
            await bench.in_thread(lambda: bench.check(file, data))
        return made

    def make() -> _File:
        data = file.make()
        bench.check(file, data)
        return _file(file.name, file.media_type, data, file.side_px)

    return await bench.store(await bench.in_thread(make))


async def _write_manifest(bench: _Bench, artwork: Artwork, made: Sequence[Artifact], *, device: str) -> Artifact:
    def write() -> _File:
        data = write_manifest(bench.job, bench.design, artwork, made, device=device)
        return _file(MANIFEST_NAME, "application/json", data, None)

    return await bench.store(await bench.in_thread(write))


class _CountEighths:
    """The renderer's `on_rows`: counts eighths of the way as steps, and stops the work once it is called off."""

    def __init__(self, bench: _Bench) -> None:
        self._bench = bench
        self._counted = 0

    def __call__(self, rows_done: int, rows: int) -> None:
        self._bench.stop_if_called_off()
        while self._counted < COMPOSING_STEPS * rows_done // rows:
            self._counted += 1
            self._bench.report.advance_from_thread()


def _file(name: str, media_type: str, data: bytes, side_px: int | None) -> _File:
    sha256 = hashlib.sha256(data).hexdigest()
    return _File(name=name, media_type=media_type, data=data, sha256=sha256, side_px=side_px)
