"""How long replicas take to boot, learnt from pods that became ready. Pure.

A boot is from the making of a pod to its first readiness: with finding a node, pulling the image and loading the model,
for all of that is what a plan must be ahead of.
"""

import math
from collections.abc import Iterable

from msgspec import Struct

KEPT = 64
"""Boots that the quantiles are reckoned from: a few days' worth, so that a faster image shows within a day."""

BOOT_MAX_S = 3600.0
"""A pod that took longer hung, or lost and regained its readiness; neither tells how long a boot takes."""


class PodBoot(Struct, frozen=True, kw_only=True):
    """A pod that is ready."""

    created_at: float
    ready_at: float
    """Unix seconds at which it last became ready."""

    restarts: int = 0


class BootTimes(Struct, frozen=True, kw_only=True, rename="camel"):
    """What is known of a pool's boots; kept in its status."""

    samples: int = 0
    p50_seconds: int | None = None
    p95_seconds: int | None = None
    recent_seconds: tuple[int, ...] = ()
    until: float = 0.0
    """Unix seconds of the last boot that was counted: each is counted once, also over a restart of the operator."""


def learn_boots(known: BootTimes, pods: Iterable[PodBoot]) -> BootTimes:
    """Return what is known after seeing `pods`, all that are ready now; the same value if none of them is new."""
    boots = sorted(
        (pod for pod in pods if pod.ready_at > known.until and _is_boot(pod)),
        key=lambda pod: (pod.ready_at, pod.created_at),
    )
    if not boots:
        return known
    recent = (*known.recent_seconds, *(round(pod.ready_at - pod.created_at) for pod in boots))[-KEPT:]
    return BootTimes(
        samples=known.samples + len(boots),
        p50_seconds=_quantile(recent, 0.5),
        p95_seconds=_quantile(recent, 0.95),
        recent_seconds=recent,
        until=boots[-1].ready_at,
    )


def _is_boot(pod: PodBoot) -> bool:
    return pod.restarts == 0 and 0 <= pod.ready_at - pod.created_at <= BOOT_MAX_S


def _quantile(seconds: tuple[int, ...], share: float) -> int:
    """The nearest rank: one that was measured, never one in between."""
    return sorted(seconds)[max(0, math.ceil(share * len(seconds)) - 1)]
