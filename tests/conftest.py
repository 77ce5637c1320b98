"""Real servers for tests, each test its own: embedded NATS and Valkey on free ports, an object store in a folder.

A missing program fails the test, it never skips it.
"""

import asyncio
import contextlib
import inspect
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import httpx
import hypothesis
import msgspec
import nats.errors
import pytest

from halfdrop.contracts.subjects import HUB_DOMAIN, edge_domain
from halfdrop.deploy.folder import DataFolder
from halfdrop.deploy.servers import NatsServer, ValkeyServer, run_nats_server, run_valkey
from halfdrop.deploy.topology import wait_until_linked
from halfdrop.models.bundle import MANIFEST_NAME, file_table, shipped_bundle_dir

# The machine may be at other work: how long an example takes is no finding.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")

WaitUntil = Callable[..., Awaitable[None]]

VOCABULARY = "tokenizer/vocab.json"

UP_READY_S = 90.0
"""The whole system starts in about three seconds; a machine that trains beside it takes longer."""

EDGE = "test"
"""Name of the edge in tests; its JetStream domain is "edge-test"."""


@pytest.fixture
async def hub_nats(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """The hub's NATS: JetStream domain "hub", takes leaf nodes."""
    async with run_nats_server(name="hub", data_dir=tmp_path / "nats-hub", domain=HUB_DOMAIN, leaf_port=0) as server:
        yield server


@pytest.fixture
async def edge_nats(tmp_path: Path, hub_nats: NatsServer) -> AsyncIterator[NatsServer]:
    """An edge's NATS, linked as a leaf of `hub_nats`: the hub's JetStream answers through it."""
    async with run_nats_server(
        name=edge_domain(EDGE),
        data_dir=tmp_path / "nats-edge",
        domain=edge_domain(EDGE),
        leaf_remote=hub_nats.leaf_url,
    ) as server:
        await wait_until_linked(server.url, domain=HUB_DOMAIN)
        yield server


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[ValkeyServer]:
    """An empty Valkey."""
    async with run_valkey(data_dir=tmp_path / "valkey", maxmemory_bytes=32 * 2**20) as server:
        yield server


@pytest.fixture
def objects_url(tmp_path: Path) -> str:
    """An empty object store in a folder."""
    folder = tmp_path / "objects"
    folder.mkdir()
    return folder.as_uri()


@pytest.fixture
def wait_until() -> WaitUntil:
    """`await wait_until(condition, timeout_s=30)`: wait for a function, plain or async, to return something true.

    A server that is being restarted answers with an error for a while: that is "not yet", and is told if it stays so.
    """
    return _wait_until


async def _wait_until(condition: Callable[[], object], *, timeout_s: float = 30.0, poll_s: float = 0.02) -> None:
    last_error: Exception | None = None
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    outcome = condition()
                    if await outcome if inspect.isawaitable(outcome) else outcome:
                        return
                    last_error = None
                except (nats.errors.Error, httpx.TransportError) as error:
                    last_error = error
                await asyncio.sleep(poll_s)
    except TimeoutError as error:
        name = getattr(condition, "__qualname__", repr(condition))
        raise TimeoutError(f"not true within {timeout_s} s: {name}") from last_error or error


class System:
    """A running `halfdrop up` in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, folder: DataFolder) -> None:
        self.process = process
        self.folder = folder
        self.url = ""
        self.lines: list[str] = []

    @property
    def output(self) -> str:
        return "".join(self.lines)

    async def read_until(self, start: str) -> str:
        """Return the next line that begins with `start`; fails with the output if it never comes."""
        assert self.process.stdout is not None
        while line := (await self.process.stdout.readline()).decode():
            self.lines.append(line)
            if line.startswith(start):
                return line
        pytest.fail(f"`halfdrop up` ended without saying {start!r}:\n{self.output}")

    def pid(self, name: str) -> int:
        """Return the pid of a part: "edge", "hub-1", "nats-hub" …"""
        ledger = self.folder.read_ledger()
        assert ledger is not None
        return next(child.pid for child in ledger.children if child.name == name)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a part."""
        os.kill(self.pid(name), number)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal to the supervisor, and return its exit status once it is gone."""
        assert self.process.stdout is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        self.lines.append((await self.process.stdout.read()).decode())
        return await self.process.wait()

    def survivors(self) -> list[str]:
        """Return the command lines of all processes that were started for this data directory and still run."""
        mark = str(self.folder.root).encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (process / "cmdline").read_bytes()  # empty for a zombie
                if command and (mark in command or mark in (process / "environ").read_bytes()):
                    found.append(command.replace(b"\0", b" ").decode())
        return found


StartUp = Callable[..., Awaitable[System]]


@pytest.fixture
async def start_up(tmp_path: Path) -> AsyncIterator[StartUp]:
    """`system = await start_up(*options, **environment)`: run `halfdrop up` on a free port until the test ends."""
    systems: list[System] = []

    async def start(*options: str, data_dir: Path = tmp_path / "data", **environ: str) -> System:
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("halfdrop"),
            *("up", "--port", "0", "--data-dir", str(data_dir), *options),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **environ},
        )
        system = System(process, DataFolder(data_dir))
        systems.append(system)
        async with asyncio.timeout(UP_READY_S):
            system.url = (await system.read_until("ready ")).split()[1]
        return system

    yield start
    for system in systems:
        if system.process.returncode is None:
            await system.stop()


ChangeBundle = Callable[..., Path]


@pytest.fixture
def change_bundle(tmp_path: Path) -> ChangeBundle:
    """`directory = change_bundle("4", files={"onnx/denoiser.onnx": b"…"})`: the shipped bundle under another version.

    Unless files are given, it takes "red" for "blue" and the other way round: its pictures show which model drew them.
    """

    def change(version: str, *, files: Mapping[str, bytes] | None = None, **members: object) -> Path:
        directory = tmp_path / f"bundle-{version}"
        shutil.copytree(shipped_bundle_dir(), directory)
        if files is None:
            words = json.loads((directory / VOCABULARY).read_text())
            words["red"], words["blue"] = words["blue"], words["red"]
            files = {VOCABULARY: json.dumps(words).encode()}
        for path, content in files.items():
            (directory / path).write_bytes(content)
        manifest = json.loads((directory / MANIFEST_NAME).read_text()) | {"version": version, **members}
        table = {path: msgspec.to_builtins(file) for path, file in file_table(directory).items()}
        (directory / MANIFEST_NAME).write_text(json.dumps(manifest | {"files": table}))
        return directory

    return change
