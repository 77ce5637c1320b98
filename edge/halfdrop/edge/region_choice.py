"""Which region an order goes to: home, unless home cannot take it or its wait is longer than another's by a factor.

A pure decision. What comes in is what the regions' workers told lately; what comes out says why.
"""

from collections.abc import Sequence

import msgspec

from halfdrop.contracts.jobs import Job, JobClass
from halfdrop.contracts.pools import STATE_KEPT_S, WorkerState


class SpillRule(msgspec.Struct, frozen=True, kw_only=True):
    """When work leaves home: the wait there is longer than elsewhere by the factor, and by so many seconds."""

    factor: float = 2.0
    wait_min_s: float = 5.0


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker told, and when we heard it by our own clock."""

    at: float
    state: WorkerState


class RegionView(msgspec.Struct, frozen=True, kw_only=True):
    """A region as seen from here."""

    name: str
    is_up: bool
    """False if its hub did not answer lately."""

    is_draining: bool = False
    heard: tuple[Heard, ...] = ()
    sent_jobs: int = 0
    """Jobs that we sent there and that its workers cannot have told of yet."""

    sent_work: float = 0.0


class RegionChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Where an order goes; with region None it waits at the edge."""

    region: str | None
    reason: str


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A region, judged for one order. wait_s None: it cannot be told."""

    name: str
    obstacle: str = ""
    wait_s: float | None = None


AWAY, DRAINING, NO_WORKER, NO_FIT = "is away", "takes no new orders", "has no worker", "cannot make it"


def choose_region(
    order: Job, views: Sequence[RegionView], *, home: str, now: float, previous: str = "", rule: SpillRule
) -> RegionChoice:
    """Return where `order` goes. previous: where the last order of its class went; what went away comes back late.

    Leaving home takes `rule.factor` and `rule.wait_min_s`; staying away takes half of what is above equality, so that a
    wait that swings around the limit does not send orders to and fro.
    """
    seen = {view.name: _judge(order, view, now) for view in views}
    able = sorted(
        (other for other in seen.values() if other.name != home and not other.obstacle),
        key=lambda other: (other.wait_s is None, other.wait_s),
    )
    at_home = seen[home]
    if at_home.obstacle:
        return _choose_without_home(at_home, able, seen)
    if not able or at_home.wait_s is None or able[0].wait_s is None:
        return RegionChoice(region=home, reason="home")
    is_away = previous not in ("", home)
    factor = (1 + rule.factor) / 2 if is_away else rule.factor
    wait_min_s = rule.wait_min_s / 2 if is_away else rule.wait_min_s
    best = next((other for other in able if other.name == previous and other.wait_s is not None), able[0])
    if _is_longer(best.wait_s, able[0].wait_s, rule.factor, rule.wait_min_s):
        best = able[0]
    if not _is_longer(at_home.wait_s, best.wait_s, factor, wait_min_s):
        return RegionChoice(region=home, reason="home again" if is_away else "home")
    return RegionChoice(region=best.name, reason=f"waits {best.wait_s:.0f} s there, {at_home.wait_s:.0f} s at home")


def expected_wait_s(order: Job, view: RegionView, now: float) -> float | None:
    """Return how long `order` would wait in the region, None if its workers did not measure themselves yet.

    The work ahead, by the speed of the workers that can make the order: all of it, or what is in the order's own class
    by the share that this class has while others have work, whichever is less.
    """
    states = [heard.state for heard in _fresh(view, now)]
    able = [state for state in states if _can_make(order, state)]
    if not able:
        return None
    newest = max(states, key=lambda state: state.at)
    if sum(lane.jobs for lane in newest.lanes) + view.sent_jobs < sum(state.slots for state in able):
        return 0.0
    speeds = [state.units_per_s for state in able if state.units_per_s > 0]
    if not speeds:
        return None
    units_per_s = sum(speeds) / len(speeds) * sum(state.slots for state in able)
    work: dict[JobClass, float] = {order.job_class: view.sent_work}
    for lane in newest.lanes:
        work[lane.job_class] = work.get(lane.job_class, 0.0) + lane.work
    share = newest.weights.get(order.job_class, 1.0) / sum(newest.weights.get(name, 1.0) for name in work)
    in_class = work[order.job_class] / share if share > 0 else float("inf")
    return min(sum(work.values()) + newest.other_work, in_class + newest.other_work) / units_per_s


def _choose_without_home(at_home: _Seen, able: Sequence[_Seen], seen: dict[str, _Seen]) -> RegionChoice:
    if able:
        return RegionChoice(region=able[0].name, reason=f"home {at_home.obstacle}")
    if (
        at_home.obstacle != DRAINING
    ):  # what is away or without a fitting worker may have one again, and home comes first
        return RegionChoice(region=at_home.name, reason=f"home {at_home.obstacle}, and no other region takes it")
    open_ones = [name for name, other in seen.items() if other.obstacle == NO_WORKER]
    if open_ones:  # its workers may be starting, or of a release that tells nothing
        return RegionChoice(region=open_ones[0], reason=f"home {DRAINING}, and {open_ones[0]} does")
    why = ", ".join(f"{name} {other.obstacle}" for name, other in seen.items())
    return RegionChoice(region=None, reason=why)


def _judge(order: Job, view: RegionView, now: float) -> _Seen:
    if not view.is_up:
        return _Seen(name=view.name, obstacle=AWAY)
    states = [heard.state for heard in _fresh(view, now)]
    if view.is_draining or any(state.is_draining for state in states):
        return _Seen(name=view.name, obstacle=DRAINING)
    if not states:
        return _Seen(name=view.name, obstacle=NO_WORKER)
    if not any(_can_make(order, state) for state in states):
        return _Seen(name=view.name, obstacle=NO_FIT)
    return _Seen(name=view.name, wait_s=expected_wait_s(order, view, now))


def _fresh(view: RegionView, now: float) -> list[Heard]:
    return [heard for heard in view.heard if now - heard.at <= STATE_KEPT_S]


def _can_make(order: Job, state: WorkerState) -> bool:
    is_known = order.plates is not None or order.spec.model_digest in state.models
    is_small_enough = state.size_max_px == 0 or order.size_px <= state.size_max_px
    return is_known and is_small_enough and order.job_class in state.classes


def _is_longer(wait_s: float | None, other_s: float | None, factor: float, min_s: float) -> bool:
    if wait_s is None or other_s is None:
        return False
    return wait_s > other_s * factor and wait_s - other_s > min_s
