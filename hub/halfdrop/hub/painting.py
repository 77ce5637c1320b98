"""A job for a user's checkpoint: its unit, as it lies under the pattern's key, or newly painted by the engine.

What an earlier delivery painted, or another order of the same pattern in the same size, is not painted again. One that
was interrupted while it painted goes on from the step that was saved.
"""

import asyncio
from collections.abc import Callable
from functools import partial

import msgspec
import numpy as np
import pyvips
import structlog
from numpy.typing import NDArray
from PIL import Image

from halfdrop.cache.seal import append_seal
from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.imported import ImportedModel, is_inked, painted_unit_px
from halfdrop.contracts.jobs import Job, colourways_of
from halfdrop.contracts.patterns import PREVIEW_SIZES_PX, canonical_bytes
from halfdrop.contracts.subjects import LOCAL_TENANT, preview_path, spec_path, tenant_folder, unit_path
from halfdrop.hub.checkpoints.tiles import lay_tile
from halfdrop.hub.files import encode_picture, encode_webp
from halfdrop.hub.finishing import finishing_steps
from halfdrop.hub.leaving import JobPace
from halfdrop.hub.printing.design import Design, describe_painting, design_painting
from halfdrop.hub.progress import Progress
from halfdrop.hub.progress_pictures import ProgressPictures, encode_progress
from halfdrop.hub.reporting import Report
from halfdrop.hub.sampler import Painted, Resumption, Sampler
from halfdrop.models.provenance import describe_provenance
from halfdrop.runtime.objects import ObjectStore
from halfdrop.runtime.semantics import FILE_NAME, generating

log = structlog.get_logger()

Bytes = NDArray[np.uint8]


class StoredUnit(msgspec.Struct, frozen=True, kw_only=True, tag="unit.v1"):
    """A painted unit at rest."""

    png: bytes
    device: str
    dtype: str
    """What it was painted on: a manifest says so, whoever finishes it."""


async def paint(
    job: Job,
    key: str,
    *,
    model: ImportedModel,
    objects: ObjectStore,
    sampler: Sampler,
    report: Report,
    progress: Progress,
    pace: JobPace,
) -> Painted:
    """Return the unit of the job's pattern, `key`. Raises InvalidInput for a size that the model cannot draw."""
    unit_px = check_unit(job, model)
    path = unit_path(key)
    finishing, steps = finishing_steps(job), job.spec.num_inference_steps
    stored = await objects.get(path)
    found = read_unit(stored, unit_px) if stored is not None else None
    if found is not None:
        drawn = max(0, report.status.steps - finishing)  # an earlier delivery painted it, and counted its steps
        report.plan(drawn + finishing, done=drawn)
        return found
    report.plan(steps + finishing)
    pace.sample(steps)
    counted = 0

    def skip(done: int) -> None:
        nonlocal counted
        counted = min(done, steps)
        pace.sample(steps - counted)
        report.advance_from_thread(counted)

    def end_step() -> None:
        nonlocal counted
        pace.step()
        if counted < steps:  # a scheduler of second order takes more steps than it is asked for
            counted += 1
            report.advance_from_thread()

    pictures = ProgressPictures(job, report, objects, steps=steps)

    def sketch(take: Callable[[], Bytes], step: int) -> None:
        pictures.offer(lambda: partial(draw_sketch, take(), job), step)

    resumption = Resumption(state=progress.state, on_resumed=skip, keep=progress.keep_state)
    with report.stage("sampling", **generating(job.spec.model_digest, job.spec.seed)):
        painted = await sampler.paint(
            job.spec, unit_px, on_step=end_step, on_sketch=sketch, resumption=resumption, job_class=job.job_class
        )
        with report.timed("upload", **{FILE_NAME: path.rpartition("/")[2]}):
            data = await asyncio.to_thread(encode_unit, painted, job)
            await objects.put(path, data, media_type="application/msgpack")
            await _keep_previews(job, key, painted.unit, objects)
    progress.forget_state()
    return painted


def check_unit(job: Job, model: ImportedModel) -> int:
    """Return the size of the unit to paint. Raises InvalidInput for a master that cannot be made of it."""
    wanted_px = painted_unit_px(job.size_px, model, job.spec.repeat, inked=is_inked(job.finishing))
    if job.spec.unit_px != wanted_px:
        allowed = f"{wanted_px} for a master of {job.size_px} px"
        raise InvalidInput("spec.unit_px", got=job.spec.unit_px, allowed=allowed)
    return wanted_px


async def _keep_previews(job: Job, key: str, unit: Bytes, objects: ObjectStore) -> None:
    """Store the spec and the pictures of a pattern that no edge can draw, where edges look for those of a key."""
    is_local = job.tenant == LOCAL_TENANT
    folder, owner = ("", "") if is_local else (f"{tenant_folder(job.tenant)}/", f"{job.tenant}:")
    tile = Image.fromarray(lay_tile(unit, job.spec.repeat))
    xmp = describe_provenance(job.spec)
    for size_px in PREVIEW_SIZES_PX:
        pixels = np.array(tile.resize((size_px, size_px), Image.Resampling.BOX))
        webp = await asyncio.to_thread(encode_webp, pixels, xmp)
        sealed = append_seal(f"{owner}{key}/{size_px}", webp)  # edges take a picture without one for damaged
        await objects.put(folder + preview_path(key, size_px), sealed, media_type="image/webp")
    await objects.put(folder + spec_path(key), canonical_bytes(job.spec), media_type="application/json")


async def design_unit(job: Job, painted: Painted, *, model: ImportedModel, report: Report) -> Design:
    """Return what the job's files are made of: the painting, and the inks that it is taken apart into."""

    def take_apart() -> Design:
        painting = describe_painting(job, painted.unit, family=model.family, device=painted.device, dtype=painted.dtype)
        return design_painting(painted.unit, painting, job.spec, colourways=colourways_of(job))

    with report.stage("inks"):
        design = await asyncio.to_thread(take_apart)
    shown = "the master shows them" if design.tile is None else "the master shows the painting"
    report.note(f"taken apart into {len(dict.fromkeys(design.palette))} inks; {shown}")
    return design


def encode_unit(painted: Painted, job: Job) -> bytes:
    """Return the unit as it lies in the store, with its provenance."""
    png = encode_picture(painted.unit, describe_provenance(job.spec))
    return msgspec.msgpack.encode(StoredUnit(png=png, device=painted.device, dtype=painted.dtype))


def read_unit(data: bytes, unit_px: int) -> Painted | None:
    """Return the unit in `data`; None, with a line in the log, for anything but a whole one of this size."""
    try:
        stored = msgspec.msgpack.decode(data, type=StoredUnit)
        unit: Bytes = pyvips.Image.new_from_buffer(stored.png, "").numpy()
        if unit.shape != (unit_px, unit_px, 3) or unit.dtype != np.uint8:
            raise ValueError(f"got {unit.shape}; allowed: ({unit_px}, {unit_px}, 3)")
    except (msgspec.MsgspecError, pyvips.Error, ValueError) as error:
        log.warning("painted_unit_ignored", error=str(error))
        return None
    return Painted(unit=np.ascontiguousarray(unit), device=stored.device, dtype=stored.dtype)


def draw_sketch(unit: Bytes, job: Job) -> bytes:
    """Return a unit so far, a few dozen pixels across, as a small WebP of the tile."""
    return encode_progress(lay_tile(unit, job.spec.repeat))
