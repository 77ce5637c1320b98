"""Forecasts of parts and of their total, made to agree: the total is the sum of its parts. Pure.

Each is forecast by itself, because a total is smoother than its parts. What then does not add up is shared out by how
uncertain each is: the closed form, for one total over its parts, of the minimum-trace reconciliation with variances
only (Wickramasuriya, Athanasopoulos and Hyndman, "Optimal forecast reconciliation", JASA 114, 2019). Points agree
exactly. Upper quantiles move with their points and do not add up: bursts of the parts do not come all at once.
"""

import msgspec
import numpy as np

from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.workload import FloatArray


class Coherent(msgspec.Struct, frozen=True, kw_only=True):
    """Reconciled points: parts [parts, steps] that sum to total [steps]."""

    parts: FloatArray
    total: FloatArray


def reconcile(parts: FloatArray, total: FloatArray, *, part_variances: FloatArray, total_variance: float) -> Coherent:
    """Share out what `total` [steps] and the sum of `parts` [parts, steps] differ by.

    Variances are of each one's past errors. Nothing below zero comes out: what a part cannot take, the others take.
    Raises InvalidInput where shapes do not fit or a value is no number.
    """
    if parts.ndim != 2 or not len(parts) or parts.shape[1:] != total.shape or part_variances.shape != parts.shape[:1]:
        raise InvalidInput(
            "parts, total, part_variances",
            got=f"{parts.shape}, {total.shape}, {part_variances.shape}",
            allowed="[parts, steps], [steps] and [parts], one part or more",
        )
    variances = np.append(part_variances, total_variance)
    if not (np.isfinite(parts).all() and np.isfinite(total).all() and np.isfinite(variances).all()):
        raise InvalidInput("parts, total, variances", got="NaN or infinity", allowed="finite numbers")
    # Equal shares where nothing is known of the errors.
    weights = np.maximum(variances, 1e-9)
    gap = total - parts.sum(axis=0)
    shares = weights / weights.sum()
    moved = parts + shares[:-1, None] * gap
    wanted = np.maximum(total - shares[-1] * gap, 0.0)
    kept = np.maximum(moved, 0.0)
    sums = kept.sum(axis=0)
    # Cutting at zero raised the sum: the positive parts give that back in proportion.
    kept = kept * np.where(sums > 0, wanted / np.maximum(sums, 1e-12), 0.0)
    return Coherent(parts=kept, total=kept.sum(axis=0))


def shift_quantiles(quantiles: FloatArray, points: FloatArray, reconciled: FloatArray) -> FloatArray:
    """Move quantiles [..., levels] by what their points moved by, never below zero."""
    shifted: FloatArray = np.maximum(quantiles + (reconciled - points)[..., None], 0.0)
    return shifted
