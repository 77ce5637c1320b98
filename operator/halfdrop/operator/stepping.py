"""From what is decided to what is asked for: up at once or by the ramp, down late and in one go. Pure."""

from msgspec import Struct

from halfdrop.operator.policies import CapacityPolicySpec

REPLICAS_MAX = 100_000


class DecisionMemory(Struct, frozen=True, kw_only=True, rename="camel"):
    """What the next decision must know of the earlier ones. It is kept in the pool's status."""

    replicas: int | None = None
    """Decided last; None: nothing yet."""

    changed_at: float = 0.0
    raised_at: float = 0.0
    lower_since: float | None = None
    """Since when less would have been enough without a break."""

    lower_peak: int = 0
    """The most that was needed since then."""


class Ask(Struct, frozen=True, kw_only=True):
    """What is needed now, what would be needed to lower, and who asks."""

    replicas: int
    to_lower: int
    reason: str
    message: str


class Ceiling(Struct, frozen=True, kw_only=True):
    replicas: int
    reason: str
    message: str


class Step(Struct, frozen=True, kw_only=True):
    """Where one decision went, and why."""

    reason: str
    message: str
    memory: DecisionMemory


def take_step(
    policy: CapacityPolicySpec,
    memory: DecisionMemory,
    *,
    ask: Ask,
    ceiling: Ceiling,
    urgent: int,
    to_lower: int,
    current: int,
    now: float,
    may_lower: bool,
) -> Step:
    """Go from `current` towards what is asked for, as fast as the policy lets it."""
    wanted = min(ask.replicas, ceiling.replicas)
    if current > ceiling.replicas:
        if may_lower:
            return Step(reason=ceiling.reason, message=ceiling.message, memory=changed(memory, ceiling.replicas, now))
        return Step(reason="Freeze", message="a freeze lets nothing be lowered", memory=_kept(memory, current))
    if wanted > current:
        allowed = max(urgent, min(wanted, _ramped(policy, memory, current, now)))
        if allowed < wanted:
            message = f"{ask.message}; the ramp lets {allowed} now"
            after = changed(memory, allowed, now) if allowed > current else _kept(memory, current)
            return Step(reason="Ramp", message=message, memory=after)
        limited = ask.replicas > ceiling.replicas
        message = f"{ask.message}, but {ceiling.message}" if limited else ask.message
        return Step(
            reason=ceiling.reason if limited else ask.reason, message=message, memory=changed(memory, wanted, now)
        )
    return _lower(policy, memory, ask, to_lower=to_lower, current=current, now=now, may_lower=may_lower)


def _ramped(policy: CapacityPolicySpec, memory: DecisionMemory, current: int, now: float) -> int:
    if policy.ramp is None:
        return REPLICAS_MAX
    waited = memory.replicas is None or not 0 <= now - memory.raised_at < policy.ramp.seconds
    return current + (policy.ramp.replicas if waited else 0)


def _lower(
    policy: CapacityPolicySpec,
    memory: DecisionMemory,
    ask: Ask,
    *,
    to_lower: int,
    current: int,
    now: float,
    may_lower: bool,
) -> Step:
    """Give up replicas, if less was enough for the whole cooldown."""
    if to_lower >= current:
        return Step(reason=ask.reason, message=f"{ask.message}; {current} stay", memory=_kept(memory, current))
    band = max(1.0, policy.scale_down.hysteresis * current)
    if current - to_lower < band:
        return Step(
            reason="Hysteresis",
            message=f"{to_lower} would do, too close to {current} for a change",
            memory=_kept(memory, current),
        )
    since = memory.lower_since if memory.lower_since is not None and memory.lower_since <= now else now
    began_again = since == now
    # Never more than there is: a memory that was damaged, or kept from before the maximum was lowered, raises nothing.
    peak = to_lower if began_again else min(current, max(memory.lower_peak, to_lower))
    waited_s = min(now - since, now - memory.changed_at if memory.changed_at <= now else 0.0)
    waiting = _kept(memory, current, lower_since=since, lower_peak=peak)
    if not may_lower:
        return Step(reason="Freeze", message=f"{peak} would do, and a freeze lets nothing be lowered", memory=waiting)
    if waited_s < policy.scale_down.cooldown_seconds:
        left_s = policy.scale_down.cooldown_seconds - waited_s
        return Step(
            reason="Cooldown", message=f"{peak} would do; {current} stay for {left_s:.0f} s more", memory=waiting
        )
    return Step(
        reason=ask.reason,
        message=f"less was enough for {waited_s:.0f} s: {ask.message}",
        memory=changed(memory, peak, now),
    )


def changed(memory: DecisionMemory, replicas: int, now: float) -> DecisionMemory:
    raised = replicas > (memory.replicas if memory.replicas is not None else -1)
    return DecisionMemory(replicas=replicas, changed_at=now, raised_at=now if raised else memory.raised_at)


def _kept(
    memory: DecisionMemory, replicas: int, *, lower_since: float | None = None, lower_peak: int = 0
) -> DecisionMemory:
    return DecisionMemory(
        replicas=replicas,
        changed_at=memory.changed_at,
        raised_at=memory.raised_at,
        lower_since=lower_since,
        lower_peak=lower_peak,
    )
