"""Which plates a job is finished from: its own, else those stored under its key, else newly sampled ones."""

from functools import partial

from halfdrop.contracts.jobs import Job
from halfdrop.contracts.plates import Plates, decode_plates, encode_plates
from halfdrop.contracts.subjects import plates_path
from halfdrop.hub.finishing import finishing_steps
from halfdrop.hub.leaving import JobPace
from halfdrop.hub.progress import Progress
from halfdrop.hub.progress_pictures import ProgressPictures, draw_picture
from halfdrop.hub.reporting import Report
from halfdrop.hub.sampler import Resumption, Sampler
from halfdrop.hub.saved_work import TakeState
from halfdrop.runtime.objects import ObjectStore
from halfdrop.runtime.semantics import FILE_NAME, generating


async def render(
    job: Job, key: str, *, objects: ObjectStore, sampler: Sampler, report: Report, progress: Progress, pace: JobPace
) -> Plates:
    """Return the plates of the job's pattern, `key`.

    What was previewed is what is printed: plates that exist are never drawn again, and new ones are stored before
    anything is made of them, so that a later preview shows the same picture. Sampling that an earlier delivery began
    goes on from the step that was saved.
    """
    finishing = finishing_steps(job)
    plates = job.plates
    if plates is None:
        stored = await objects.get(plates_path(key))
        plates = decode_plates(stored) if stored is not None else None
    if plates is not None:
        drawn = max(0, report.status.steps - finishing)  # an earlier delivery drew them, and counted its steps
        report.plan(drawn + finishing, done=drawn)
        return plates
    steps = job.spec.num_inference_steps
    report.plan(steps + finishing)
    pace.sample(steps)

    def skip(done: int) -> None:
        pace.sample(steps - done)
        report.advance_from_thread(done)

    def end_step() -> None:
        pace.step()
        report.advance_from_thread()

    pictures = ProgressPictures(job, report, objects, steps=steps)

    def keep(take: TakeState, step: int) -> None:
        progress.keep_state(take, step)
        pictures.offer(lambda: partial(draw_picture, take(), job), step)

    resumption = Resumption(state=progress.state, on_resumed=skip, keep=keep)
    with report.stage("sampling", **generating(job.spec.model_digest, job.spec.seed)):
        plates = await sampler.draw(job.spec, on_step=end_step, resumption=resumption, job_class=job.job_class)
        with report.timed("upload", **{FILE_NAME: "plates.msgpack"}):
            await objects.put(plates_path(key), encode_plates(plates), media_type="application/msgpack")
    progress.forget_state()
    return plates
