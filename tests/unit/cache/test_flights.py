"""Single flight: one piece of work for all who ask at once, and nobody's giving up is another's loss."""

import asyncio

import pytest

from halfdrop.cache.flights import SingleFlight
from halfdrop.contracts.errors import Unavailable


class Work:
    """Counts its starts and ends when told to."""

    def __init__(self) -> None:
        self.started = 0
        self.cancelled = 0
        self.outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> str:
        self.started += 1
        try:
            return await asyncio.shield(self.outcome)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


async def board(flights: SingleFlight[str], work: Work, count: int) -> list["asyncio.Task[str]"]:
    tasks = [asyncio.create_task(flights.run("key", work)) for _ in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_a_hundred_callers_of_one_key_share_one_piece_of_work() -> None:
    flights: SingleFlight[str] = SingleFlight()
    work = Work()
    tasks = await board(flights, work, 100)
    work.outcome.set_result("made")
    assert await asyncio.gather(*tasks) == ["made"] * 100
    assert work.started == 1


async def test_other_keys_have_flights_of_their_own_and_a_later_caller_a_new_one() -> None:
    flights: SingleFlight[str] = SingleFlight()
    work = Work()
    work.outcome.set_result("made")
    await asyncio.gather(flights.run("a", work), flights.run("b", work))
    await flights.run("a", work)
    assert work.started == 3


async def test_a_failure_reaches_every_caller_and_the_next_one_tries_again() -> None:
    flights: SingleFlight[str] = SingleFlight()
    work = Work()
    tasks = await board(flights, work, 3)
    work.outcome.set_exception(ValueError("broken"))
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["broken"] * 3
    again = Work()
    again.outcome.set_result("made")
    assert await flights.run("key", again) == "made"


async def test_a_caller_that_gives_up_does_not_cancel_the_others_not_even_the_first() -> None:
    flights: SingleFlight[str] = SingleFlight()
    work = Work()
    first, second, third = await board(flights, work, 3)
    first.cancel()
    third.cancel()
    await asyncio.wait([first, third])
    work.outcome.set_result("made")
    assert await second == "made"
    assert (work.started, work.cancelled) == (1, 0)


async def test_work_that_nobody_waits_for_is_cancelled_and_begun_anew_for_the_next() -> None:
    flights: SingleFlight[str] = SingleFlight()
    work = Work()
    tasks = await board(flights, work, 2)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    again = Work()
    again.outcome.set_result("made")
    assert await flights.run("key", again) == "made"
    assert (work.cancelled, again.started) == (1, 1)


async def test_closing_ends_the_work_and_its_callers_get_an_error_not_a_cancellation() -> None:
    flights: SingleFlight[str] = SingleFlight()
    work = Work()
    tasks = await board(flights, work, 2)
    await flights.close()
    for task in tasks:
        with pytest.raises(Unavailable):
            await task
    assert work.cancelled == 1
