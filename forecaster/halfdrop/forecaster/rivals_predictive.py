"""Autoscalers that forecast, emulated after their own documentation, each with its one knob: the target utilisation.

Sources: jthomperoo "Predictive Horizontal Pod Autoscaler" (Holt-Winters on replica counts, additive, decision type
"maximum"); Crane "Introducing EHPA" and its DSP algorithm (maxValue estimator: the maximum of past cycles plus a
margin; the largest value of the prediction window counts); AWS EC2 Auto Scaling "How predictive scaling works"
(hourly, from up to 14 days, capacity launched 5 minutes early, never scales in; dynamic scaling beside it); NVIDIA
Dynamo "SLA-based planner" (every 180 s: predict the next interval, divide by what one engine does). Where a vendor
keeps its forecaster to itself (AWS), a weighted mean of the same hours stands in for it.

Each is given the demand before the replay, as its product would find in its store.
"""

import math

import numpy as np

from halfdrop.forecaster.rivals_reactive import HpaBehaviour, HpaUtilisation, hpa_wish
from halfdrop.forecaster.scaling import Observation, ScalingDecision
from halfdrop.forecaster.workload import MINUTE_S, FloatArray

DAY_MINUTES = 1_440
HOUR_MINUTES = 60

PHPA_ALPHA = PHPA_BETA = PHPA_GAMMA = 0.9
"""As in PHPA's own example."""

CRANE_MARGIN = 0.15
"""`marginFraction` as in Crane's documentation."""

CRANE_WINDOW_MINUTES = 60
CRANE_CYCLES = 7
AWS_EARLY_MINUTES = 5
AWS_DAYS = 14
AWS_HALF_LIFE_DAYS = 4.0
DYNAMO_INTERVAL_MINUTES = 3
DYNAMO_WINDOW = 50
"""`load-prediction-window-size`."""


class DemandMeter:
    """Adds up what was offered, minute by minute, after a history. Both are in mean GPUs."""

    def __init__(self, history: FloatArray, room_minutes: int) -> None:
        self._values = np.concatenate([np.nan_to_num(history), np.zeros(room_minutes + 1)])
        self.minutes = len(history)
        """Whole minutes known so far."""

        self._open_gpu_s = 0.0

    def note(self, seen: Observation) -> bool:
        """Take in an observation; tell whether it closes a minute."""
        self._open_gpu_s += seen.offered_gpu_s
        if seen.now_s % MINUTE_S:
            return False
        self._values[self.minutes] = self._open_gpu_s / MINUTE_S
        self.minutes += 1
        self._open_gpu_s = 0.0
        return True

    @property
    def known(self) -> FloatArray:
        return self._values[: self.minutes]


class PredictiveHpa:
    """Holt-Winters over the replica counts that HPA would set, a day as its season; the larger of the two is taken."""

    def __init__(self, target: float, meter: DemandMeter) -> None:
        self._target, self._meter = target, meter
        self._behaviour = HpaBehaviour()
        counts = np.ceil(meter.known / target)
        self._season = [0.0] * DAY_MINUTES
        self._level = float(counts[:DAY_MINUTES].mean()) if len(counts) else 0.0
        self._trend = 0.0
        self._steps = 0
        for count in counts:
            self._learn(float(count))
        self._predicted = 0

    def _learn(self, count: float) -> None:
        place = self._steps % DAY_MINUTES
        season, before = self._season[place], self._level
        if self._steps >= DAY_MINUTES:
            self._level = PHPA_ALPHA * (count - season) + (1 - PHPA_ALPHA) * (before + self._trend)
            self._trend = PHPA_BETA * (self._level - before) + (1 - PHPA_BETA) * self._trend
            self._season[place] = PHPA_GAMMA * (count - self._level) + (1 - PHPA_GAMMA) * season
        else:
            self._season[place] = count - self._level
        self._steps += 1

    def decide(self, seen: Observation) -> ScalingDecision:
        total = seen.ready + seen.booting
        usage = min(seen.mean_busy, float(seen.ready))
        wanted = max(1, hpa_wish(usage=usage, ready=seen.ready, unready=seen.booting, target=self._target))
        if self._meter.note(seen):
            self._learn(float(wanted))
            ahead = self._level + self._trend + self._season[self._steps % DAY_MINUTES]
            self._predicted = max(0, math.ceil(ahead)) if self._steps > DAY_MINUTES else 0
        return ScalingDecision(
            replicas=self._behaviour.limit(max(wanted, self._predicted), total),
            reason="predicted" if self._predicted > wanted else "utilisation",
        )


class CraneEhpa:
    """The maximum of the same time in past days, plus a margin, over the next hour; HPA's own wish where larger."""

    def __init__(self, target: float, meter: DemandMeter) -> None:
        self._target, self._meter = target, meter
        self._behaviour = HpaBehaviour()
        self._predicted = 0

    def decide(self, seen: Observation) -> ScalingDecision:
        total = seen.ready + seen.booting
        usage = min(seen.mean_busy, float(seen.ready))
        wanted = max(1, hpa_wish(usage=usage, ready=seen.ready, unready=seen.booting, target=self._target))
        if self._meter.note(seen):
            self._predicted = self._predict()
        return ScalingDecision(
            replicas=self._behaviour.limit(max(wanted, self._predicted), total),
            reason="predicted" if self._predicted > wanted else "utilisation",
        )

    def _predict(self) -> int:
        known = self._meter.known
        peak = 0.0
        for cycle in range(1, CRANE_CYCLES + 1):
            begin = len(known) - cycle * DAY_MINUTES
            if begin < 0:
                break
            peak = max(peak, float(known[begin : begin + CRANE_WINDOW_MINUTES].max()))
        return math.ceil(peak * (1 + CRANE_MARGIN) / self._target)


class AwsPredictive:
    """An hourly floor from the same hours of past days and weeks, five minutes early, under target tracking."""

    def __init__(self, target: float, meter: DemandMeter) -> None:
        self._target, self._meter = target, meter
        self._tracking = HpaUtilisation(target)
        self._floors: dict[int, int] = {}

    def decide(self, seen: Observation) -> ScalingDecision:
        self._meter.note(seen)
        minute = self._meter.minutes
        floor = max(self._floor(minute // HOUR_MINUTES), self._floor((minute + AWS_EARLY_MINUTES) // HOUR_MINUTES))
        tracked = self._tracking.decide(seen).replicas
        return ScalingDecision(replicas=max(floor, tracked), reason="forecast" if floor > tracked else "tracking")

    def _floor(self, hour: int) -> int:
        if hour not in self._floors:
            self._floors[hour] = self._forecast(hour)
        return self._floors[hour]

    def _forecast(self, hour: int) -> int:
        known = self._meter.known
        total = weight = 0.0
        for day in range(1, AWS_DAYS + 1):
            begin = (hour - 24 * day) * HOUR_MINUTES
            if begin < 0 or begin + HOUR_MINUTES > len(known):
                continue
            share = 0.5 ** (day / AWS_HALF_LIFE_DAYS) * (3.0 if day % 7 == 0 else 1.0)
            total += share * float(known[begin : begin + HOUR_MINUTES].mean())
            weight += share
        return math.ceil(total / weight / self._target) if weight else 0


class DynamoPlanner:
    """Every 180 s: an autoregression of differences over the last 50 intervals, divided by what one engine does."""

    def __init__(self, target: float, meter: DemandMeter) -> None:
        self._target, self._meter = target, meter
        self._wanted = max(1, math.ceil(float(meter.known[-DYNAMO_INTERVAL_MINUTES:].mean()) / target))

    def decide(self, seen: Observation) -> ScalingDecision:
        if self._meter.note(seen) and self._meter.minutes % DYNAMO_INTERVAL_MINUTES == 0:
            self._wanted = max(1, math.ceil(self._predict() / self._target))
        return ScalingDecision(replicas=self._wanted, reason="predicted rate")

    def _predict(self) -> float:
        minutes = DYNAMO_WINDOW * DYNAMO_INTERVAL_MINUTES
        rates = self._meter.known[-minutes:].reshape(-1, DYNAMO_INTERVAL_MINUTES).mean(axis=1)
        steps = np.diff(rates)
        if len(steps) < 10:
            return float(rates[-1])
        lags = np.stack([steps[1:-1], steps[:-2]], axis=1)
        grams = lags.T @ lags + 1e-3 * np.eye(2)
        first, second = np.linalg.solve(grams, lags.T @ steps[2:])
        return max(0.0, float(rates[-1] + first * steps[-1] + second * steps[-2]))
