"""How files come into a model store: put together out of sight, flushed to the disk, then shown by one rename.

Whoever puts something together holds a kernel lock on its folder, which ends with its process however that ends. So
the next one to come can tell what was left behind from what is still being worked on, and removes it.
"""

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from halfdrop.contracts.errors import PermanentError
from halfdrop.models.bundle import MANIFEST_NAME, BundleFile, OnProgress, bad_bundle, plain_file

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


def copy_files(
    source: Path, target: Path, files: Mapping[str, BundleFile], on_progress: OnProgress | None = None
) -> None:
    """Copy a bundle's files into the new folder `target`; on_progress is told ("copying", bytes, of bytes).

    Raises PermanentError(bad-bundle) as `read_checked` does.
    """
    done_bytes, total_bytes = 0, sum(file.bytes for file in files.values())
    for path, file in sorted(files.items()):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        with (target / path).open("xb") as writing:
            for chunk in read_checked(source, path, file):
                writing.write(chunk)
                done_bytes += len(chunk)
                if on_progress is not None:
                    on_progress("copying", done_bytes, total_bytes)


def read_checked(directory: Path, path: str, file: BundleFile) -> Iterator[bytes]:
    """Yield the content of a bundle's file, never more than its size, and check it at the end.

    Raises PermanentError(bad-bundle) for a link, for a device, and for what differs from `file`.
    """
    digest, left_bytes = hashlib.sha256(), file.bytes
    # The file may be swapped for a link just after it was looked at: O_NOFOLLOW has the last word.
    descriptor = os.open(plain_file(directory, path), os.O_RDONLY | os.O_NOFOLLOW)
    with open(descriptor, "rb") as stream:
        while left_bytes and (chunk := stream.read(min(left_bytes, _CHUNK_BYTES))):
            left_bytes -= len(chunk)
            digest.update(chunk)
            yield chunk
        if left_bytes or stream.read(1) or digest.hexdigest() != file.sha256:
            detail = f"{path} is damaged or was changed: it is not what {MANIFEST_NAME} says"
            raise bad_bundle(directory, f"{detail}; fetch the bundle again")


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
        if not folder.is_dir():
            continue
        holder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(holder)
