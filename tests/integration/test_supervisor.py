"""The supervisor, on small real programs: order of start and stop, restarts, giving up, leftovers, the lock."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from halfdrop.contracts.errors import PermanentError
from halfdrop.deploy.children import Child
from halfdrop.deploy.folder import DataFolder, Ledger, RunningChild, is_alive, started_ticks
from halfdrop.deploy.parts import Part
from halfdrop.deploy.room import ENOUGH_BYTES, LOW_BYTES, watch_room
from halfdrop.deploy.supervisor import FAILURES_MAX, Supervisor

WaitUntil = Callable[..., Awaitable[None]]

STEADY = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
BROKEN = "import sys; print('no such model', flush=True); sys.exit(3)"


def make_part(folder: DataFolder, name: str, program: str = STEADY, *, grace_s: float = 5.0) -> Part:
    child = Child(name=name, argv=[sys.executable, "-u", "-c", program], log_path=folder.logs / f"{name}.log")

    async def answers() -> bool:
        return "up" in child.log_path.read_text()[child.log_start :]

    return Part(child, answers=answers, grace_s=grace_s, ready_timeout_s=10)


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    made = DataFolder(tmp_path / "data")
    made.prepare()
    return made


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(folder: DataFolder, said: list[str]) -> Supervisor:
    return Supervisor(folder=folder, url="http://127.0.0.1:1", say=said.append)


async def test_parts_start_in_order_and_stop_in_reverse(
    folder: DataFolder, supervisor: Supervisor, said: list[str]
) -> None:
    one, two, three = (make_part(folder, name) for name in ("one", "two", "three"))
    async with supervisor.running([[one], [two], [three]]):
        assert [part.process.is_running for part in (one, two, three)] == [True] * 3
        ledger = folder.read_ledger()
        assert ledger is not None
        assert [child.name for child in ledger.children] == ["one", "two", "three"]
    assert [line.split()[:2] for line in said] == [
        [name, word]
        for word, names in (("ready", "one two three"), ("stopped", "three two one"))
        for name in names.split()
    ]
    assert folder.read_ledger() is None


async def test_a_part_that_cannot_start_stops_the_ones_before_it(folder: DataFolder, supervisor: Supervisor) -> None:
    good, bad = make_part(folder, "good"), make_part(folder, "bad", BROKEN)
    with pytest.raises(PermanentError, match=r"(?s)^bad ended with status 3.*no such model"):
        async with supervisor.running([[good], [bad]]):
            pytest.fail("a part that ended counts as started")
    assert not good.process.is_running


async def test_a_killed_part_is_started_again(
    folder: DataFolder, supervisor: Supervisor, said: list[str], wait_until: WaitUntil
) -> None:
    part = make_part(folder, "worker")
    async with supervisor.running([[part]]):
        keeping = asyncio.ensure_future(supervisor.keep_running())
        first_pid = part.process.pid
        os.kill(first_pid, signal.SIGKILL)
        await wait_until(lambda: part.process.is_running and part.process.pid != first_pid)
        await wait_until(lambda: said[-1].startswith("  worker           ready"))
        keeping.cancel()
    assert f"worker ended (killed by SIGKILL); starting it again in 0.5 s; see {part.process.log_path}" in said


async def test_a_part_that_keeps_failing_is_given_up_on(folder: DataFolder, said: list[str]) -> None:
    supervisor = Supervisor(folder=folder, url="http://127.0.0.1:1", say=said.append, restart_wait_s=0.001)
    flag = folder.root / "started once"
    program = (
        "import pathlib, sys, time\n"
        f"flag = pathlib.Path({str(flag)!r})\n"
        "if flag.exists(): sys.exit('no room on the device')\n"
        "flag.touch(); print('up', flush=True); time.sleep(60)\n"
    )
    part = make_part(folder, "worker", program)
    async with supervisor.running([[part]]), asyncio.timeout(30):
        os.kill(part.process.pid, signal.SIGKILL)
        with pytest.raises(PermanentError, match=r"(?s)worker failed to start 8 times in a row.*no room on the device"):
            await supervisor.keep_running()
    assert sum("starting it again" in line for line in said) == FAILURES_MAX


async def test_a_part_that_starts_and_ends_again_is_kept_at(
    folder: DataFolder, said: list[str], wait_until: WaitUntil
) -> None:
    supervisor = Supervisor(folder=folder, url="http://127.0.0.1:1", say=said.append, restart_wait_s=1e-5)
    part = make_part(folder, "worker", "print('up', flush=True)\nimport sys, time; time.sleep(0.2); sys.exit(3)\n")
    async with supervisor.running([[part]]):
        keeping = asyncio.ensure_future(supervisor.keep_running())
        await wait_until(lambda: sum("starting it again" in line for line in said) > FAILURES_MAX)
        assert not keeping.done()
        keeping.cancel()


async def test_the_others_go_on_without_an_optional_part_that_cannot_live(
    folder: DataFolder, said: list[str], wait_until: WaitUntil
) -> None:
    supervisor = Supervisor(folder=folder, url="http://127.0.0.1:1", say=said.append, restart_wait_s=0.001)
    good, bad = make_part(folder, "good"), make_part(folder, "bad", BROKEN)
    bad.is_optional = True
    async with supervisor.running([[good]]):
        await supervisor.start_stage([bad])
        keeping = asyncio.ensure_future(supervisor.keep_running())
        await wait_until(lambda: "the rest goes on without it" in said[-1], timeout_s=30)
        assert good.process.is_running
        assert not keeping.done()
        keeping.cancel()
    assert not good.process.is_running


async def test_a_part_that_ignores_sigterm_is_killed_after_its_grace(
    folder: DataFolder, supervisor: Supervisor, said: list[str]
) -> None:
    part = make_part(folder, "stubborn", STUBBORN, grace_s=0.2)
    async with supervisor.running([[part]]):
        pass
    assert part.process.returncode == -signal.SIGKILL
    assert said[-1].endswith("(killed)")


async def test_kill_all_cuts_a_long_stop_short(folder: DataFolder, supervisor: Supervisor) -> None:
    part = make_part(folder, "stubborn", STUBBORN, grace_s=30)
    async with asyncio.timeout(10), supervisor.running([[part]]):
        asyncio.get_running_loop().call_later(0.1, supervisor.kill_all)
    assert part.process.returncode == -signal.SIGKILL


async def test_a_kill_ends_what_the_part_itself_started(
    folder: DataFolder, supervisor: Supervisor, wait_until: WaitUntil
) -> None:
    program = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, 'up', flush=True)\n"
        "time.sleep(60)\n"
    )
    part = make_part(folder, "parent", program)
    async with supervisor.running([[part]]):
        grandchild = int(part.process.log_path.read_text().split()[0])
        await part.kill()
        await wait_until(lambda: started_ticks(grandchild) is None)


async def test_streams_are_started_again_once_a_full_disk_has_room(
    folder: DataFolder,
    supervisor: Supervisor,
    said: list[str],
    wait_until: WaitUntil,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free_bytes = ENOUGH_BYTES + 1
    monkeypatch.setattr(folder, "free_bytes", lambda: free_bytes)
    server, other = make_part(folder, "nats"), make_part(folder, "edge")
    async with supervisor.running([[server, other]]), asyncio.TaskGroup() as group:
        watching = group.create_task(watch_room(folder, [server], said.append, poll_s=0.01))
        free_bytes = LOW_BYTES - 1
        await wait_until(lambda: said[-1].startswith("disk almost full: 63 MB free"))
        free_bytes = LOW_BYTES + 1  # between the two marks nothing happens
        await asyncio.sleep(0.1)
        assert server.process.is_running
        free_bytes = ENOUGH_BYTES + 1
        await wait_until(lambda: not server.process.is_running)
        assert other.process.is_running
        watching.cancel()


async def test_a_second_holder_of_the_directory_is_told_who_has_it(folder: DataFolder) -> None:
    folder.write_ledger(Ledger(supervisor_pid=4711, url="http://127.0.0.1:8080"))
    rival = DataFolder(folder.root)
    in_use = pytest.raises(PermanentError, match=r"in use .*process 4711, http://127.0.0.1:8080.*--data-dir")
    with folder.hold(), in_use, rival.hold():
        pytest.fail("two hold one directory")


async def test_leftovers_of_a_killed_supervisor_are_ended(folder: DataFolder) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", STUBBORN, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    await process.stdout.readline()
    ticks = started_ticks(process.pid)
    assert ticks is not None
    left = RunningChild(name="edge", pid=process.pid, started_ticks=ticks)
    folder.write_ledger(Ledger(supervisor_pid=1, url="", children=(left,)))

    assert await asyncio.to_thread(folder.end_leftovers) == ["edge"]

    assert not is_alive(left)
    assert await process.wait() == -signal.SIGKILL
    assert folder.read_ledger() is None


def test_a_process_that_merely_has_an_old_pid_is_left_alone(folder: DataFolder) -> None:
    stranger = RunningChild(name="edge", pid=os.getpid(), started_ticks=12)
    folder.write_ledger(Ledger(supervisor_pid=1, url="", children=(stranger,)))
    began = time.monotonic()
    assert folder.end_leftovers() == []
    assert time.monotonic() - began < 1


def test_a_directory_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PermanentError, match=r"cannot be written .Not a directory.; choose another with --data-dir"):
        DataFolder(tmp_path / "file" / "data").prepare()


def test_a_disk_without_room_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r"MB free, \d+ MB needed; make room"):
        DataFolder(tmp_path).prepare(free_min_bytes=2**60)
