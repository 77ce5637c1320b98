"""Plates to print files: the master, its separations, the vector drawing, the proof and what was asked for beside them,
each stored as it is done.

Master and separations are composed side by side, each in its own thread, because both release the interpreter for
nearly all of their time; drawing and proof follow in whichever thread is free first.
"""

import asyncio
import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from halfdrop.contracts.jobs import Artifact, Job, formats_of
from halfdrop.contracts.subjects import artifact_path
from halfdrop.hub.engine.seams import Stopped
from halfdrop.hub.files import encode_coverage, encode_picture
from halfdrop.hub.print_formats import FORMATS
from halfdrop.hub.progress import Progress
from halfdrop.hub.reporting import Report
from halfdrop.models.fields import Fields
from halfdrop.models.renderer import Bytes, compose_layers, compose_proof, compose_tile, used_layers
from halfdrop.models.seams import seam_ratio
from halfdrop.models.vector import trace_svg
from halfdrop.runtime.objects import ObjectStore
from halfdrop.runtime.semantics import FILE_NAME

COMPOSING_STEPS = 8
USUAL_STEPS = COMPOSING_STEPS + 4
"""Composing in eighths; then master, separations, drawing and proof."""

MASTER_NAME, VECTOR_NAME, PROOF_NAME = "master.png", "pattern.svg", "proof.png"

T = TypeVar("T")


def finishing_steps(job: Job) -> int:
    """Return how many steps it takes to make a job's files; each format beside the usual ones is one more."""
    return USUAL_STEPS + len(formats_of(job))


@dataclass(frozen=True, kw_only=True)
class _File:
    name: str
    media_type: str
    data: bytes
    sha256: str
    width_px: int
    height_px: int


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
            width_px=file.width_px,
            height_px=file.height_px,
        )
        self._progress.keep_file(artifact)
        return artifact


async def finish(
    job: Job,
    fields: Fields,
    palette: Sequence[str],
    *,
    objects: ObjectStore,
    threads: Executor,
    report: Report,
    progress: Progress,
) -> tuple[Artifact, ...]:
    """Make and store every file of the job, and return them: master, separations, drawing, proof, other formats.

    fields: the unit to make them of, on any grid. palette: "#rrggbb", the ground and then one for each layer. Raises
    Unavailable when the store is away. When the caller is cancelled, threads stop at their next strip or file; what was
    stored stays, and is not made again by the next delivery if `progress` was saved.
    """
    bench = _Bench(
        job, fields=fields, palette=palette, objects=objects, threads=threads, report=report, progress=progress
    )
    await bench.look_for_made()
    try:
        async with asyncio.TaskGroup() as tasks:
            master = tasks.create_task(_make_master(bench))
            separations = tasks.create_task(_make_separations(bench))
            drawing = tasks.create_task(_make_drawing(bench))
            proof = tasks.create_task(_make_proof(bench))
            others = tasks.create_task(_make_formats(bench))
    except ExceptionGroup as group:
        raise group.exceptions[0] from group
    finally:
        bench.called_off.set()
    return (master.result(), *separations.result(), drawing.result(), proof.result(), *others.result())


async def _make_master(bench: _Bench) -> Artifact:
    if (made := bench.made.get(MASTER_NAME)) is not None:
        bench.report.advance(COMPOSING_STEPS + 1)
        return made
    size_px = bench.job.size_px
    progress = _CountEighths(bench)

    def compose() -> tuple[_File, float]:
        tile = compose_tile(bench.fields, bench.palette, bench.repeat, size_px, on_rows=progress)
        seams = seam_ratio(tile, bench.fields, bench.palette, bench.repeat)
        return _file(MASTER_NAME, "image/png", encode_picture(tile, bench.job.spec), size_px), seams

    with bench.report.stage("master"):
        file, seams = await bench.in_thread(compose)
        artifact = await bench.store(file)
    bench.report.note(f"seams: {seams:.3f} of the worst line inside")
    bench.report.advance()
    return artifact


async def _make_separations(bench: _Bench) -> list[Artifact]:
    """One greyscale PNG for each layer that has ink, named by its place in the palette and its colour."""
    layers = used_layers(bench.fields)
    names = [_plate_name(bench, layer) for layer in layers]
    artifacts = dict(bench.made)
    if not artifacts.keys() >= set(names):
        with bench.report.stage("separations"):
            compose = partial(
                compose_layers, bench.fields, bench.repeat, bench.job.size_px, on_rows=bench.stop_if_called_off
            )
            planes = await bench.in_thread(compose)
            for name, plane in zip(names, planes, strict=True):
                if name not in artifacts:
                    artifacts[name] = await bench.store(await bench.in_thread(partial(_encode_plate, name, plane)))
    bench.report.advance()
    return [artifacts[name] for name in names]


def _plate_name(bench: _Bench, layer: int) -> str:
    place = layer + 1
    return f"plate-{place}-{bench.palette[place].removeprefix('#')}.png"


def _encode_plate(name: str, plane: Bytes) -> _File:
    return _file(name, "image/png", encode_coverage(plane), len(plane))


async def _make_drawing(bench: _Bench) -> Artifact:
    if (made := bench.made.get(VECTOR_NAME)) is not None:
        bench.report.advance()
        return made
    size_px = bench.job.size_px

    def trace() -> _File:
        drawing = trace_svg(bench.fields, bench.palette, bench.repeat, size_px, title=bench.job.spec.prompt)
        return _file(VECTOR_NAME, "image/svg+xml", drawing.encode(), size_px)

    with bench.report.stage("drawing"):
        artifact = await bench.store(await bench.in_thread(trace))
    bench.report.advance()
    return artifact


async def _make_proof(bench: _Bench) -> Artifact:
    if (made := bench.made.get(PROOF_NAME)) is not None:
        bench.report.advance()
        return made

    def lay() -> _File:
        pixels = compose_proof(bench.fields, bench.palette, bench.repeat, bench.job.size_px)
        return _file(PROOF_NAME, "image/png", encode_picture(pixels, bench.job.spec), len(pixels))

    with bench.report.stage("proof"):
        artifact = await bench.store(await bench.in_thread(lay))
    bench.report.advance()
    return artifact


async def _make_formats(bench: _Bench) -> list[Artifact]:
    """Make what was asked for beside the usual files, one after another: the usual ones come first."""
    artifacts = []
    for name in formats_of(bench.job):
        kind = FORMATS[name]
        artifact = bench.made.get(kind.file_name)
        if artifact is None:
            with bench.report.stage(name):
                encode = partial(kind.encode, bench.fields, bench.palette, bench.job.spec, bench.job.size_px)
                data = await bench.in_thread(encode)
                artifact = await bench.store(_file(kind.file_name, kind.media_type, data, bench.job.size_px))
        bench.report.advance()
        artifacts.append(artifact)
    return artifacts


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


def _file(name: str, media_type: str, data: bytes, side_px: int) -> _File:
    sha256 = hashlib.sha256(data).hexdigest()
    return _File(name=name, media_type=media_type, data=data, sha256=sha256, width_px=side_px, height_px=side_px)
