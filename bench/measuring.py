"""What every benchmark shares: naming the machine and the commit, reducing samples, and the closing JSON line.

A figure without its machine and commit cannot be compared with the next one, so `report` adds them itself.
"""

import json
import math
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def percentile(samples: Sequence[float], q: float) -> float:
    """Return the nearest-rank percentile of `samples`, `q` from 0 to 1: always a value that was really measured."""
    if not samples:
        raise ValueError("no samples: nothing was measured")
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


def summarise(name: str, samples: Sequence[float], *, digits: int = 3) -> dict[str, float]:
    """Return `{name}_p50`, `{name}_p99` and `{name}_count` of `samples`."""
    return {
        f"{name}_p50": round(percentile(samples, 0.50), digits),
        f"{name}_p99": round(percentile(samples, 0.99), digits),
        f"{name}_count": len(samples),
    }


def report(benchmark: str, figures: dict[str, object]) -> None:
    """Print one JSON object: the benchmark, its figures, the machine, the commit. It must be the last line."""
    print(json.dumps({"benchmark": benchmark, **figures, "machine": machine(), "commit": commit()}), flush=True)


def machine() -> dict[str, object]:
    """Return what a reader needs to judge a figure: processor, cores we may use, memory, system, Python."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES / 2**30, 1),
        "load_1min": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def commit() -> str:
    """Return the commit measured, with "+" when the tree differs from it, or "unknown" outside a checkout."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def cpu_seconds(pid: int) -> float:
    """Return the user and system CPU seconds that process `pid` has used, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def resident_mib(pid: int) -> float:
    """Return the resident memory of process `pid` in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES / 2**20


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
