"""The edge's figures in one object: CPU of hits and of 304 against nginx, renders of a burst, reuse.

Each comes from a benchmark of its own, which says how it is measured and prints more: hits.py, coalescing.py, reuse.py.
"""

import asyncio

from coalescing import measure_coalescing
from hits import measure_hits
from measuring import report
from reuse import measure_reuse

KEYS = (
    "hit_cpu_ratio_to_nginx",
    "not_modified_cpu_ratio_to_nginx",
    "hit_p99_ratio_to_litestar",
    "edge_latency_ms_p50",
    "edge_latency_ms_p99",
    "coalesced_renders",
    "answer_ms_p50",
    "answer_ms_p99",
    "wrong_reuse",
    "wrong_reuse_adversarial",
    "hit_ratio",
)


def main() -> None:
    found = {**measure_hits(), **asyncio.run(measure_coalescing()), **measure_reuse()}
    report("edge", {key: found[key] for key in KEYS})


if __name__ == "__main__":
    main()
