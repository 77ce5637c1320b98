"""How many GPUs a forecast is worth: the least of what idles and what comes late, each at its price. Pure.

For every capacity C the forecast says how likely each intensity of work is, and a queue of many servers says what
share of jobs waits too long at it. The capacity with the least C + price × (work that comes late) is taken. A busy,
well-known hour thereby gets a thin margin at a high quantile, and a quiet, uncertain one, where few jobs are at stake,
a lower quantile: one fixed quantile pays for both the same.

The waiting is Halfin and Whitt's, "Heavy-traffic limits for queues with many exponential servers" (Operations Research
29, 1981), its tail narrowed by the spread of service times as in Whitt's approximation for M/G/n.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr, ndtri

from halfdrop.forecaster.calibration import QUANTILES
from halfdrop.forecaster.workload import FloatArray, IntArray

LATE_AFTER_S = 10.0
SERVICE_VARIATION = 0.44
"""Squared coefficient of variation of a job's seconds: log-normal, sigma 0.6, as Stable Diffusion in production."""

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.965, 0.98, 0.99, 0.995, 0.998, 0.9995)
"""Where the predictive distribution is read. Below its median no capacity is ever chosen: the median stands for it."""

CANDIDATES = 40
BLOCK_MINUTES = 500
"""Minutes that are worked out at once: it bounds the memory of a year's replay."""


def wanted_capacity(quantiles: FloatArray, *, service_s: float, prices: FloatArray) -> IntArray:
    """Return the cheapest number of GPUs, [minutes, horizons, prices].

    quantiles: [minutes, horizons, QUANTILES] of the work around each horizon, in mean GPUs. prices: what a GPU-minute's
    work costs that comes late, against a GPU-minute that idles.
    """
    found = np.zeros((*quantiles.shape[:2], len(prices)), dtype=np.int64)
    masses = _masses()
    for horizon in range(quantiles.shape[1]):
        for begin in range(0, len(quantiles), BLOCK_MINUTES):
            rows = slice(begin, begin + BLOCK_MINUTES)
            intensities = at_levels(np.asarray(quantiles[rows, horizon], dtype=np.float64), LEVELS)
            least, most = intensities[:, :1], intensities[:, -1:]
            reach = 1.15 * most + 4 * np.sqrt(most + 1) + 3 - least
            capacities = np.ceil(least + reach * np.linspace(0, 1, CANDIDATES)[None, :] ** 1.5)
            late_work = np.zeros_like(capacities)
            for place, mass in enumerate(masses):
                intensity = intensities[:, place : place + 1]
                late_work += mass * intensity * late_share(capacities, intensity, service_s=service_s)
            for place, price in enumerate(prices):
                best = np.argmin(capacities + price * late_work, axis=1)
                found[rows, horizon, place] = capacities[np.arange(len(capacities)), best]
    return found


def late_share(capacity: FloatArray, intensity: FloatArray, *, service_s: float) -> FloatArray:
    """Return the share of jobs that wait over LATE_AFTER_S, for work that arrives at `intensity` GPUs on average."""
    intensity = np.maximum(intensity, 1e-3)
    spare = capacity - intensity
    beta = np.maximum(spare, 1e-6) / np.sqrt(intensity)
    density = np.exp(-0.5 * np.minimum(beta, 30.0) ** 2) / math.sqrt(2 * math.pi)
    waits = density / (density + beta * ndtr(beta))
    too_long = np.exp(-np.maximum(spare, 0.0) * LATE_AFTER_S / service_s * 2 / (1 + SERVICE_VARIATION))
    return np.where(spare <= 0, 1.0, waits * too_long)


def _masses() -> FloatArray:
    """Return how much of the probability each of LEVELS stands for."""
    levels = np.array(LEVELS)
    edges = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [1.0]])
    masses: FloatArray = np.diff(edges)
    return masses


def at_levels(quantiles: FloatArray, levels: Sequence[float]) -> FloatArray:
    """Interpolate [minutes, QUANTILES] at levels, linear in the normal score, and on beyond the last one."""
    scores = ndtri(np.array(QUANTILES))
    found = np.empty((len(quantiles), len(levels)))
    for place, score in enumerate(ndtri(np.array(levels))):
        right = min(max(int(np.searchsorted(scores, score)), 1), len(scores) - 1)
        share = (score - scores[right - 1]) / (scores[right] - scores[right - 1])
        found[:, place] = quantiles[:, right - 1] + share * (quantiles[:, right] - quantiles[:, right - 1])
    return found
