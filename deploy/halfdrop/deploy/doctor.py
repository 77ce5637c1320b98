"""`halfdrop doctor`: look at everything that a start needs, and say of each part what to do about it.

It changes nothing and never raises: a part that cannot be looked at is a finding too.
"""

import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import httpx
import msgspec

from halfdrop.contracts.errors import HalfdropError
from halfdrop.deploy.binaries import INSTALL_HINT, locate_nats_server, locate_valkey_server
from halfdrop.deploy.folder import FREE_MIN_BYTES, DataFolder, is_alive
from halfdrop.deploy.ports import is_free
from halfdrop.deploy.up import DATA_DIR
from halfdrop.models.bundle import open_bundle, shipped_bundle_dir

EDGE_URL = "http://127.0.0.1:8080"
PYTHON_MIN = (3, 11)
NATS_MIN = (2, 14)
"""Older servers silently ignore time-outs, schedules and priorities of streams."""

MACHINES = ("x86_64", "aarch64")
PROBE_TIMEOUT_S = 3.0

State = Literal["ok", "warning", "error"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    name: str
    state: State
    """error: `halfdrop up` would fail; warning: it would work, but look at this."""

    detail: str
    """What was found."""

    advice: str = ""
    """What to do; empty if nothing."""


class _PartHealth(msgspec.Struct):
    state: str


class _Health(msgspec.Struct):
    """What is read here of GET /healthz."""

    parts: dict[str, _PartHealth]


def run_doctor(*, url: str = EDGE_URL, data_dir: Path = DATA_DIR) -> list[Finding]:
    """Return what was found, most basic things first. url: of the edge that should be reachable."""
    looks: list[Callable[[], Finding]] = [
        look_at_python,
        look_at_machine,
        look_at_packages,
        lambda: _look_at_program("nats-server", locate_nats_server, minimum=NATS_MIN),
        lambda: _look_at_program("valkey-server", locate_valkey_server, minimum=(7, 2)),
        look_at_bundle,
        lambda: look_at_data_dir(data_dir),
        lambda: look_at_edge(url),
    ]
    return [look() for look in looks]


def look_at_python() -> Finding:
    """Whether this Python is new enough."""
    found = platform.python_version()
    if sys.version_info < PYTHON_MIN:
        return _error("Python", found, "install Python 3.11 or newer, then: make clean setup PYTHON=python3.11")
    return _ok("Python", found)


def look_at_machine() -> Finding:
    """Whether the servers' programs exist for this kind of machine."""
    found = f"{platform.system()} {platform.machine()}"
    if platform.system() != "Linux" or platform.machine() not in MACHINES:
        return _error("machine", found, f"`halfdrop up` runs on Linux, {' or '.join(MACHINES)}")
    return _ok("machine", found)


def look_at_packages() -> Finding:
    """Whether everything that `halfdrop up` imports is installed."""
    needed = sorted(set(_requirements("up")))
    missing = [name for name in needed if _installed_version(name) is None]
    if missing:
        return _error("packages", f"missing: {', '.join(missing)}", "make setup")
    return _ok("packages", f"all {len(needed)} that `halfdrop up` needs")


def look_at_bundle() -> Finding:
    """Whether the shipped model's files are those that its manifest names."""
    try:
        bundle = open_bundle(shipped_bundle_dir())
    except HalfdropError as error:
        return _error("model bundle", str(error), "git checkout -- models, or make train")
    size_mb = sum(file.bytes for file in bundle.manifest.files.values()) / 1e6
    return _ok("model bundle", f"{bundle.name}-{bundle.version}, {bundle.digest[:12]}, {size_mb:.1f} MB, digests right")


def look_at_data_dir(data_dir: Path) -> Finding:
    """Whether the data directory can be written, has room, and who holds it."""
    folder = DataFolder(data_dir)
    ledger = folder.read_ledger()
    running = [child.name for child in ledger.children if is_alive(child)] if ledger else []
    if ledger and running:
        return _ok("data directory", f"{data_dir}: in use at {ledger.url} by {', '.join(running)}")
    try:
        folder.check(free_min_bytes=FREE_MIN_BYTES)
    except HalfdropError as error:
        return _error("data directory", str(error), "choose another with --data-dir, or make room")
    return _ok("data directory", f"{data_dir}: can be written, {folder.free_bytes() // 2**30} GB free")


def look_at_edge(url: str) -> Finding:
    """Whether an edge answers at `url`, and if not, whether one could."""
    try:
        answer = httpx.get(f"{url}/healthz", timeout=PROBE_TIMEOUT_S)
    except httpx.HTTPError:
        return _look_at_port(url)
    if answer.status_code != httpx.codes.OK:
        return _warning(
            "edge", f"{url}/healthz answers {answer.status_code}", "see edge.log in the data directory's logs"
        )
    return _ok("edge", f"{url} answers; {_describe_health(answer.content)}")


def _describe_health(body: bytes) -> str:
    """Return "model ok, hub away" for the parts in a health report."""
    try:
        health = msgspec.json.decode(body, type=_Health)
    except msgspec.MsgspecError:
        return "its health report could not be read"
    return ", ".join(f"{name} {part.state}" for name, part in health.parts.items())


def _look_at_port(url: str) -> Finding:
    port = urlsplit(url).port or 80
    if is_free(port):
        return _warning("edge", f"nothing answers at {url}; the port is free", "start it: make up, or halfdrop up")
    advice = "stop the program on that port, or choose another: halfdrop up --port 8081"
    return _error("edge", f"port {port} is taken by something that is no edge", advice)


def _look_at_program(name: str, locate: Callable[[], Path], *, minimum: tuple[int, int]) -> Finding:
    try:
        path = locate()
        text = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=True
        ).stdout
    except HalfdropError:
        return _error(name, "not installed in this environment", f"make setup, or: {INSTALL_HINT}")
    except (OSError, subprocess.SubprocessError) as error:
        return _error(name, f"does not run: {error}", f"install it anew: {INSTALL_HINT} --force-reinstall")
    found = re.search(r"v=?(\d+)\.(\d+)\.(\d+)", text)
    if found is None or (int(found[1]), int(found[2])) < minimum:
        return _error(
            name, f"version not understood or too old: {text.strip()[:80]}", f"{INSTALL_HINT} --force-reinstall"
        )
    return _ok(name, ".".join(found.groups()))


def _requirements(extra: str) -> Iterator[str]:
    """Yield the names of the distributions that an extra of ours needs, through our other extras."""
    for line in requires("halfdrop") or []:
        requirement, _, marker = line.partition(";")
        if f'extra == "{extra}"' not in marker.replace("'", '"'):
            continue
        name, extras = _split_requirement(requirement)
        if name == "halfdrop":
            for inner in extras:
                yield from _requirements(inner)
        else:
            yield name


def _split_requirement(text: str) -> tuple[str, list[str]]:
    parts = re.match(r"\s*([A-Za-z0-9_.-]+)\s*(?:\[([^\]]*)\])?", text)
    assert parts is not None, text
    return parts[1], [extra.strip() for extra in (parts[2] or "").split(",") if extra.strip()]


def _installed_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _ok(name: str, detail: str) -> Finding:
    return Finding(name=name, state="ok", detail=detail)


def _warning(name: str, detail: str, advice: str) -> Finding:
    return Finding(name=name, state="warning", detail=detail, advice=advice)


def _error(name: str, detail: str, advice: str) -> Finding:
    return Finding(name=name, state="error", detail=detail, advice=advice)
