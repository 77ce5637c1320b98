"""Metrics in Prometheus' form: how a process names them, reads its state into them, and serves them.

A process lists its families once and reads its own state when it is scraped; counting itself is plain integers where
things happen. The reader may be a thread: it copies before it walks, and sees each number whole.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from halfdrop.contracts.errors import PermanentError
from halfdrop.runtime.durations import Durations

Labels = tuple[str, ...]

LOOP_ANSWERS_S = 5.0
"""A loop that is busy for longer has worse troubles than a scrape that fails."""


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """One metric: its full name, what it means, and what it is told apart by."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: Labels = ()

    def of(self, value: float | Durations) -> Metric:
        """Return the metric with one value and no labels."""
        return self.by([((), value)])

    def by(self, values: Iterable[tuple[Labels, float | Durations]]) -> Metric:
        """Return the metric with a value for each set of labels."""
        family = _EMPTY[self.kind](self)
        for labels, value in values:
            assert len(labels) == len(self.labels), self.name
            if isinstance(value, Durations):
                assert isinstance(family, HistogramMetricFamily), self.name
                family.add_metric(labels, value.buckets(), value.sum_s)
            else:
                assert isinstance(family, CounterMetricFamily | GaugeMetricFamily), self.name
                family.add_metric(labels, value)
        return family


_EMPTY: dict[str, Callable[[Family], Metric]] = {
    "counter": lambda family: CounterMetricFamily(family.name, family.meaning, labels=family.labels),
    "gauge": lambda family: GaugeMetricFamily(family.name, family.meaning, labels=family.labels),
    "histogram": lambda family: HistogramMetricFamily(family.name, family.meaning, labels=family.labels),
}


class _Reader(Collector):
    def __init__(self, read: Callable[[], Iterable[Metric]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        return self._read()


def make_registry(read: Callable[[], Iterable[Metric]]) -> CollectorRegistry:
    """Return a registry of what `read` tells at each scrape, and of the process's CPU, memory and open files."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Reader(read))
    return registry


def add_reader(registry: CollectorRegistry, read: Callable[[], Iterable[Metric]]) -> None:
    """Have the registry tell also what `read` tells, of state that belongs to the running loop.

    A scrape's thread asks the loop for it, and fails where that takes longer than LOOP_ANSWERS_S.
    """
    loop = asyncio.get_running_loop()

    async def collect() -> list[Metric]:
        return list(read())

    registry.register(_Reader(lambda: asyncio.run_coroutine_threadsafe(collect(), loop).result(LOOP_ANSWERS_S)))


def encode_metrics(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Return all metrics and their media type: OpenMetrics for whoever accepts it, else Prometheus' own text."""
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


@contextmanager
def serve_metrics(registry: CollectorRegistry, *, host: str, port: int, setting: str) -> Iterator[None]:
    """Serve the metrics at http://host:port/metrics from a thread, inside the block; with port 0 serve nothing.

    For Prometheus alone: no key is asked for. Raises PermanentError(port-taken), which names `setting`.
    """
    if port == 0:
        yield
        return
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        detail = f"cannot serve metrics on {host} port {port}: {error.strerror or error}; choose another {setting}"
        raise PermanentError(detail, code="port-taken") from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def render_table(families: Iterable[Family]) -> str:
    """Return the families as the Markdown table that docs/operations.md shows; a test compares the two."""
    rows = [f"| `{f.name}` | {f.kind} | {', '.join(f'`{x}`' for x in f.labels)} | {f.meaning} |" for f in families]
    return "\n".join(["| metric | kind | labels | meaning |", "| --- | --- | --- | --- |", *rows])
