"""A thousand random bad requests: none is the edge's fault, none costs it memory, and it still draws afterwards.

The same command as in the benchmarks, in a process of its own, from a fresh seed: a failure prints it.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "bad_requests.py"
GROWTH_MAX_MB = 40.0
"""Pictures and plates that valid requests among them left in the caches; a body kept whole would be 10 each."""


@pytest.mark.timeout(400)
def test_a_thousand_bad_requests_harm_nobody() -> None:
    run = subprocess.run(
        [sys.executable, SCRIPT, "--requests", "1000"], capture_output=True, text=True, timeout=380, check=False
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert (found["server_errors"], found["hung"], found["unexpected_errors_logged"]) == (0, 0, 0), run.stdout
    assert found["still_answers"], run.stdout
    assert found["answers_4xx"] > 500, "they were meant to be bad"
    assert found["rss_after_mb"] - found["rss_before_mb"] < GROWTH_MAX_MB, run.stdout
