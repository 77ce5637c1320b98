"""How files come into a model store: put together out of sight, flushed to the disk, then shown by one rename.

Whoever puts something together holds a kernel lock on its folder, which ends with its process however that ends. So
the next one to come can tell what was left behind from what is still being worked on, and removes it.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from halfdrop.contracts.errors import PermanentError
from halfdrop.models.bundle import OnProgress, bad_bundle, plain_file

FREE_MARGIN_BYTES = 64 * 2**20
"""Room that must be left on the disk beside what comes in."""

_LOCK_NAME = ".lock"
_INCOMING = ".incoming-"
_CHUNK_BYTES = 1024 * 1024


@contextmanager
def hold_store(directory: Path) -> Iterator[None]:
    """Keep other processes and threads from changing what is visible in a store until the block ends.

    Held for moments, but for reading a bundle again that is there already. Not to be nested.
    """
    with (directory / _LOCK_NAME).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def open_room(directory: Path, *, size_bytes: int) -> Iterator[Path]:
    """Yield the path of a folder, not made yet, below a hidden one in `directory`, both gone when the block ends.

    Makes `directory`, and removes what killed processes left there. Raises PermanentError(disk-full) unless there is
    room for `size_bytes` and FREE_MARGIN_BYTES.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with hold_store(directory):
        _sweep(directory)
        free_bytes, needed_bytes = shutil.disk_usage(directory).free, size_bytes + FREE_MARGIN_BYTES
        if free_bytes < needed_bytes:
            got = f"{free_bytes // 10**6} MB free, {needed_bytes // 10**6} MB needed"
            raise PermanentError(
                f"model store {directory}: {got}; make room, or choose another folder", code="disk-full"
            )
        folder = hidden_place(directory)
        folder.mkdir()
        holder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(holder, fcntl.LOCK_EX)
    try:
        yield folder / "bundle"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(holder)


def hidden_place(directory: Path) -> Path:
    """Return a new name in `directory` for something that is coming or going; the next `open_room` sweeps it."""
    return directory / f"{_INCOMING}{secrets.token_hex(8)}"


def copy_files(source: Path, target: Path, sizes: Mapping[str, int], on_progress: OnProgress | None) -> None:
    """Copy plain files, by path and size in bytes, into the new folder `target`; tells ("copying", bytes, of bytes).

    Raises PermanentError(bad-bundle) for a link, for a device, and for a file that turns out longer than its size.
    """
    done_bytes, total_bytes = 0, sum(sizes.values())
    for path, size_bytes in sizes.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        # The file may be swapped for a link just after it was looked at: O_NOFOLLOW has the last word.
        descriptor = os.open(plain_file(source, path), os.O_RDONLY | os.O_NOFOLLOW)
        left_bytes = size_bytes
        with open(descriptor, "rb") as reading, (target / path).open("xb") as writing:
            while chunk := reading.read(_CHUNK_BYTES):
                left_bytes -= len(chunk)
                if left_bytes < 0:
                    raise bad_bundle(source, f"{path} grew while it was copied; import it again")
                writing.write(chunk)
                done_bytes += len(chunk)
                if on_progress is not None:
                    on_progress("copying", done_bytes, total_bytes)


def flush_tree(folder: Path) -> None:
    """Have everything below `folder` on the disk before anybody is told of it."""
    for path in (*folder.rglob("*"), folder):
        flush(path)


def flush(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(directory: Path) -> None:
    """Remove what nobody holds any more. Only for the holder of the store: a new folder is not yet locked itself."""
    for folder in directory.glob(f"{_INCOMING}*"):
        holder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(holder)
