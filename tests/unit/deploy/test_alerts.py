"""Alerts fire when they should, ask for metrics that there are, and each has a page; dashboards ask likewise."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from halfdrop.edge import metrics as edge
from halfdrop.forecaster import metrics as history
from halfdrop.forecaster.service import metrics as planner
from halfdrop.hub import metrics as hub
from halfdrop.operator import metrics as operator

ROOT = Path(__file__).parents[3]
ALERTS = ROOT / "deploy/prometheus/alerts.yaml"
RULES = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
DASHBOARDS = sorted((ROOT / "deploy/grafana").glob("*.json"))
RUNBOOKS = ROOT / "docs/runbooks"
SECTIONS = ("## Meaning", "## Impact", "## Look", "## Do")

_ALL = (*edge.FAMILIES, *hub.FAMILIES, *operator.FAMILIES, *history.FAMILIES, *planner.FAMILIES)
FAMILIES = {family.name: family for family in _ALL}
OTHERS = {"process_cpu_seconds_total": set[str](), "process_resident_memory_bytes": set[str]()}
"""What each process adds of itself."""

WELL = {
    "halfdrop_hub_build_info": "1x2000",
    "halfdrop_operator_build_info": "1x2000",
    'halfdrop_http_requests_total{status="200",instance="e"}': "0+600x2000",
    'halfdrop_nats_connected{instance="e"}': "1x2000",
    'halfdrop_region_up{region="eu",instance="e"}': "1x2000",
    'halfdrop_cache_away{tier="redis",instance="e"}': "0x2000",
    'halfdrop_operator_replicas{state="ready",instance="o"}': "5x2000",
    'halfdrop_operator_replicas{state="floor",instance="o"}': "4x2000",
    'halfdrop_operator_reconciles_total{outcome="complete"}': "0+100x2000",
    'halfdrop_operator_decisions_total{code="Plan"}': "0+10x2000",
    'halfdrop_demand_written_timestamp_seconds{region="eu",instance="f"}': "0+60x2000",
    'halfdrop_demand_stream_bytes{region="eu",instance="f"}': "1000x2000",
    'halfdrop_demand_stream_max_bytes{region="eu",instance="f"}': "4000x2000",
    'halfdrop_demand_missed_total{region="eu",instance="f"}': "0x2000",
    'halfdrop_demand_odd_total{kind="early",region="eu",instance="f"}': "0x2000",
    'halfdrop_demand_odd_total{kind="duplicate",region="eu",instance="f"}': "0+9x2000",
    'halfdrop_demand_lost_total{instance="e"}': "0x2000",
    'halfdrop_planner_plan_stale{pool="all",region="eu",instance="f"}': "0x2000",
    'halfdrop_planner_fallback{pool="all",region="eu",instance="f"}': "0x2000",
    'halfdrop_planner_drift{pool="all",region="eu",state="above",instance="f"}': "0x2000",
}
"""Nothing fires on these. Each case below puts its own in their place; None takes one away."""

FIRES: dict[str, dict[str, str | None]] = {
    "HalfdropEdgeFails": {'halfdrop_http_requests_total{status="503",instance="e"}': "0+12x2000"},
    "HalfdropEdgeTooSmall": {'halfdrop_http_problems_total{code="overloaded",instance="e"}': "0+6x2000"},
    "HalfdropPreviewsSlow": {
        'halfdrop_preview_drawing_duration_seconds_bucket{le="0.1"}': "0+1x2000",
        'halfdrop_preview_drawing_duration_seconds_bucket{le="1"}': "0+10x2000",
        'halfdrop_preview_drawing_duration_seconds_bucket{le="+Inf"}': "0+10x2000",
    },
    "HalfdropTierAway": {'halfdrop_cache_away{tier="redis",instance="e"}': "1x2000"},
    "HalfdropEdgeFull": {'halfdrop_degraded{part="outbox",instance="e"}': "1x2000"},
    "HalfdropBrokerAway": {'halfdrop_nats_connected{instance="e"}': "0x2000"},
    "HalfdropOrdersDoNotLeave": {'halfdrop_orders_unforwarded_oldest_age_seconds{instance="e"}': "0+60x2000"},
    "HalfdropRegionAway": {'halfdrop_region_up{region="eu",instance="e"}': "0x2000"},
    "HalfdropModelRefused": {'halfdrop_model_refused{instance="e"}': "1x2000"},
    "HalfdropWebhooksRefused": {'halfdrop_webhooks_refused_total{instance="e"}': "0+1x2000"},
    "HalfdropWebhooksLate": {'halfdrop_webhooks_waiting_oldest_age_seconds{instance="e"}': "90000x2000"},
    "HalfdropNoWorkers": {"halfdrop_hub_build_info": None},
    "HalfdropJobsGivenUp": {'halfdrop_hub_jobs_total{outcome="bury"}': "0+1x2000"},
    "HalfdropWorkDoneTwice": {'halfdrop_hub_deliveries_total{attempt="again"}': "0+12x2000"},
    "HalfdropJobsWaitTooLong": {
        'halfdrop_hub_queue_wait_seconds_bucket{le="60"}': "0+1x2000",
        'halfdrop_hub_queue_wait_seconds_bucket{le="300"}': "0+10x2000",
        'halfdrop_hub_queue_wait_seconds_bucket{le="+Inf"}': "0+10x2000",
    },
    "HalfdropOperatorAway": {"halfdrop_operator_build_info": None},
    "HalfdropPlansNotFollowed": {'halfdrop_operator_pools{state="PlanStale"}': "2x2000"},
    "HalfdropPoolsUnseen": {'halfdrop_operator_pools{state="NoObservation"}': "1x2000"},
    "HalfdropPoolNotWarm": {'halfdrop_operator_replicas{state="ready",instance="o"}': "3x2000"},
    "HalfdropReconcilesFail": {'halfdrop_operator_reconciles_total{outcome="error"}': "0+20x2000"},
    "HalfdropCeilingReached": {'halfdrop_operator_decisions_total{code="Budget"}': "0+4x2000"},
    "HalfdropBootsSlow": {
        'halfdrop_operator_boot_duration_seconds_bucket{le="900"}': "0+1x2000",
        'halfdrop_operator_boot_duration_seconds_bucket{le="1800"}': "0+10x2000",
        'halfdrop_operator_boot_duration_seconds_bucket{le="+Inf"}': "0+10x2000",
    },
    "HalfdropEdgeLeftOwing": {'halfdrop_orders_unforwarded{namespace="n",pod="edge-2",instance="e"}': "0x9 4x50 stale"},
    "HalfdropForecasterAway": {'halfdrop_demand_written_timestamp_seconds{region="eu",instance="f"}': None},
    "HalfdropHistoryNotKept": {'halfdrop_demand_written_timestamp_seconds{region="eu",instance="f"}': "0x2000"},
    "HalfdropDemandStreamFull": {'halfdrop_demand_stream_bytes{region="eu",instance="f"}': "3300x2000"},
    "HalfdropDemandLost": {'halfdrop_demand_missed_total{region="eu",instance="f"}': "0x60 5x1940"},
    "HalfdropClockWrong": {'halfdrop_demand_odd_total{kind="early",region="eu",instance="f"}': "0+1x2000"},
    "HalfdropPlanStale": {
        'halfdrop_planner_plan_stale{pool="all",region="eu",instance="f"}': "1x2000",
        'halfdrop_planner_fallback{pool="all",region="eu",instance="f"}': "1x2000",
    },
    "HalfdropForecastBad": {'halfdrop_planner_fallback{pool="all",region="eu",instance="f"}': "1x2000"},
    "HalfdropDemandDrifts": {'halfdrop_planner_drift{pool="all",region="eu",state="above",instance="f"}': "1x2000"},
}

LATER = {"HalfdropForecastBad": "7h"}
"""When it is looked whether an alert fires that waits for longer than most."""

HOLDS: dict[str, dict[str, str | None]] = {
    "a forecaster that starts has written nothing yet": {
        'halfdrop_demand_written_timestamp_seconds{region="eu",instance="f"}': "_x75 0x10 5100+60x1900",
    },
    "a region of which nobody says how much its stream may hold": {
        'halfdrop_demand_stream_bytes{region="eu",instance="f"}': "0x2000",
        'halfdrop_demand_stream_max_bytes{region="eu",instance="f"}': "0x2000",
    },
    "one clock that was set once": {
        'halfdrop_demand_odd_total{kind="early",region="eu",instance="f"}': "0x60 3x1940",
    },
    "a forecast that has been bad for an hour and a half": {
        'halfdrop_planner_fallback{pool="all",region="eu",instance="f"}': "1x2000",
    },
    "a worker that gave up yesterday": {'halfdrop_hub_demand_lost_total{instance="h"}': "3x2000"},
    "an edge that is replaced while the hub is away": {
        'halfdrop_orders_unforwarded{namespace="n",pod="edge-2",instance="old"}': "4x50 stale",
        'halfdrop_orders_unforwarded{namespace="n",pod="edge-2",instance="new"}': "_x54 4x50",
    },
    "an edge that came back, handed over, and went": {
        'halfdrop_orders_unforwarded{namespace="n",pod="edge-2",instance="old"}': "4x20 stale",
        'halfdrop_orders_unforwarded{namespace="n",pod="edge-2",instance="new"}': "_x22 4x5 0x20 stale",
    },
    "an edge that owed nothing when it went": {
        'halfdrop_orders_unforwarded{namespace="n",pod="edge-2",instance="e"}': "4x40 0x5 stale",
    },
    "a drift that comes and goes": {
        'halfdrop_planner_drift{pool="all",region="eu",state="below",instance="f"}': "1x50 0x5 1x1945",
    },
    "no forecaster where there are no workers either": {
        'halfdrop_demand_written_timestamp_seconds{region="eu",instance="f"}': None,
        "halfdrop_hub_build_info": None,
        'halfdrop_hub_build_info{instance="elsewhere"}': "_x85 1x1900",
    },
}
"""Near to what fires, and not yet a reason to wake anybody."""


def case(series: dict[str, str | None], fired: str | None, *, at: str = "90m") -> dict[str, Any]:
    given = {**WELL, **series}
    samples = [{"labels": f'{{alertname="{fired}"}}', "value": 1}] if fired else []
    expression = 'count by (alertname) (ALERTS{alertstate="firing"})'
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in given.items() if values is not None],
        "promql_expr_test": [{"expr": expression, "eval_time": at, "exp_samples": samples}],
    }


def test_each_fires_on_what_it_is_for_and_nothing_else_does(tmp_path: Path) -> None:
    assert FIRES.keys() == {rule["alert"] for rule in RULES}
    tests = [
        case({}, None),
        *(case(series, name, at=LATER.get(name, "90m")) for name, series in FIRES.items()),
        *(case(series, None) | {"name": name} for name, series in HOLDS.items()),
    ]
    (tmp_path / "alerts.yaml").write_text(ALERTS.read_text())
    (tmp_path / "test.yaml").write_text(
        json.dumps({"rule_files": ["alerts.yaml"], "evaluation_interval": "1m", "tests": tests})
    )
    run = subprocess.run(
        ["promtool", "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def expressions() -> list[tuple[str, str]]:
    found = [(rule["alert"], rule["expr"]) for rule in RULES]
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            found += [(f"{path.name}: {panel['title']}", target["expr"]) for target in panel.get("targets", ())]
    return found


@pytest.mark.parametrize(("where", "expression"), expressions())
def test_expressions_parse_and_ask_for_metrics_that_there_are(where: str, expression: str) -> None:
    promql_parser.parse(expression.replace("$__rate_interval", "5m"))
    for name, matchers in re.findall(r"\b((?:halfdrop|process)_\w+)(?:\{([^}]*)\})?", expression):
        if name in OTHERS:
            continue
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        family = FAMILIES.get(base if base in FAMILIES and FAMILIES[base].kind == "histogram" else name)
        assert family is not None, f"{name} is nowhere else"
        labels = {*family.labels, "le", "instance", "job", "pod", "namespace"}
        assert set(re.findall(r"(\w+)\s*[=!]~?", matchers)) <= labels, f"{where}: {matchers}"
    grouped = {
        label.strip() for group in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression) for label in group.split(",")
    }
    known = {label for family in FAMILIES.values() for label in family.labels} | {
        "le",
        "instance",
        "job",
        "pod",
        "namespace",
        "",
    }
    assert grouped <= known, where


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    names = {rule["alert"] for rule in RULES}
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"} == names
    for rule in RULES:
        assert rule["annotations"]["runbook_url"].endswith(f"/docs/runbooks/{rule['alert']}.md")
        assert rule["labels"]["severity"] in {"page", "ticket"}
        text = (RUNBOOKS / f"{rule['alert']}.md").read_text()
        places = [text.index(section) for section in SECTIONS]
        assert places == sorted(places)
    index = (RUNBOOKS / "README.md").read_text()
    for name in names:
        assert f"[{name}]({name}.md)" in index


def test_commands_and_metrics_on_the_pages_exist() -> None:
    text = "\n".join(path.read_text() for path in sorted(RUNBOOKS.glob("*.md")))
    for name in set(re.findall(r"\bhalfdrop_[a-z_]+", text)):
        assert name in FAMILIES, name
    commands = set(re.findall(r"`halfdrop ([a-z]+(?: [a-z]+){1,2})", text))
    assert len(commands) >= 6
    for command in commands:
        shown = subprocess.run(
            [Path(sys.executable).with_name("halfdrop"), *shlex.split(command), "--help"],
            capture_output=True,
            check=False,
        )
        assert shown.returncode == 0, f"halfdrop {command}"


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboards_are_whole(path: Path) -> None:
    board = json.loads(path.read_text())
    panels = board["panels"]
    assert board["uid"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${source}"}, panel["title"]
        assert panel["targets"], panel["title"]
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
    cells = [(x, y) for panel in panels for x, y in _cells(panel["gridPos"])]
    assert len(set(cells)) == len(cells), "panels lie on each other"


def test_there_is_a_dashboard_for_each_part() -> None:
    boards = [json.loads(path.read_text()) for path in DASHBOARDS]
    assert [path.stem for path in DASHBOARDS] == ["capacity", "edge", "forecaster", "hub", "operator"]
    assert len({board["uid"] for board in boards}) == len(boards)


def _cells(grid: dict[str, int]) -> list[tuple[int, int]]:
    columns, rows = range(grid["x"], grid["x"] + grid["w"]), range(grid["y"], grid["y"] + grid["h"])
    return [(x, y) for x in columns for y in rows]
