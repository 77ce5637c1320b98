"""One operator process, from its settings to its end: resources open in order and close in reverse."""

import asyncio
import os
import sys
from functools import partial

import kopf
import structlog

from halfdrop.contracts.errors import HalfdropError
from halfdrop.operator.cluster import open_cluster
from halfdrop.operator.demand import open_demand
from halfdrop.operator.handlers import configure, register
from halfdrop.operator.metrics import Tally, read_metrics
from halfdrop.operator.reconciling import Operator
from halfdrop.operator.settings import PREFIX, OperatorSettings
from halfdrop.runtime.broker import without_password
from halfdrop.runtime.exposition import make_registry, serve_metrics
from halfdrop.runtime.logs import configure_logs
from halfdrop.runtime.settings import describe_settings, load_settings

log = structlog.get_logger()


def main() -> None:
    """Run until SIGTERM or SIGINT. What cannot even start says why in one line and exits with 1."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        rows = describe_settings(OperatorSettings, prefix=PREFIX)
        lines = [f"  {variable}  {kind}, default {default}" for variable, kind, default in rows]
        sys.stdout.write(
            "\n".join(["python -m halfdrop.operator reads its settings from the environment:", *lines, ""])
        )
        return
    try:
        settings = load_settings(OperatorSettings, prefix=PREFIX, environ=os.environ)
        configure_logs(settings.name)
        asyncio.run(_run(settings))
    except HalfdropError as error:
        sys.exit("operator: " + " ".join(str(error).split()))


async def _run(settings: OperatorSettings) -> None:
    tally = Tally()
    health = f"http://{settings.health_host}:{settings.health_port}/healthz" if settings.health_port else None
    async with (
        open_cluster() as cluster,
        open_demand(settings.nats_url, name=settings.name, domain=settings.nats_domain) as demand,
    ):
        with serve_metrics(
            make_registry(partial(read_metrics, tally)),
            host=settings.metrics_host,
            port=settings.metrics_port,
            setting=f"{PREFIX}METRICS_PORT",
        ):
            operator = Operator(cluster=cluster, demand=demand, tally=tally)
            log.info("operator_ready", namespaces=settings.namespaces, nats_url=without_password(settings.nats_url))
            # kopf takes SIGTERM and SIGINT: it stops watching, lets running handlers end, and returns.
            await kopf.operator(
                registry=register(operator, settings),
                settings=configure(),
                namespaces=settings.namespaces.split(","),
                standalone=True,
                liveness_endpoint=health,
            )
    log.info("operator_stopped")
