"""Halfdrop's own processes as parts: how an edge and a hub worker are started, and how to see that they are ready."""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from halfdrop.contracts.subjects import LOCAL_REGION
from halfdrop.deploy.children import Child
from halfdrop.deploy.parts import Part
from halfdrop.deploy.ports import LOOPBACK

EDGE_NAME = "local"

EDGE_GRACE_S = 15.0
HUB_GRACE_S = 25.0
"""A hub finishes its job within 20 s of SIGTERM or hands it back; the rest is for flushing."""

READY_TIMEOUT_S = 90.0
"""Python, a model and two cores that compile byte code for the first time."""

PROBE_TIMEOUT_S = 2.0

HUB_READY_EVENT = b'"jobs_bound"'
"""What a hub worker logs once its consumer stands and it can take jobs."""

FORECASTER_READY_EVENT = b'"forecaster_ready"'
"""What a forecaster logs once it looks for what was told of demand."""


def make_edge(
    *,
    port: int,
    nats_url: str,
    redis_url: str,
    objects_url: str,
    data_dir: Path,
    log_path: Path,
    name: str = EDGE_NAME,
    metrics_port: int = 0,
    regions: Sequence[str] = (LOCAL_REGION,),
) -> Part:
    """Return an edge that serves on `port` of the loopback address, not started. regions: home first."""
    settings = {
        "HALFDROP_EDGE_HOST": LOOPBACK,
        "HALFDROP_EDGE_PORT": str(port),
        # Always said: a port in the environment would be taken by whichever process starts first.
        "HALFDROP_EDGE_METRICS_PORT": str(metrics_port),
        "HALFDROP_EDGE_NAME": name,
        "HALFDROP_EDGE_HUBS": ",".join(regions),
        "HALFDROP_EDGE_NATS_URL": nats_url,
        "HALFDROP_EDGE_REDIS_URL": redis_url,
        "HALFDROP_EDGE_OBJECTS_URL": objects_url,
        "HALFDROP_EDGE_DATA_DIR": str(data_dir.resolve()),
    }
    process = _make_python(name="edge", module="halfdrop.edge", settings=settings, log_path=log_path)
    return Part(
        process,
        answers=lambda: _serves_health(port),
        grace_s=EDGE_GRACE_S,
        ready_timeout_s=READY_TIMEOUT_S,
    )


def make_hub(
    *,
    name: str,
    nats_url: str,
    objects_url: str,
    log_path: Path,
    metrics_port: int = 0,
    region: str = LOCAL_REGION,
    models_dir: Path | None = None,
) -> Part:
    """Return a hub worker, not started. models_dir: the store of users' models."""
    settings = {
        "HALFDROP_HUB_NAME": name,
        "HALFDROP_HUB_REGION": region,
        "HALFDROP_HUB_METRICS_PORT": str(metrics_port),
        "HALFDROP_HUB_NATS_URL": nats_url,
        "HALFDROP_HUB_OBJECTS_URL": objects_url,
    }
    if models_dir is not None:
        settings["HALFDROP_HUB_MODELS_DIR"] = str(models_dir)
    process = _make_python(name=name, module="halfdrop.hub", settings=settings, log_path=log_path)
    return Part(
        process,
        answers=lambda: _has_logged(process, HUB_READY_EVENT),
        grace_s=HUB_GRACE_S,
        ready_timeout_s=READY_TIMEOUT_S,
    )


def make_forecaster(
    *, hubs: Mapping[str, str], objects_url: str, log_path: Path, metrics_port: int = 0, planner_port: int = 0
) -> Part:
    """Return a forecaster, not started. hubs: URL of the NATS server of each region's hub, home first.

    planner_port: where it serves the planner's page, on the loopback address; 0: a free one, which its log names.
    """
    settings = {
        "HALFDROP_PLANNER_HOST": LOOPBACK,
        "HALFDROP_PLANNER_PORT": str(planner_port),
        "HALFDROP_FORECASTER_HUBS": ",".join(f"{region}={url}" for region, url in hubs.items()),
        "HALFDROP_FORECASTER_METRICS_PORT": str(metrics_port),
        "HALFDROP_FORECASTER_OBJECTS_URL": objects_url,
    }
    process = _make_python(name="forecaster", module="halfdrop.forecaster", settings=settings, log_path=log_path)
    return Part(
        process,
        answers=lambda: _has_logged(process, FORECASTER_READY_EVENT),
        ready_timeout_s=READY_TIMEOUT_S,
        is_optional=True,
    )


def _make_python(*, name: str, module: str, settings: Mapping[str, str], log_path: Path) -> Child:
    environ = {**os.environ, "HALFDROP_LOG": "json", **settings}
    return Child(name=name, argv=[sys.executable, "-m", module], log_path=log_path, environ=environ)


async def _serves_health(port: int) -> bool:
    """True once GET /healthz answers 200."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return (await reader.readline()).split()[1:2] == [b"200"]
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


async def _has_logged(process: Child, event: bytes) -> bool:
    """True once the present run of `process` has written `event` to its log."""
    with process.log_path.open("rb") as log:
        log.seek(process.log_start)
        return event in log.read()
