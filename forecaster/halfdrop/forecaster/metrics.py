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
    yield WRITTEN.by([((region,), each.written_at) for region, each in stats])
