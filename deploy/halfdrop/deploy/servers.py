"""Embedded servers: NATS with JetStream and Valkey, on loopback, from programs inside pip packages.

Each is a subprocess that can be stopped, killed and started again on the same port and data, because the tests of
outages need exactly that. Configuration is written into the data directory, so what runs can be read there.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from halfdrop.contracts.errors import PermanentError
from halfdrop.deploy.binaries import locate_nats_server, locate_valkey_server
from halfdrop.deploy.children import Child
from halfdrop.deploy.parts import Part
from halfdrop.deploy.ports import LOOPBACK, choose_port, is_free

PROBE_TIMEOUT_S = 2.0

JETSTREAM_MEMORY_BYTES = 64 * 2**20
JETSTREAM_FILE_BYTES = 4 * 2**30
"""Bounds of one server's streams. A job is about 35 KB, so this holds some 100,000 of them."""

VALKEY_MAXMEMORY_BYTES = 128 * 2**20
"""A few thousand previews of 30 KB; the rest is in the object store."""


class NatsServer(Part):
    """A NATS server with JetStream. `leaf_url` is where leaf nodes connect, if it takes any."""

    def __init__(
        self, process: Child, *, url: str, leaf_url: str | None, answers: Callable[[], Awaitable[bool]]
    ) -> None:
        super().__init__(process, answers=answers)
        self.url = url
        self.leaf_url = leaf_url


class ValkeyServer(Part):
    """A Valkey server that keeps nothing on disk: it is a cache."""

    def __init__(self, process: Child, *, url: str, answers: Callable[[], Awaitable[bool]]) -> None:
        super().__init__(process, answers=answers)
        self.url = url


@asynccontextmanager
async def run_nats_server(
    *,
    name: str,
    data_dir: Path,
    domain: str,
    port: int = 0,
    leaf_port: int | None = None,
    leaf_remote: str | Sequence[str] | None = None,
    mappings: Mapping[str, str] | None = None,
    log_path: Path | None = None,
) -> AsyncIterator[NatsServer]:
    """Run a NATS server with its own JetStream `domain` until the block ends.

    port, leaf_port: 0 chooses a free one; leaf_port None takes no leaf nodes. leaf_remote: the `leaf_url` of the
    server, or of each, whose leaf this one is; it need not run yet. mappings: subjects that it takes as others
    (`hub_mappings`). Raises PermanentError if it cannot start.
    """
    server = make_nats_server(
        name=name,
        data_dir=data_dir,
        domain=domain,
        port=port,
        leaf_port=leaf_port,
        leaf_remote=leaf_remote,
        mappings=mappings,
        log_path=log_path,
    )
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


def make_nats_server(
    *,
    name: str,
    data_dir: Path,
    domain: str,
    port: int = 0,
    leaf_port: int | None = None,
    leaf_remote: str | Sequence[str] | None = None,
    mappings: Mapping[str, str] | None = None,
    log_path: Path | None = None,
) -> NatsServer:
    """Return the server that `run_nats_server` runs, configured and not started."""
    program = locate_nats_server()
    port = _take_port(port)
    leaf_port = None if leaf_port is None else _take_port(leaf_port)
    config_path = _write_config(
        data_dir / "nats.conf",
        _nats_config(
            name=name,
            data_dir=data_dir,
            domain=domain,
            port=port,
            leaf_port=leaf_port,
            leaf_remotes=[leaf_remote] if isinstance(leaf_remote, str) else (leaf_remote or ()),
            mappings=mappings or {},
        ),
    )
    process = Child(
        name=f"nats-{name}",
        argv=[str(program), "--config", str(config_path)],
        log_path=log_path or data_dir / "nats.log",
    )
    return NatsServer(
        process,
        url=f"nats://{LOOPBACK}:{port}",
        leaf_url=None if leaf_port is None else f"nats-leaf://{LOOPBACK}:{leaf_port}",
        answers=lambda: _nats_answers(port),
    )


@asynccontextmanager
async def run_valkey(
    *,
    data_dir: Path,
    port: int = 0,
    maxmemory_bytes: int = VALKEY_MAXMEMORY_BYTES,
    log_path: Path | None = None,
) -> AsyncIterator[ValkeyServer]:
    """Run a Valkey server as a bounded cache until the block ends. Raises PermanentError if it cannot start."""
    server = make_valkey(data_dir=data_dir, port=port, maxmemory_bytes=maxmemory_bytes, log_path=log_path)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


def make_valkey(
    *,
    data_dir: Path,
    port: int = 0,
    maxmemory_bytes: int = VALKEY_MAXMEMORY_BYTES,
    log_path: Path | None = None,
) -> ValkeyServer:
    """Return the server that `run_valkey` runs, configured and not started."""
    program = locate_valkey_server()
    port = _take_port(port)
    config = _valkey_config(data_dir=data_dir, port=port, maxmemory_bytes=maxmemory_bytes)
    config_path = _write_config(data_dir / "valkey.conf", config)
    process = Child(
        name="valkey",
        argv=[str(program), str(config_path)],
        log_path=log_path or data_dir / "valkey.log",
    )
    return ValkeyServer(process, url=f"redis://{LOOPBACK}:{port}/0", answers=lambda: _valkey_answers(port))


def _nats_config(
    *,
    name: str,
    data_dir: Path,
    domain: str,
    port: int,
    leaf_port: int | None,
    leaf_remotes: Sequence[str],
    mappings: Mapping[str, str],
) -> str:
    leaf: list[str] = []
    if leaf_port is not None:
        leaf.append(f'listen: "{LOOPBACK}:{leaf_port}"')
    if leaf_remotes:
        leaf.append(f"remotes: [{', '.join(f'{{ url: {json.dumps(url)} }}' for url in leaf_remotes)}]")
        leaf.append('reconnect: "1s"')
    leaf_block = f"leafnodes {{ {', '.join(leaf)} }}\n" if leaf else ""
    mappings_block = f"mappings {json.dumps(dict(mappings))}\n" if mappings else ""
    return (
        f"server_name: {json.dumps(name)}\n"
        f'listen: "{LOOPBACK}:{port}"\n'
        "jetstream {\n"
        f"  store_dir: {json.dumps(str(data_dir.resolve()))}\n"
        f"  domain: {json.dumps(domain)}\n"
        f"  max_memory_store: {JETSTREAM_MEMORY_BYTES}\n"
        f"  max_file_store: {JETSTREAM_FILE_BYTES}\n"
        # An accepted order outlives a power cut: 3.5 ms for each message instead of 0.8, measured on a virtual disk.
        "  sync_interval: always\n"
        "}\n"
        f"{leaf_block}{mappings_block}"
    )


def _valkey_config(*, data_dir: Path, port: int, maxmemory_bytes: int) -> str:
    return (
        f"bind {LOOPBACK}\n"
        f"port {port}\n"
        f'dir "{data_dir.resolve()}"\n'
        f"maxmemory {maxmemory_bytes}\n"
        "maxmemory-policy allkeys-lfu\n"
        'save ""\n'  # the object store is the truth; a cache starts empty
        "appendonly no\n"
        "daemonize no\n"
    )


def _write_config(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _take_port(port: int) -> int:
    if port == 0:
        return choose_port()
    if not is_free(port):
        raise PermanentError(f"port {port} is taken by another program", code="port-taken")
    return port


async def _nats_answers(port: int) -> bool:
    """True once the server greets with JetStream on and answers a PING."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                greeting = await reader.readline()
                if not greeting.startswith(b"INFO ") or not json.loads(greeting[5:]).get("jetstream"):
                    return False
                writer.write(b'CONNECT {"verbose":false,"name":"ready probe"}\r\nPING\r\n')
                return (await reader.readline()).startswith(b"PONG")
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return False


async def _valkey_answers(port: int) -> bool:
    """True once the server answers a PING; while it loads it answers with an error."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(b"PING\r\n")
                return (await reader.readline()).startswith(b"+PONG")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
