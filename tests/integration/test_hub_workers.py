"""Workers that stop, fail or lose what they lean on: their jobs are finished by them or by the next."""

from collections.abc import Awaitable, Callable

from hub_bench import Bench, bench, make_job

from halfdrop.contracts import subjects
from halfdrop.contracts.jobs import JobState, encode_job
from halfdrop.deploy.servers import NatsServer

__all__ = ["bench"]

WaitUntil = Callable[..., Awaitable[None]]


async def test_with_the_object_store_away_a_job_is_tried_again_and_completes(
    bench: Bench, wait_until: WaitUntil
) -> None:
    job = make_job()
    bench.take_store_away()
    async with bench.worker():
        await bench.order(job)
        await wait_until(lambda: bench.has_state(job.id, JobState.RETRYING))
        retrying = await bench.last(job.id)
        assert retrying is not None
        assert retrying.error is not None
        assert retrying.error.is_transient
        bench.bring_store_back()
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED))
    status = await bench.last(job.id)
    assert status is not None
    assert status.attempt == 2
    assert status.started_at == retrying.started_at


async def test_an_outage_of_the_object_store_spends_a_jobs_deliveries_slowly(
    bench: Bench, wait_until: WaitUntil
) -> None:
    job = make_job()
    bench.take_store_away()

    async def has_tried_twice() -> bool:
        status = await bench.last(job.id)
        return status is not None and status.attempt == 2 and status.state is JobState.RETRYING

    async with bench.worker(max_deliver=1):
        await bench.order(job)
        await wait_until(has_tried_twice)
        bench.bring_store_back()
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED))
    assert await bench.waiting(subjects.DEAD_STREAM) == 0


async def test_work_without_an_end_is_called_off_and_tried_again(bench: Bench, wait_until: WaitUntil) -> None:
    async with bench.worker(job_max_s=0.01, max_deliver=1):
        await bench.order(make_job(size_px=8192))
        await wait_until(lambda: bench.has_state("job1", JobState.FAILED))
    status = await bench.last("job1")
    assert status is not None
    assert status.error is not None
    assert status.error.code == "too-slow"


async def test_after_its_last_delivery_a_job_fails_and_lies_with_the_dead_letters(
    bench: Bench, wait_until: WaitUntil
) -> None:
    job = make_job(size_px=8192)
    async with bench.worker(max_deliver=2, job_max_s=0.01):
        await bench.order(job)
        await wait_until(lambda: bench.has_state(job.id, JobState.FAILED))
        await wait_until(bench.is_empty)
    status = await bench.last(job.id)
    assert status is not None
    assert status.error is not None
    assert (status.error.code, status.attempt) == ("too-slow", 2)
    dead = await bench.broker.js.get_last_msg(subjects.DEAD_STREAM, subjects.dead_job(job.id))
    assert dead.data == encode_job(job)


async def test_a_worker_that_stops_hands_its_job_back_to_the_next_at_once(bench: Bench, wait_until: WaitUntil) -> None:
    job = make_job(size_px=4096)
    async with bench.worker("hub-1", grace_s=0, ack_wait_s=30) as stop:
        await bench.order(job)
        await wait_until(lambda: bench.has_state(job.id, JobState.PROCESSING))
        stop.set()
        await wait_until(lambda: bench.has_state(job.id, JobState.RETRYING))
    async with bench.worker("hub-2", ack_wait_s=30):
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED))
    status = await bench.last(job.id)
    assert status is not None
    assert (status.worker, status.attempt) == ("hub-2", 2)


async def test_a_worker_that_stops_finishes_what_its_grace_allows(bench: Bench, wait_until: WaitUntil) -> None:
    job, later = make_job("job1", size_px=4096), make_job("job2")
    async with bench.worker() as stop:
        await bench.order(job)
        await bench.order(later)
        await wait_until(lambda: bench.has_state(job.id, JobState.PROCESSING))
        stop.set()
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED))
    assert await bench.last("job2") is None
    assert await bench.waiting() == 1


async def test_a_worker_outlives_its_broker(bench: Bench, hub_nats: NatsServer, wait_until: WaitUntil) -> None:
    async with bench.worker():
        await bench.order(make_job("job1"))
        await wait_until(lambda: bench.has_state("job1", JobState.COMPLETED))
        await hub_nats.kill()
        await wait_until(lambda: not bench.broker.is_connected)
        await hub_nats.start()
        await wait_until(lambda: bench.broker.is_connected)
        await bench.order(make_job("job2"))
        await wait_until(lambda: bench.has_state("job2", JobState.COMPLETED))


async def test_workers_share_the_queue_and_finish_each_job_once(bench: Bench, wait_until: WaitUntil) -> None:
    job_ids = [f"job{number}" for number in range(8)]
    async with bench.worker("hub-1"), bench.worker("hub-2"):
        for job_id in job_ids:
            await bench.order(make_job(job_id, size_px=1024))
        await wait_until(bench.is_empty, timeout_s=30)
    workers = set()
    for job_id in job_ids:
        statuses = await bench.statuses(job_id)
        assert [s.state for s in statuses].count(JobState.COMPLETED) == 1
        assert statuses[-1].attempt == 1
        workers.add(statuses[-1].worker)
    assert workers == {"hub-1", "hub-2"}
