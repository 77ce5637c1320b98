"""A job's progress between deliveries: kept in memory at each step, saved now and then, found by the next worker.

Keeping costs a reference. Saving is one object of about 66 KiB, at most every `save_every_s` seconds of a job, and once
when a stopping worker hands the job back; jobs shorter than that save nothing. Nothing here can fail a job: what cannot
be saved or read is logged, and the next worker begins anew.
"""

import asyncio
from collections.abc import Sequence
from importlib.metadata import version

import structlog

from halfdrop.contracts.errors import TransientError
from halfdrop.contracts.jobs import Artifact, Job
from halfdrop.contracts.subjects import artifact_path
from halfdrop.hub.saved_work import (
    SAVED_MAX_BYTES,
    SAVED_NAME,
    SamplerState,
    SavedFiles,
    SavedWork,
    TakeState,
    decode_saved,
    encode_saved,
    fields_digest,
)
from halfdrop.models.fields import Fields
from halfdrop.runtime.objects import ObjectStore

log = structlog.get_logger()

SAVE_MAX_S = 3.0
"""A stopping worker waits no longer for its last save: handing the job back is worth more."""

RELEASE = version("halfdrop")


class Progress:
    """What one delivery of a job has come to, and what an earlier one left. Used from the loop's thread, but for
    `keep_state`."""

    def __init__(self, objects: ObjectStore, job: Job, pattern_key: str) -> None:
        self.state: SamplerState | None = None
        """Where an earlier delivery's sampling stopped; only the sampler can tell whether it fits."""

        self.is_saved = False
        """Something may lie in the store that the end of the job should remove."""

        self._objects = objects
        self._job = job
        self._pattern_key = pattern_key
        self._path = artifact_path(job.tenant, job.id, SAVED_NAME)
        self._record: tuple[SavedWork, SamplerState | None] | None = None
        self._found: SavedFiles | None = None
        self._fields_sha256 = ""
        self._artifacts: dict[str, Artifact] = {}
        self._take: TakeState | None = None
        self._marks = self._saved_marks = (0, 0)
        """Steps and files there are, and those in the store."""

        self._saving = asyncio.Lock()

    async def load(self) -> None:
        """Find what an earlier delivery saved. What is of another spec, size or release is left alone."""
        self.is_saved = True
        try:
            size_bytes = await self._objects.size(self._path)
            if size_bytes is None:
                return
            if size_bytes > SAVED_MAX_BYTES:
                raise ValueError(f"size: got {size_bytes} bytes; allowed: {SAVED_MAX_BYTES}")
            self._record = decode_saved(await self._objects.get(self._path) or b"")
        except (ValueError, TransientError) as error:
            log.warning("saved_work_ignored", reason=str(error))
            return
        self._take_up()

    def keep_state(self, take: TakeState, step: int) -> None:
        """Remember how to get at the sampler's state after `step`; from any thread."""
        self._take, self._marks = take, (step, self._marks[1])

    def forget_state(self) -> None:
        """The plates are stored: nobody needs the way to them."""
        self._take = self.state = None

    async def begin_files(self, fields: Fields, palette: Sequence[str]) -> dict[str, Artifact]:
        """Return those files of an earlier delivery that were made of the same fields and are there in full size."""
        self._fields_sha256 = fields_digest(fields, tuple(palette))
        found = self._found
        if found is None or found.fields_sha256 != self._fields_sha256:
            return {}
        for artifact in found.artifacts:
            if await self._objects.size(artifact.path) == artifact.size_bytes:
                self._artifacts[artifact.name] = artifact
        self._marks = self._saved_marks = (self._marks[0], len(self._artifacts))
        return dict(self._artifacts)

    def keep_file(self, artifact: Artifact) -> None:
        """Remember a file that is stored whole."""
        self._artifacts[artifact.name] = artifact
        self._marks = (self._marks[0], len(self._artifacts))

    def forget_files(self) -> None:
        """The files are no longer wanted, and are removed."""
        self._artifacts = {}
        self._marks = (self._marks[0], 0)

    def turn_to(self, job: Job, pattern_key: str) -> None:
        """Go on with another pattern of the same order: what was saved of it, if that is what was saved."""
        self._job, self._pattern_key = job, pattern_key
        self.state, self._take, self._found, self._fields_sha256 = None, None, None, ""
        self.forget_files()
        self._marks = self._saved_marks = (0, 0)
        self._take_up()

    def _take_up(self) -> None:
        """Take up what was saved, if it is of this release, pattern and size."""
        if self._record is None:
            return
        record, state = self._record
        wanted = (RELEASE, self._pattern_key, self._job.size_px)
        if (record.release, record.pattern_key, record.size_px) != wanted:
            reason = f"saved by {record.release} of {record.pattern_key} at {record.size_px} px"
            log.warning("saved_work_ignored", reason=reason)
            return
        self.state, self._found = state, record.files
        log.info(
            "saved_work_found",
            step=state.step if state else 0,
            files=len(record.files.artifacts) if record.files else 0,
        )

    async def save(self) -> None:
        """Put what there is into the store, if it is more than what lies there."""
        async with self._saving:
            marks, take = self._marks, self._take
            if marks == self._saved_marks:
                return
            try:
                data = await asyncio.to_thread(self._encode, take)  # a GPU may have to be waited for
                self.is_saved = True
                await self._objects.put(self._path, data)
            except TransientError as error:
                log.warning("work_not_saved", error=error.detail)
            except Exception:
                log.exception("work_not_saved")
            else:
                self._saved_marks = marks
                log.debug("work_saved", step=marks[0], files=marks[1], size_bytes=len(data))

    async def save_before_leaving(self) -> None:
        """Save for the last time, within SAVE_MAX_S."""
        try:
            async with asyncio.timeout(SAVE_MAX_S):
                await self.save()
        except TimeoutError:
            log.warning("work_not_saved", error=f"the object store took more than {SAVE_MAX_S:g} s")

    async def save_often(self, every_s: float) -> None:
        """Save every `every_s` seconds until cancelled, for a worker that is killed; 0: never."""
        while every_s:
            await asyncio.sleep(every_s)
            await self.save()

    def _encode(self, take: TakeState | None) -> bytes:
        artifacts = tuple(self._artifacts.values())
        files = SavedFiles(fields_sha256=self._fields_sha256, artifacts=artifacts) if artifacts else None
        return encode_saved(
            release=RELEASE,
            pattern_key=self._pattern_key,
            size_px=self._job.size_px,
            state=take() if take else None,
            files=files,
        )
