"""The forecaster's HTTP application: the planner's page, and what it shows as JSON."""

from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from litestar import Litestar, Request
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin

from halfdrop.contracts.errors import HalfdropError
from halfdrop.forecaster.service import change_routes, metrics, routes, streams
from halfdrop.forecaster.service.planner import Planner
from halfdrop.forecaster.service.policies import Policies
from halfdrop.forecaster.service.problems import Misdirected, answer_problem
from halfdrop.forecaster.service.replays import Replays
from halfdrop.forecaster.service.streams import Streams
from halfdrop.runtime.pages import page_handlers

PAGE_DIR = Path(__file__).parent / "page"
OWN_HOSTS = ("127.0.0.1", "localhost", "[::1]")
BODY_MAX_BYTES = 64 * 1024
"""A policy or an event has a hundredth of that."""

Guard = Callable[[Request[Any, Any, Any]], Awaitable[None]]


def make_app(
    planner: Planner, looking: Streams, *, replays: Replays, policies: Policies, hosts: tuple[str, ...] = ()
) -> Litestar:
    """Return the application. hosts: names beside this machine's that it may be called by."""
    return Litestar(
        route_handlers=[
            *routes.HANDLERS,
            *change_routes.HANDLERS,
            *streams.HANDLERS,
            metrics.get_metrics,
            *page_handlers(PAGE_DIR, under="planner"),
        ],
        dependencies={
            "planner": Provide(lambda: planner, sync_to_thread=False),
            "replays": Provide(lambda: replays, sync_to_thread=False),
            "policies": Provide(lambda: policies, sync_to_thread=False),
            "streams": Provide(lambda: looking, sync_to_thread=False),
        },
        before_request=make_guard((*OWN_HOSTS, *hosts)),
        exception_handlers={HalfdropError: answer_problem, HTTPException: answer_problem, Exception: answer_problem},
        request_max_body_size=BODY_MAX_BYTES,
        openapi_config=OpenAPIConfig(
            title="Halfdrop forecaster",
            version=version("halfdrop"),
            render_plugins=[JsonRenderPlugin()],
            path="/schema",
        ),
        logging_config=None,
    )


def make_guard(hosts: tuple[str, ...]) -> Guard:
    """Return a check of who is talked to: strange pages must not reach us through somebody's browser.

    A name that we do not know is refused, and so is a change that a page from elsewhere asks for.
    """

    async def guard(request: Request[Any, Any, Any]) -> None:
        host = request.headers.get("host", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name not in hosts:
            raise Misdirected(f"host: got {name[:80]!r}; allowed: {', '.join(hosts)}", code="misdirected-request")
        origin = request.headers.get("origin")
        if request.method not in ("GET", "HEAD") and origin and origin.partition("://")[2] != host:
            detail = f"origin: got {origin[:80]!r}; allowed: the page that this server serves itself"
            raise Misdirected(detail, code="misdirected-request")

    return guard
