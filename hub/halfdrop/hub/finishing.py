"""Plates to print files: the master, its separations, the vector drawing, the proof and what was asked for beside them,
each stored as it is done; the manifest of all of them last.

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
from typing import TypeVar

import msgspec
from msgspec import UNSET

from halfdrop.contracts.jobs import Artifact, Job, colourways_of, formats_of, printing_of
from halfdrop.contracts.plates import Plates
from halfdrop.contracts.printing import count_more_files
from halfdrop.contracts.subjects import artifact_path
from halfdrop.hub.printing.artwork import Artwork
from halfdrop.hub.printing.manifest import write_manifest
from halfdrop.hub.printing.plan import MANIFEST_NAME, PlannedFile, plan_files
from halfdrop.hub.printing.separations import check_press
from halfdrop.hub.progress import Progress
from halfdrop.hub.reporting import Report
from halfdrop.hub.sampler import Stopped
from halfdrop.models.fields import Fields
from halfdrop.models.seams import seam_ratio
from halfdrop.runtime.objects import ObjectStore
from halfdrop.runtime.semantics import FILE_NAME

COMPOSING_STEPS = 8
USUAL_STEPS = COMPOSING_STEPS + 4
"""Composing in eighths; then master, separations, drawing and proof. The manifest comes with the last of them."""

T = TypeVar("T")


def finishing_steps(job: Job) -> int:
    """Return how many steps it takes to make a job's files; each one beside the usual ones is one more."""
    return USUAL_STEPS + count_more_files(formats=len(formats_of(job)), colourways=len(colourways_of(job)))


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
        fields: Fields,
        palette: Sequence[str],
        objects: ObjectStore,
        threads: Executor,
        report: Report,
        progress: Progress,
    ) -> None:
        self.job = job
        self.fields = fields
        self.palette = palette
        self.repeat = job.spec.repeat
        self.report = report
        self.made: dict[str, Artifact] = {}
        """Files that an earlier delivery stored: they are not made again."""

        self._progress = progress
        self.called_off = threading.Event()
        self._objects = objects
        self._threads = threads

    async def look_for_made(self) -> None:
        """Find the files that an earlier delivery stored."""
        self.made = await self._progress.begin_files(self.fields, self.palette)

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
        return artifact


async def finish(
    job: Job,
    plates: Plates,
    fields: Fields,
    *,
    objects: ObjectStore,
    threads: Executor,
    report: Report,
    progress: Progress,
    device: str = "cpu",
    profile: bytes = b"",
) -> tuple[Artifact, ...]:
    """Make and store every file of the job, and return them: master, separations, drawing, proof, others, manifest.

    plates: what was previewed. fields: what files are made of, the same or refined, on any grid. device: what they were
    refined on. profile: the ICC profile that the job names. Raises Unavailable when the store is away, PermanentError
    for what the press cannot print. When the caller is cancelled, threads stop at their next strip or file; what was
    stored stays, and is not made again by the next delivery if `progress` was saved.
    """
    bench = _Bench(
        job, fields=fields, palette=plates.palette, objects=objects, threads=threads, report=report, progress=progress
    )
    await bench.look_for_made()
    refiner = report.status.refiner_digest
    artwork = Artwork(
        fields=fields,
        palette=plates.palette,
        asked=job.spec.palette,
        spec=job.spec,
        size_px=job.size_px,
        options=printing_of(job),
        refiner_digest="" if refiner is UNSET else refiner,
        profile=profile,
        on_rows=_CountEighths(bench),
    )
    check_press(artwork)
    try:
        artwork = await _measure(bench, artwork)
        plan = plan_files(artwork, formats_of(job), colourways_of(job))
        async with asyncio.TaskGroup() as tasks:
            master = tasks.create_task(_make_group(bench, [plan.master]))
            separations = tasks.create_task(_make_group(bench, plan.separations))
            drawing = tasks.create_task(_make_group(bench, [plan.drawing]))
            proof = tasks.create_task(_make_group(bench, [plan.proof]))
            others = tasks.create_task(_make_others(bench, plan.others))
        groups = (master, separations, drawing, proof, others)
        made = tuple(artifact for group in groups for artifact in group.result())
        return (*made, await _write_manifest(bench, plates, artwork, made, device=device))
    except ExceptionGroup as group:
        raise group.exceptions[0] from group
    finally:
        bench.called_off.set()


async def _measure(bench: _Bench, artwork: Artwork) -> Artwork:
    """Paint the tile, and hold its seams against the lines inside; every file carries what came of it."""

    def paint() -> Artwork:
        tile = artwork.tile()
        seams = seam_ratio(tile, bench.fields, bench.palette, bench.repeat)
        return artwork.with_gates(msgspec.json.encode({"seams": round(seams, 3)}).decode(), painted=tile)

    with bench.report.stage("composing"):
        measured = await bench.in_thread(paint)
    bench.report.note(f"seams: {msgspec.json.decode(measured.gates)['seams']:.3f} of the worst line inside")
    return measured


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
        return made

    def make() -> _File:
        return _file(file.name, file.media_type, file.make(), file.side_px)

    return await bench.store(await bench.in_thread(make))


async def _write_manifest(
    bench: _Bench, plates: Plates, artwork: Artwork, made: Sequence[Artifact], *, device: str
) -> Artifact:
    def write() -> _File:
        data = write_manifest(bench.job, plates, artwork, made, device=device)
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
