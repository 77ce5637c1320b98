"""Pictures of a job that is being sampled: small, now and then, for whoever watches it.

The state after a step is composed as a preview is, and lies as one small file beside the job's others, each picture in
place of the last; the status says where and of which step. A fast job has none. Nothing here can fail or hold up a
job: the sampler's thread hands over a copy of a few kilobytes, and what cannot be composed or stored is left out.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pyvips
import structlog
from numpy.typing import NDArray

from halfdrop.contracts.errors import TransientError
from halfdrop.contracts.jobs import Job, ProgressPicture
from halfdrop.contracts.subjects import artifact_path
from halfdrop.hub.reporting import Report
from halfdrop.hub.saved_work import SamplerState
from halfdrop.models.fields import choose_palette
from halfdrop.models.hex_colours import read_hex
from halfdrop.models.renderer import compose_tile
from halfdrop.runtime.objects import ObjectStore

log = structlog.get_logger()

DrawPicture = Callable[[], bytes]

PICTURE_NAME = "progress.webp"
PICTURE_PX = 128
EVERY_S = 0.5
"""At most this often, and not before: composing takes 3 to 10 ms, so at most a fiftieth of the time."""

STORE_MAX_S = 2.0
"""A store that takes longer gets no picture of this step; the next may be quicker."""


class ProgressPictures:
    """Makes the pictures of one job's sampling."""

    def __init__(
        self,
        job: Job,
        report: Report,
        objects: ObjectStore,
        *,
        steps: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._job = job
        self._report = report
        self._objects = objects
        self._steps = steps
        self._clock = clock
        self._last_s = clock()

    def offer(self, take: Callable[[], DrawPicture], step: int) -> None:
        """Have a picture made of the state after `step`, if it is time for one. In the sampler's thread, where `take`
        copies what it needs and returns what draws it, to be called in another."""
        now_s = self._clock()
        if step >= self._steps or now_s - self._last_s < EVERY_S:
            return  # the finished plates are drawn anyway
        self._last_s = now_s
        self._report.show_from_thread(partial(self._make, take(), step))

    async def _make(self, draw: DrawPicture, step: int) -> ProgressPicture | None:
        path = artifact_path(self._job.tenant, self._job.id, PICTURE_NAME)
        try:
            data = await asyncio.to_thread(draw)
            async with asyncio.timeout(STORE_MAX_S):
                await self._objects.put(path, data, media_type="image/webp")
        except (TransientError, TimeoutError) as error:
            log.debug("progress_picture_not_stored", error=repr(error))
        except Exception:  # a picture on the way is no reason to fail what is paid for
            log.exception("progress_picture_failed")
        else:
            return ProgressPicture(path=path, step=step)
        return None


def draw_picture(state: SamplerState, job: Job) -> bytes:
    """Return the state as a WebP of PICTURE_PX: what the fields show now, noise included."""
    fields = np.clip(state.latents[0], -1, 1).astype(np.float32)
    _, substitutions = read_hex(job.spec.prompt)
    palette = choose_palette(state.tensors["palettes"][0], job.spec.palette, substitutions)
    return encode_progress(compose_tile(fields, palette, job.spec.repeat, PICTURE_PX))


def encode_progress(tile: NDArray[np.uint8]) -> bytes:
    """Return a small tile, [size, size, 3] sRGB, as a WebP of PICTURE_PX."""
    side, pixels = len(tile), np.ascontiguousarray(tile)
    image = pyvips.Image.new_from_memory(pixels, side, side, 3, "uchar").copy(interpretation="srgb")
    if side != PICTURE_PX:
        image = image.resize(PICTURE_PX / side)
    return bytes(image.write_to_buffer(".webp", Q=75, effort=2))
