"""Metrics of the forecaster's demand history, named in one place and read from the compactors when Prometheus asks."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import Metric

from halfdrop.forecaster.compactor import CompactorStats
from halfdrop.runtime.exposition import Family

REPORTS = Family(
    name="halfdrop_demand_reports_total",
    kind="counter",
    meaning="reports of edges and hubs taken into the history",
    labels=("region",),
)
ODD = Family(
    name="halfdrop_demand_odd_total",
    kind="counter",
    meaning="what was told and cannot be so: duplicate, unreadable, early (a clock ahead), old, absurd (a value)",
    labels=("region", "kind"),
)
PARTS = Family(name="halfdrop_demand_parts_total", kind="counter", meaning="files written", labels=("region",))
MERGES = Family(
    name="halfdrop_demand_merges_total",
    kind="counter",
    meaning="times that files of a day became one",
    labels=("region",),
)
FAILURES = Family(
    name="halfdrop_demand_failures_total",
    kind="counter",
    meaning="steps that the object store or the hub's NATS failed; each is tried again",
    labels=("region",),
)
LAG = Family(
    name="halfdrop_demand_lag_messages",
    kind="gauge",
    meaning="reports in the stream that the history does not hold yet",
    labels=("region",),
)
MISSED = Family(
    name="halfdrop_demand_missed_total",
    kind="counter",
    meaning="reports that the stream dropped, by age or for want of room, before the history had them",
    labels=("region",),
)
STREAM_BYTES = Family(
    name="halfdrop_demand_stream_bytes", kind="gauge", meaning="what the hub's stream DEMAND holds", labels=("region",)
)
STREAM_MAX_BYTES = Family(
    name="halfdrop_demand_stream_max_bytes",
    kind="gauge",
    meaning="what it may hold; then it drops the oldest",
    labels=("region",),
)
WRITTEN = Family(
    name="halfdrop_demand_written_timestamp_seconds",
    kind="gauge",
    meaning="when the history was last known to hold all that was told; 0: not since the start",
    labels=("region",),
)

FAMILIES = tuple(value for value in list(globals().values()) if isinstance(value, Family))


def read_metrics(compactors: Mapping[str, CompactorStats]) -> Iterator[Metric]:
    """Yield every family with its present values. May run in a thread beside the loop: it only reads, and copies."""
    stats = list(compactors.items())
    yield REPORTS.by([((region,), each.reports) for region, each in stats])
    yield ODD.by([((region, kind), count) for region, each in stats for kind, count in list(each.oddities.items())])
    yield PARTS.by([((region,), each.parts) for region, each in stats])
    yield MERGES.by([((region,), each.merges) for region, each in stats])
    yield FAILURES.by([((region,), each.failures) for region, each in stats])
    yield LAG.by([((region,), each.lag) for region, each in stats])
    yield MISSED.by([((region,), each.missed) for region, each in stats])
    yield STREAM_BYTES.by([((region,), each.stream_bytes) for region, each in stats])
    yield STREAM_MAX_BYTES.by([((region,), each.stream_max_bytes) for region, each in stats])
    yield WRITTEN.by([((region,), each.written_at) for region, each in stats])
