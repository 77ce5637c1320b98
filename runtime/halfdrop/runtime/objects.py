"""The object store: truth at rest. One small face over obstore's local directory, S3, GCS and Azure.

A missing object is None; an outage raises Unavailable. Writes are atomic: a reader sees the whole object or none.
"""

import builtins
import os
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, MemoryStore, from_url
from obstore.store import ObjectStore as Store

from halfdrop.contracts.errors import PermanentError, Unavailable

if TYPE_CHECKING:  # the library defines these names for type checkers only
    from obstore.store import ClientConfig, RetryConfig

CHUNK_BYTES = 1024 * 1024

CONNECT_TIMEOUT = timedelta(seconds=2)
REQUEST_TIMEOUT = timedelta(seconds=30)
_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")
"""Paths that mean the same to the library and to the system."""

RETRY: "RetryConfig" = {"max_retries": 2, "retry_timeout": timedelta(seconds=5)}
"""The library would retry for three minutes; our callers have their own fall-backs and want to know sooner."""


class ObjectStore:
    """Objects by path, relative to the URL that was opened. Safe to share between tasks and threads."""

    def __init__(self, store: Store, url: str, *, folder: str = "") -> None:
        self._store = store
        self._folder = folder
        self._directory = str(store.prefix) if isinstance(store, LocalStore) and store.prefix else ""
        self.url = url

    def below(self, folder: str) -> "ObjectStore":
        """Return the part of this store below `folder`: paths given to it and got from it are relative to that."""
        return ObjectStore(self._store, self.url, folder=f"{self._folder}{folder}/")

    async def put(self, path: str, data: bytes, *, media_type: str = "application/octet-stream") -> None:
        """Store `data` under `path`, replacing what was there."""
        # A plain directory has nowhere to keep a media type and refuses attributes.
        attributes = None if isinstance(self._store, LocalStore) else {"Content-Type": media_type}
        try:
            await obstore.put_async(self._store, self._folder + path, data, attributes=attributes)
        except (BaseError, OSError) as error:
            raise _unavailable("write", path, error) from error

    async def create(self, path: str, data: bytes, *, media_type: str = "application/octet-stream") -> bool:
        """Store `data` under `path` if nothing is there; return whether it was stored. Of several at once one wins."""
        attributes = None if isinstance(self._store, LocalStore) else {"Content-Type": media_type}
        try:
            await obstore.put_async(self._store, self._folder + path, data, attributes=attributes, mode="create")
        except AlreadyExistsError:
            return False
        except (BaseError, OSError) as error:
            raise _unavailable("create", path, error) from error
        return True

    async def get(self, path: str) -> bytes | None:
        """Return the whole object, or None if there is none."""
        if self._is_missing(path):
            return None
        try:
            result = await obstore.get_async(self._store, self._folder + path)
            return bytes(await result.bytes_async())
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise _unavailable("read", path, error) from error

    def _is_missing(self, path: str) -> bool:
        """True if there is certainly no such object: in a directory that costs one system call to know, and a tenth of
        what handing the question to the library's threads does."""
        if not self._directory or not _PLAIN.fullmatch(path):
            return False
        try:
            os.stat(f"{self._directory}/{self._folder}{path}")
        except FileNotFoundError:
            return True
        except OSError:  # the library says what is the matter
            return False
        return False

    async def get_range(self, path: str, start: int, length: int) -> bytes | None:
        """Return up to `length` bytes from `start`, which lies inside the object; None if there is no object."""
        try:
            return bytes(await obstore.get_range_async(self._store, self._folder + path, start=start, length=length))
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise _unavailable("read", path, error) from error

    async def size(self, path: str) -> int | None:
        """Return the object's size in bytes, or None if there is none."""
        try:
            return int((await obstore.head_async(self._store, self._folder + path))["size"])
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise _unavailable("read", path, error) from error

    async def stream(self, path: str) -> AsyncIterator[bytes]:
        """Yield the object in chunks of about 1 MiB. Raises FileNotFoundError if there is none."""
        try:
            result = await obstore.get_async(self._store, self._folder + path)
            async for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)
        except FileNotFoundError:
            raise
        except (BaseError, OSError) as error:
            raise _unavailable("read", path, error) from error

    async def delete(self, path: str) -> None:
        """Remove the object; removing what is not there is no error."""
        try:
            await obstore.delete_async(self._store, self._folder + path)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise _unavailable("delete", path, error) from error

    async def list(self, prefix: str) -> list[str]:
        """Return the paths below `prefix`, a whole folder name, sorted."""
        try:
            batches = obstore.list(self._store, self._folder + prefix)
            found = [entry["path"].removeprefix(self._folder) async for batch in batches for entry in batch]
        except (BaseError, OSError) as error:
            raise _unavailable("list", prefix, error) from error
        return sorted(found)


class BlockingObjectStore(ObjectStore):
    """For commands that end right after their last call; it blocks the event loop.

    The library's async calls hand their results over from a thread of its own, which aborts the process if it is still
    at it when the interpreter ends (PyO3/pyo3-async-runtimes, issue 40). Its blocking ones have no such thread.
    """

    async def put(self, path: str, data: bytes, *, media_type: str = "application/octet-stream") -> None:
        attributes = None if isinstance(self._store, LocalStore) else {"Content-Type": media_type}
        try:
            obstore.put(self._store, self._folder + path, data, attributes=attributes)
        except (BaseError, OSError) as error:
            raise _unavailable("write", path, error) from error

    async def get(self, path: str) -> bytes | None:
        try:
            return bytes(obstore.get(self._store, self._folder + path).bytes())
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise _unavailable("read", path, error) from error

    async def delete(self, path: str) -> None:
        try:
            obstore.delete(self._store, self._folder + path)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise _unavailable("delete", path, error) from error

    async def list(self, prefix: str) -> "builtins.list[str]":
        try:
            batches = obstore.list(self._store, self._folder + prefix)
            found = [entry["path"].removeprefix(self._folder) for batch in batches for entry in batch]
        except (BaseError, OSError) as error:
            raise _unavailable("list", prefix, error) from error
        return sorted(found)


def open_objects(url: str, *, kind: type[ObjectStore] = ObjectStore) -> ObjectStore:
    """Return the store at `url`: file:///dir (made if missing), memory://, s3://bucket/prefix, gs://…, az://….

    Credentials and endpoints come from the provider's usual environment variables. Raises PermanentError(bad-store)
    for a URL that names no store and for a directory that cannot be written.
    """
    parts = urlsplit(url)
    try:
        if parts.scheme == "file":
            directory = Path(parts.path)
            directory.mkdir(parents=True, exist_ok=True)
            return kind(LocalStore(prefix=directory), url)
        if parts.scheme == "memory":
            return kind(MemoryStore(), url)
        return kind(from_url(url, client_options=_client_options(), retry_config=RETRY), url)
    except (BaseError, OSError, ValueError) as error:
        allowed = "file:///directory, memory://, s3://bucket/prefix, gs://bucket, az://container"
        # The library's own message runs over many lines: what is allowed comes before it.
        raise PermanentError(f"object store: got {url!r}; allowed: {allowed} ({error})", code="bad-store") from error


def _client_options() -> "ClientConfig":
    # Options given here replace what the library would read from the environment, so plain HTTP is read here, too.
    allow_http = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")
    return {"connect_timeout": CONNECT_TIMEOUT, "timeout": REQUEST_TIMEOUT, "allow_http": allow_http}


def _unavailable(verb: str, path: str, error: Exception) -> Unavailable:
    return Unavailable(f"object store cannot {verb} {path}: {error}")
