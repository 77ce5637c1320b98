"""Durations, the names of attributes, and traces that are off."""

import importlib
import pkgutil
import subprocess
import sys
from itertools import pairwise

from opentelemetry.semconv import attributes as stable
from opentelemetry.semconv._incubating import attributes as moving
from opentelemetry.trace import SpanKind

from halfdrop.runtime import semantics
from halfdrop.runtime.durations import BOUNDS_S, Durations, DurationsBy
from halfdrop.runtime.exposition import Family, encode_metrics, make_registry
from halfdrop.runtime.tracing import OFF, carry, current_trace_id

TRACEPARENT = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}


def test_a_duration_counts_in_its_bucket_and_in_all_above() -> None:
    durations = Durations((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 7.0):
        durations.add(seconds)
    assert durations.buckets() == [("0.1", 2), ("1", 3), ("+Inf", 4)]
    assert durations.sum_s == 7.65


def test_buckets_reach_from_a_hit_to_the_longest_wait() -> None:
    assert (BOUNDS_S[0], BOUNDS_S[-1]) == (0.0001, 60.0)
    assert all(2 <= high / low <= 3 for low, high in pairwise(BOUNDS_S))


def test_a_histogram_is_shown_as_prometheus_reads_it() -> None:
    stages = DurationsBy((0.1, 1.0))
    stages.add(("proof",), 0.5)
    family = Family(name="halfdrop_stage_seconds", kind="histogram", meaning="stages", labels=("stage",))
    data, _ = encode_metrics(make_registry(lambda: [family.by(stages.items())]), "")
    lines = [line for line in data.decode().splitlines() if line.startswith("halfdrop_")]
    assert lines == [
        'halfdrop_stage_seconds_bucket{le="0.1",stage="proof"} 0.0',
        'halfdrop_stage_seconds_bucket{le="1",stage="proof"} 1.0',
        'halfdrop_stage_seconds_bucket{le="+Inf",stage="proof"} 1.0',
        'halfdrop_stage_seconds_count{stage="proof"} 1.0',
        'halfdrop_stage_seconds_sum{stage="proof"} 0.5',
    ]


def test_the_names_of_attributes_are_those_of_the_installed_conventions() -> None:
    known = set()
    for package in (stable, moving):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            known |= {value for value in vars(importlib.import_module(module.name)).values() if isinstance(value, str)}
    ours = {value for name, value in vars(semantics).items() if name.isupper() and isinstance(value, str)}
    assert len(ours) > 10
    assert {name for name in ours - known if not name.startswith("halfdrop.")} == set()


def test_off_a_span_carries_a_clients_trace_and_adds_nothing() -> None:
    with OFF.span("outer", kind=SpanKind.SERVER, headers=TRACEPARENT):
        assert current_trace_id() == "a" * 32
        with OFF.span("inner"):
            assert carry({"x": "y"}) == {"x": "y", **TRACEPARENT}
    assert current_trace_id() == ""
    assert carry() == {}
    with OFF.span("damaged", headers={"traceparent": "00-nonsense"}):
        assert current_trace_id() == ""


def test_without_a_collector_the_sdk_is_not_imported() -> None:
    code = (
        "import sys\n"
        "from halfdrop.runtime.tracing import open_tracing\n"
        "with open_tracing('halfdrop-edge', 'x') as tracing: assert not tracing.is_on\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def test_a_collector_that_is_away_does_not_hold_up_the_end() -> None:
    code = (
        "import time\n"
        "from halfdrop.runtime.tracing import open_tracing\n"
        "with open_tracing('halfdrop-edge', 'x') as tracing:\n"
        "    with tracing.span('a'): pass\n"
        "    began_s = time.monotonic()\n"
        "assert time.monotonic() - began_s < 6, time.monotonic() - began_s"
    )
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, check=True)
