"""What announced events make of a forecast. Pure: the forecast knows what came before, people know what will come.

A forecast made in the middle of a campaign has seen it already, so what counts is how much more uplift there will be
than there is now. It never lowers a forecast: an announced lull that does not come would cost jobs, and a plan that
is too high for an hour costs an hour.
"""

from collections.abc import Iterable

import msgspec
import numpy as np

from halfdrop.contracts.demand_events import DemandEvent, uplift_at
from halfdrop.forecaster.service.series import Choice
from halfdrop.forecaster.workload import MINUTE_S, FloatArray, IntArray

UPLIFT_TOGETHER_MAX = 1000.0
"""Of several events at once, which multiply."""


class Touch(msgspec.Struct, frozen=True, kw_only=True):
    """An event and the share of the demand in question that it multiplies."""

    event: DemandEvent
    share: float


def uplift_factors(touches: Iterable[Touch], minute: int, targets: IntArray) -> FloatArray:
    """Return by what to multiply a forecast of `targets` that was made at the end of `minute` (since the epoch)."""
    touching = list(touches)
    factors = np.ones(len(targets))
    if not touching:
        return factors
    now = _together(touching, (minute + 0.5) * MINUTE_S)
    for place, target in enumerate(targets.tolist()):
        factors[place] = max(1.0, _together(touching, (target + 0.5) * MINUTE_S) / now)
    return factors


def touched(event: DemandEvent, choice: Choice) -> Choice | None:
    """Return those of the chosen series that the event touches, or None if it touches none."""
    if event.region is not None and choice.regions and event.region not in choice.regions:
        return None
    if event.model is not None and choice.models and event.model not in choice.models:
        return None
    classes: tuple[str, ...] = choice.classes or event.job_classes
    if choice.classes and event.job_classes:
        classes = tuple(name for name in choice.classes if name in event.job_classes)
        if not classes:
            return None
    return Choice(
        regions=choice.regions if event.region is None else (event.region,),
        classes=classes,
        models=choice.models if event.model is None else (event.model,),
    )


def _together(touching: list[Touch], at_s: float) -> float:
    product = 1.0
    for touch in touching:
        product *= 1.0 + touch.share * (uplift_at(touch.event, at_s) - 1.0)
    return min(max(product, 1e-3), UPLIFT_TOGETHER_MAX)
