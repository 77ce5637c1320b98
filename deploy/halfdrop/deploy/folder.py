"""The data directory of a running system: where each part keeps what it keeps, and who holds it.

One supervisor holds a directory at a time. The lock is the kernel's, so it ends with its holder however that ends;
the ledger says which children ran, so that the next start can end any that outlived a killed supervisor.
"""

import fcntl
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.subjects import LOCAL_REGION

FREE_MIN_BYTES = 256 * 2**20
"""Refuse to start with less: one 8192 px order with its plates can take 100 MB."""

LEFTOVER_GRACE_S = 2.0
"""How long a leftover gets between SIGTERM and SIGKILL."""


class RunningChild(msgspec.Struct, frozen=True, kw_only=True):
    """A child in the ledger. Pids are used again, so a process is known by its pid and its start together."""

    name: str
    pid: int
    started_ticks: int
    """Kernel ticks between the boot and the start of the process."""


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """Who runs on a data directory: `up.json`."""

    supervisor_pid: int
    url: str
    children: tuple[RunningChild, ...] = ()


class DataFolder:
    """A data directory and the paths in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.nats_hub = root / "nats-hub"
        self.nats_edge = root / "nats-edge"
        self.valkey = root / "valkey"
        self.objects = root / "objects"
        self.edge = root / "edge"
        self.models = root / "models"
        self.logs = root / "logs"
        self.lock = root / "up.lock"
        self.ledger = root / "up.json"

    def nats_of(self, region: str) -> Path:
        """Where the NATS server of a region's hub keeps what it keeps."""
        return self.nats_hub if region == LOCAL_REGION else self.root / f"nats-hub-{region}"

    def prepare(self, *, free_min_bytes: int = FREE_MIN_BYTES) -> None:
        """Make the directory and what is in it, and check it. Raises PermanentError(data-dir or disk-full)."""
        try:
            for folder in (self.root, self.objects, self.edge, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
            probe = self.root / ".writable"
            probe.write_bytes(b"x" * 4096)
            probe.unlink()
        except OSError as error:
            raise self._cannot_write(error.strerror or str(error)) from error
        self.check(free_min_bytes=free_min_bytes)

    def check(self, *, free_min_bytes: int = FREE_MIN_BYTES) -> None:
        """See that the directory, or the nearest one above it that exists, can be written and has room.

        Changes nothing. Raises PermanentError(data-dir or disk-full), in one line that says what to do.
        """
        nearest = self._nearest()
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise self._cannot_write(f"{nearest} is no folder that we may write")
        free_bytes = self.free_bytes()
        if free_bytes < free_min_bytes:
            raise PermanentError(
                f"data directory {self.root}: {free_bytes // 2**20} MB free, {free_min_bytes // 2**20} MB needed; "
                "make room, or choose another with --data-dir",
                code="disk-full",
            )

    def free_bytes(self) -> int:
        """Return the room on the directory's file system."""
        return shutil.disk_usage(self._nearest()).free

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the directory until the block ends. Raises PermanentError(in-use) if another supervisor does."""
        with self.lock.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise PermanentError(self._describe_holder(), code="in-use") from error
            yield

    def read_ledger(self) -> Ledger | None:
        """Return who runs, or last ran, here; None if nobody did."""
        try:
            return msgspec.json.decode(self.ledger.read_bytes(), type=Ledger)
        except (OSError, msgspec.MsgspecError):
            return None

    def write_ledger(self, ledger: Ledger) -> None:
        """Say who runs here."""
        fresh = self.ledger.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(ledger))
        fresh.replace(self.ledger)

    def end_leftovers(self) -> list[str]:
        """End the children of a supervisor that is gone, and return their names. Call it while holding the lock."""
        ledger = self.read_ledger()
        left = [child for child in ledger.children if is_alive(child)] if ledger else []
        for number, grace_s in ((signal.SIGTERM, LEFTOVER_GRACE_S), (signal.SIGKILL, LEFTOVER_GRACE_S)):
            _signal_and_wait([child for child in left if is_alive(child)], number, grace_s)
        self.ledger.unlink(missing_ok=True)
        return [child.name for child in left]

    def _nearest(self) -> Path:
        root = self.root.absolute()
        return next(folder for folder in (root, *root.parents) if folder.exists())

    def _cannot_write(self, reason: str) -> PermanentError:
        detail = f"data directory {self.root} cannot be written ({reason}); choose another with --data-dir"
        return PermanentError(detail, code="data-dir")

    def _describe_holder(self) -> str:
        ledger = self.read_ledger()
        who = f"process {ledger.supervisor_pid}, {ledger.url}" if ledger else "just starting"
        return (
            f"data directory {self.root} is in use by another `halfdrop up` ({who}); stop that one, "
            "or choose another with --data-dir"
        )


def started_ticks(pid: int) -> int | None:
    """Return when process `pid` began, in kernel ticks since the boot; None if it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def is_alive(child: RunningChild) -> bool:
    """True if this very process still runs, not another one with its pid."""
    return started_ticks(child.pid) == child.started_ticks


def _signal_and_wait(children: list[RunningChild], number: signal.Signals, grace_s: float) -> None:
    for child in children:
        try:
            os.kill(child.pid, number)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + grace_s
    while any(is_alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.02)
