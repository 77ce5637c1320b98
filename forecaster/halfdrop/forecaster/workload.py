"""Jobs on a clock of one-second ticks: what a replay serves. Pure; every draw comes from a seed.

Demand is kept as GPU-work, not as counts, because the seconds that a job needs drift. Where only demand per minute is
known, jobs are drawn from it: a Poisson number in each second, with service times of a log-normal shape.
"""

from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from halfdrop.contracts.errors import InvalidInput

MINUTE_S = 60
DAY_S = 86_400
SERVICE_MAX_S = 3_600
"""A job longer than this is cut: the arrays of a replay are as long as its longest job."""

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs in the order of their arrival. `arrivals_s`: tick of each; `service_s`: whole GPU-seconds, 1 or more."""

    arrivals_s: IntArray
    service_s: IntArray
    length_s: int
    """Ticks in the replay: a multiple of 60."""

    start_minute: int = 0
    """Minutes since the epoch at tick 0: what time of the day it is."""

    @property
    def work_gpu_s(self) -> float:
        return float(self.service_s.sum())

    @property
    def mean_service_s(self) -> float:
        return self.work_gpu_s / max(1, len(self.service_s))

    def work_per_minute(self) -> FloatArray:
        """Return the mean number of GPUs that each minute's arrivals ask for: GPU-seconds offered ÷ 60."""
        minutes = self.length_s // MINUTE_S
        return np.bincount(self.arrivals_s // MINUTE_S, weights=self.service_s, minlength=minutes)[:minutes] / MINUTE_S


def make_workload(
    arrivals_s: IntArray, service_s: IntArray | FloatArray, *, length_s: int, start_minute: int = 0
) -> Workload:
    """Return a workload of jobs in any order; those outside [0, length_s) are left out.

    Raises InvalidInput where the two arrays do not fit together, or nothing can be replayed.
    """
    if len(arrivals_s) != len(service_s):
        raise InvalidInput("service_s", got=len(service_s), allowed=f"one for each of {len(arrivals_s)} arrivals")
    if length_s < MINUTE_S or length_s % MINUTE_S:
        raise InvalidInput("length_s", got=length_s, allowed="whole minutes, one or more")
    inside = (arrivals_s >= 0) & (arrivals_s < length_s)
    order = np.argsort(arrivals_s[inside], kind="stable")
    service = np.clip(np.rint(service_s[inside][order]), 1, SERVICE_MAX_S)
    return Workload(
        arrivals_s=arrivals_s[inside][order].astype(np.int64),
        service_s=service.astype(np.int64),
        length_s=length_s,
        start_minute=start_minute,
    )


def as_kept(gpus: FloatArray) -> FloatArray:
    """Return demand as precisely as the planner's table keeps it: GPU-seconds a minute in single precision.

    A replay of a file and one on the page then draw the very same jobs.
    """
    kept: FloatArray = (gpus * MINUTE_S).astype(np.float32).astype(np.float64) / MINUTE_S
    return kept


def draw_jobs(
    gpus_per_minute: FloatArray, *, seed: int, mean_service_s: float = 20.0, spread: float = 0.6, start_minute: int = 0
) -> Workload:
    """Draw jobs whose expected work in each minute is `gpus_per_minute` × 60 GPU-seconds; NaN (a gap) draws none.

    spread: sigma of the logarithm of the service time. 0.6 is that of Stable Diffusion in production (mean 26 s,
    median 22 s, p95 61 s).
    """
    dice = np.random.default_rng(seed)
    rates = np.repeat(np.nan_to_num(np.maximum(gpus_per_minute, 0.0)), MINUTE_S) / mean_service_s
    counts = dice.poisson(rates)
    arrivals = np.repeat(np.arange(len(rates)), counts)
    service = dice.lognormal(np.log(mean_service_s) - spread**2 / 2, spread, len(arrivals))
    return make_workload(arrivals, service, length_s=len(rates), start_minute=start_minute)
