import asyncio
from pathlib import Path

from halfdrop.hub.interruption import watch_for_interruption


async def test_the_file_of_a_termination_handler_stops_the_worker(tmp_path: Path) -> None:
    stop, path = asyncio.Event(), tmp_path / "going"
    watching = asyncio.create_task(watch_for_interruption(str(path), stop))
    await asyncio.sleep(0.05)
    assert not stop.is_set()
    path.touch()
    async with asyncio.timeout(5):
        await stop.wait()
        await watching


async def test_without_a_path_nothing_is_watched_and_a_stopping_worker_watches_no_longer(tmp_path: Path) -> None:
    stop = asyncio.Event()
    await watch_for_interruption("", stop)
    assert not stop.is_set()
    stop.set()
    async with asyncio.timeout(1):
        await watch_for_interruption(str(tmp_path / "never"), stop)
