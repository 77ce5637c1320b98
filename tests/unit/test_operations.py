"""docs/operations.md and the dashboard name the metrics that there are, and no others."""

import json
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
SUFFIXES = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("",), "gauge": ("",)}
SERIES = {family.name + suffix: family for family in FAMILIES for suffix in SUFFIXES[family.kind]}
UNITS = ("_seconds", "_bytes", "_total", "_info")


def dashboard_expressions() -> list[str]:
    panels = json.loads((ROOT / "deploy/dashboards/edge.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def alert_expressions() -> list[str]:
    section = PAGE.partition("## What to alert on")[2].partition("\n## ")[0]
    return [row.split("|")[2] for row in section.splitlines() if row.startswith("| ") and "halfdrop_" in row]


@pytest.mark.parametrize(
    "families",
    [edge.FAMILIES, hub.FAMILIES, operator.FAMILIES, forecaster.FAMILIES, planner.FAMILIES],
    ids=["edge", "hub", "operator", "forecaster", "planner"],
)
def test_the_page_holds_the_table_of_all_metrics(families: tuple[Family, ...]) -> None:
    table = render_table(families)
    assert table in PAGE, f"docs/operations.md should hold:\n{table}"


def test_dashboard_and_alerts_ask_for_what_is_there() -> None:
    expressions = [*dashboard_expressions(), *alert_expressions()]
    assert len(expressions) > 15
    for expression in expressions:
        found = re.findall(r"\b(halfdrop_\w+)(?:\{([^}]*)\})?", expression)
        assert found, expression
        for name, matchers in found:
            assert name in SERIES, f"{name} is in {expression} and nowhere else"
            asked = set(re.findall(r"(\w+)[=!]", matchers)) | set(_grouped(expression))
            assert asked <= {*SERIES[name].labels, "le", "instance"}, expression


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


def _grouped(expression: str) -> list[str]:
    return [label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")]
