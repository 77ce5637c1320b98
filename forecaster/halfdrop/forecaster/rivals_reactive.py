"""Autoscalers that react, emulated after their own documentation, each with its one knob.

Sources: Kubernetes "Horizontal Pod Autoscaling" (algorithm details, default behaviour, stabilisation window); KEDA
"Scaling Deployments" and its NATS JetStream scaler; Knative Serving "KPA" and its autoscaler's README. What all are
given that they do not have in the field: metrics without delay or error.
"""

import math
from collections import deque

from halfdrop.forecaster.scaling import DECISION_INTERVAL_S, Observation, ScalingDecision

HPA_TOLERANCE = 0.1
HPA_DOWN_WINDOW_S = 300
HPA_UP_PODS = 4
KPA_STABLE_WINDOW_S = 60
KPA_PANIC_THRESHOLD = 2.0
KPA_SCALE_DOWN_RATE = 2.0


class HpaBehaviour:
    """The default `behavior`: up by max(100 %, 4 pods) in 15 s; down to the highest wish of the last 300 s."""

    def __init__(self) -> None:
        self._wishes: deque[int] = deque(maxlen=HPA_DOWN_WINDOW_S // DECISION_INTERVAL_S)

    def limit(self, wanted: int, current: int) -> int:
        self._wishes.append(wanted)
        if wanted > current:
            return min(wanted, max(2 * current, current + HPA_UP_PODS))
        return min(current, max(self._wishes))


def hpa_wish(*, usage: float, ready: int, unready: int, target: float) -> int:
    """Return the recommendation for utilisation: ceil(replicas × usage ÷ target), nothing within the tolerance.

    A pod that is not ready counts as using nothing when the wish is to go up, and is left out when it is to go down.
    """
    total = ready + unready
    if not ready:
        return total
    ratio = usage / ready / target
    if abs(ratio - 1.0) <= HPA_TOLERANCE:
        return total
    if not unready or ratio < 1.0:
        return math.ceil(ratio * ready) if unready else math.ceil(ratio * total)
    damped = usage / total / target
    return total if damped < 1.0 + HPA_TOLERANCE else math.ceil(damped * total)


class HpaUtilisation:
    """HPA on GPU utilisation. Knob: `averageUtilization`."""

    def __init__(self, target: float) -> None:
        self._target = target
        self._behaviour = HpaBehaviour()

    def decide(self, seen: Observation) -> ScalingDecision:
        total = seen.ready + seen.booting
        usage = min(seen.mean_busy, float(seen.ready))
        wanted = max(1, hpa_wish(usage=usage, ready=seen.ready, unready=seen.booting, target=self._target))
        return ScalingDecision(replicas=self._behaviour.limit(wanted, total), reason="utilisation")


class KedaQueue:
    """KEDA on the consumer's lag (waiting and unacknowledged jobs). Knob: `lagThreshold`, jobs per replica."""

    def __init__(self, target: float) -> None:
        self._target = target
        self._behaviour = HpaBehaviour()

    def decide(self, seen: Observation) -> ScalingDecision:
        total = seen.ready + seen.booting
        lag = seen.queued + seen.busy
        ratio = lag / self._target / max(1, total)
        is_close = abs(ratio - 1.0) <= HPA_TOLERANCE
        wanted = total if is_close else max(1, math.ceil(lag / self._target))
        return ScalingDecision(replicas=self._behaviour.limit(wanted, total), reason="lag")


class KnativeKpa:
    """Knative's pod autoscaler on concurrency. Knob: target utilisation of a replica that serves one job at a time.

    The 60 s average decides, but the shortest average (one interval here; 6 s there) takes over for 60 s once it asks
    for twice the ready replicas; while it panics nothing is given back. Down to half at a time.
    """

    def __init__(self, target: float) -> None:
        self._target = target
        self._recent: deque[float] = deque(maxlen=KPA_STABLE_WINDOW_S // DECISION_INTERVAL_S)
        self._panic_until_s = -1
        self._panic_peak = 0

    def decide(self, seen: Observation) -> ScalingDecision:
        self._recent.append(seen.mean_concurrency)
        ready = max(1, seen.ready)
        floor = math.floor(ready / KPA_SCALE_DOWN_RATE)
        stable = max(1, floor, math.ceil(sum(self._recent) / len(self._recent) / self._target))
        panic = max(1, floor, math.ceil(seen.mean_concurrency / self._target))
        if panic / ready >= KPA_PANIC_THRESHOLD:
            self._panic_until_s = seen.now_s + KPA_STABLE_WINDOW_S
        if seen.now_s > self._panic_until_s:
            self._panic_peak = 0
            return ScalingDecision(replicas=stable, reason="stable")
        self._panic_peak = max(self._panic_peak, panic, stable)
        return ScalingDecision(replicas=self._panic_peak, reason="panic")
