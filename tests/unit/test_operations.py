"""docs/operations.md names the metrics that there are, and no others. Dashboards, alerts: deploy/test_alerts.py."""

import re
from pathlib import Path

import pytest

from halfdrop.cache.guard import TierStats
from halfdrop.cache.tiered import CacheStats
from halfdrop.edge import metrics as edge
from halfdrop.forecaster import metrics as forecaster
from halfdrop.forecaster.service import metrics as planner
from halfdrop.hub import metrics as hub
from halfdrop.operator import metrics as operator
from halfdrop.runtime.exposition import Family, render_table

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/operations.md").read_text()
FAMILIES: tuple[Family, ...] = (
    *edge.FAMILIES,
    *hub.FAMILIES,
    *operator.FAMILIES,
    *forecaster.FAMILIES,
    *planner.FAMILIES,
)
UNITS = ("_seconds", "_bytes", "_total", "_info")


@pytest.mark.parametrize(
    "families",
    [edge.FAMILIES, hub.FAMILIES, operator.FAMILIES, forecaster.FAMILIES, planner.FAMILIES],
    ids=["edge", "hub", "operator", "forecaster", "planner"],
)
def test_the_page_holds_the_table_of_all_metrics(families: tuple[Family, ...]) -> None:
    table = render_table(families)
    assert table in PAGE, f"docs/operations.md should hold:\n{table}"


def test_names_follow_prometheus() -> None:
    for family in FAMILIES:
        assert family.name.startswith("halfdrop_"), family.name
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert family.kind != "histogram" or family.name.endswith("_seconds"), family.name
        assert not re.search(r"_(ms|s|kb|mb|mib)(_|$)", family.name), family.name


def test_no_metric_is_told_apart_by_what_a_client_chooses() -> None:
    labels = {label for family in FAMILIES for label in family.labels}
    assert labels == {
        "version", "model", "route", "method", "status", "cache", "code", "reuse", "tier", "state",
        "outcome", "attempt", "stage", "part", "class", "reason", "region", "kind", "pool", "quantile", "expert",
    }  # fmt: skip


def test_every_figure_of_the_cache_is_shown() -> None:
    names = {family.name for family in edge.FAMILIES}
    figures = [*TierStats.__struct_fields__, *CacheStats.__struct_fields__]
    figures = [figure.removeprefix("is_") for figure in figures if figure not in ("name", "tiers", "error")]
    shown = {name.removeprefix("halfdrop_cache_").removesuffix("_total") for name in names}
    assert set(figures) <= shown
