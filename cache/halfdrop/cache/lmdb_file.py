"""One LMDB file of values in the order in which they came, bounded in bytes, and what to do when it is damaged.

Two tables: `values` maps a key to order number and value, `orders` maps order numbers to keys. When the file is full
the oldest values go first. Nothing is synced: after a crash of the process the operating system still holds every
page; after a crash of the machine the file may hold anything, so it is set aside and begun anew.

All calls are synchronous and raise lmdb.Error or OSError.
"""

import contextlib
from pathlib import Path
from typing import Final, Self

import lmdb
import structlog

log = structlog.get_logger()

ORDER_BYTES = 8

HEADROOM_SHARE = 4
HEADROOM_BYTES = 8 * 2**20
"""The map is larger than the capacity by a quarter and this: pages freed by an eviction can be used one commit later,
and a value needs its pages side by side."""

EVICTIONS_MAX = 64
"""Values dropped in one write at most, so that a write never holds the event loop for long."""

DATA_FILE = "data.mdb"
LOCK_FILE = "lock.mdb"
ASIDE_FILE = "data.mdb.damaged"
OPEN_MARK = "open-in-boot"
"""Exists while the file is in use, and holds the machine's boot id. Found with another id, the machine went down
while pages were unwritten."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

UNREADABLE: Final = (
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.IncompatibleError,
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.BadTxnError,  # what a new transaction becomes when the root of a table holds nonsense
)
"""What LMDB raises for a file that is not its own or holds nonsense; any other error is about the machine."""


class LmdbFile:
    """An open file of at most `capacity_bytes` in `directory`, which belongs to one process at a time."""

    def __init__(
        self, env: lmdb.Environment, values: "lmdb._Database", orders: "lmdb._Database", capacity_bytes: int
    ) -> None:
        self._env = env
        self._values = values
        self._orders = orders
        self._capacity_bytes = capacity_bytes

    @classmethod
    def open(cls, directory: Path, *, capacity_bytes: int) -> Self:
        """Open the file, made if missing; an unreadable one is set aside first. `directory` exists."""
        mark = directory / OPEN_MARK
        boot_id = BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""
        # Where the machine tells no boot id, a crash of it looks like a crash of the process: distrust both.
        if mark.exists() and (not boot_id or mark.read_text() != boot_id):
            set_aside(directory, cause="the machine went down while the file was in use")
        mark.write_text(boot_id)
        try:
            return cls._open(directory, capacity_bytes)
        except UNREADABLE as error:
            set_aside(directory, cause=str(error))
            return cls._open(directory, capacity_bytes)

    def read(self, key: bytes) -> bytes | None:
        with self._env.begin(db=self._values, buffers=True) as txn:
            stored = txn.get(key)
            return None if stored is None else bytes(stored[ORDER_BYTES:])

    def write(self, key: bytes, value: bytes) -> None:
        """Keep `value` as the newest one; the oldest go if there is no room."""
        try:
            self._write(key, value)
        except lmdb.MapFullError:
            # There are free pages, but nowhere enough of them side by side.
            log.warning("cache_cleared", tier="lmdb", cause="no room left in the map")
            with self._env.begin(write=True) as txn:
                txn.drop(self._values, delete=False)
                txn.drop(self._orders, delete=False)
            self._write(key, value)

    def remove(self, key: bytes) -> None:
        with self._env.begin(write=True) as txn:
            self._remove(txn, key)

    @property
    def used_bytes(self) -> int:
        """Bytes of the pages that hold values and their order now."""
        with self._env.begin() as txn:
            return self._used_bytes(txn)

    def sync(self) -> None:
        """Wait until the disk holds everything. May take seconds: not for the event loop."""
        self._env.sync(True)

    def close(self) -> None:
        """Close the file as it is; what was not synced is the operating system's to write."""
        self._env.close()

    @classmethod
    def _open(cls, directory: Path, capacity_bytes: int) -> Self:
        env = lmdb.Environment(
            str(directory),
            map_size=capacity_bytes + capacity_bytes // HEADROOM_SHARE + HEADROOM_BYTES,
            mode=0o600,
            max_dbs=2,
            max_spare_txns=1,  # the read transaction is reused: there is one reader, the event loop
            sync=False,
            metasync=False,
            readahead=False,  # values are read one by one, in no order
        )
        try:
            env.reader_check()  # a killed process leaves its reader slot, which would hold old pages for ever
            _check_length(env, directory)
            return cls(env, env.open_db(b"values"), env.open_db(b"orders"), capacity_bytes)
        except BaseException:
            env.close()
            raise

    def _write(self, key: bytes, value: bytes) -> None:
        with self._env.begin(write=True) as txn:
            self._remove(txn, key)
            self._make_room(txn, len(value))
            order = self._next_order(txn)
            txn.put(key, order + value, db=self._values)
            txn.put(order, key, db=self._orders, append=True)

    def _remove(self, txn: "lmdb.Transaction[bytes]", key: bytes) -> None:
        stored = txn.pop(key, db=self._values)
        if stored is not None:
            txn.delete(stored[:ORDER_BYTES], db=self._orders)

    def _make_room(self, txn: "lmdb.Transaction[bytes]", need_bytes: int) -> None:
        with txn.cursor(db=self._orders) as oldest:
            for _ in range(EVICTIONS_MAX):
                if self._used_bytes(txn) + need_bytes <= self._capacity_bytes or not oldest.first():
                    return
                order, key = oldest.item()
                txn.delete(key, db=self._values)
                txn.delete(order, db=self._orders)

    def _next_order(self, txn: "lmdb.Transaction[bytes]") -> bytes:
        with txn.cursor(db=self._orders) as newest:
            last = int.from_bytes(newest.key(), "big") if newest.last() else 0
        return (last + 1).to_bytes(ORDER_BYTES, "big")

    def _used_bytes(self, txn: "lmdb.Transaction[bytes]") -> int:
        used = 0
        for table in (self._values, self._orders):
            stat = txn.stat(table)
            used += stat["psize"] * (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"])
        return used


def set_aside(directory: Path, *, cause: str) -> None:
    """Rename the data file of `directory`, which nobody has open, in place of the one set aside before."""
    log.warning("cache_set_aside", tier="lmdb", cause=cause, kept=ASIDE_FILE)
    with contextlib.suppress(FileNotFoundError):
        (directory / DATA_FILE).replace(directory / ASIDE_FILE)
    (directory / LOCK_FILE).unlink(missing_ok=True)


def remove_file(directory: Path) -> None:
    """Remove the data file of `directory`, which nobody has open."""
    for name in (DATA_FILE, LOCK_FILE):
        (directory / name).unlink(missing_ok=True)


def mark_synced(directory: Path) -> None:
    """Say that the disk holds everything, so that the file is trusted after a crash of the machine."""
    (directory / OPEN_MARK).unlink(missing_ok=True)


def _check_length(env: lmdb.Environment, directory: Path) -> None:
    """Raise lmdb.CorruptedError for a file shorter than it says: touching the missing pages would end the process."""
    length = (directory / DATA_FILE).stat().st_size
    promised = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    if length < promised:
        raise lmdb.CorruptedError(f"{DATA_FILE} has {length} bytes of {promised}")
