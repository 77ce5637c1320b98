"""Which jobs take the next denoising step together. Pure: no clock, no torch; time is counted in rounds.

A round is one step of one group: jobs that one call of the network can serve. Within a class jobs go first come, first
served, so that a full batch is finished before the next is begun: sharing the steps out evenly would make all of them
late. Three rules keep everyone moving:

- a better class goes first, in the choice of the group and within it; age makes a job's class better, step by step;
- the group at hand keeps its turn for a few rounds, because a change costs (a lattice, LoRAs, cold weights);
- a group that was passed over for `patience` rounds takes the next one, whatever else waits.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from halfdrop.contracts.jobs import JobClass

RANKS: dict[str, int] = {name: rank for rank, name in enumerate(get_args(JobClass))}
"""Real-time before standard before bulk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """What must be equal in jobs that one call of a network serves."""

    model: str
    """Digest of the bundle."""

    shape: tuple[int, ...]
    """Of one job's latents."""

    dtype: str
    form: tuple[object, ...] = ()
    """How the network must be set up: LoRAs with their weights, the lattice that it is laid on."""

    phase: Literal["step", "finish"] = "step"
    """Finishing (an autoencoder's decoding) takes a round of its own: it delays others no longer than a step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A job that could take a step now."""

    number: int
    """Its place in the order of arrival; no two are equal."""

    group: Group
    job_class: JobClass = "standard"
    rows: int = 1
    """Samples that it adds to the network's batch: two with guidance."""

    age: int = 0
    """Rounds since it came."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """How long is waited for what, in rounds."""

    stay: int = 16
    """A group keeps its turn so long while others of no better class wait: about half of a job of 30 steps. Shorter
    turns would make the jobs of all groups late together."""

    patience: int = 32
    """After so many rounds without a step a group takes the next one, whatever the others' class."""

    ageing: int = 64
    """A job's class gets better by one after each of these: a bulk job is as urgent as a real-time one after twice."""


RULES = Rules()


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """What the next decision must know of the last ones."""

    group: Group | None = None
    stayed: int = 0
    """Rounds in a row that `group` took."""

    waited: Mapping[Group, int] = field(default_factory=dict)
    """Rounds in which a group had a candidate and was passed over, since it last had its turn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The next round, and why it is this one."""

    group: Group
    numbers: tuple[int, ...]
    rows: int
    reason: Literal["overdue", "class", "turn", "oldest"]


def plan_round(
    candidates: Sequence[Candidate], turn: Turn, rows_max: Callable[[Group], int], rules: Rules = RULES
) -> tuple[Plan | None, Turn]:
    """Return the next round, None where there is nothing to do, and what the decision after it must know.

    rows_max: how many samples a call may have for a group. The job that comes first is always taken, even if it has
    more: whoever runs the round splits it then.
    """
    groups = _by_group(candidates, rules)
    if not groups:
        return None, Turn()
    group, reason = _choose_group(groups, turn, rules)
    numbers, rows = _fill(groups[group], rows_max(group))
    waited = {other: turn.waited.get(other, 0) + 1 for other in groups if other != group}
    stayed = turn.stayed + 1 if group == turn.group else 1
    return Plan(group=group, numbers=numbers, rows=rows, reason=reason), Turn(group=group, stayed=stayed, waited=waited)


def delay_max(groups: int, rules: Rules = RULES) -> int:
    """Return the most rounds that a group with work can be passed over while there are `groups` of them.

    Once it is overdue, only groups that have waited longer go before it, each of them once.
    """
    return rules.patience + groups - 1


def _by_group(candidates: Sequence[Candidate], rules: Rules) -> dict[Group, list[Candidate]]:
    groups: dict[Group, list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda each: _urgency(each, rules)):
        groups.setdefault(candidate.group, []).append(candidate)
    return groups


def _urgency(candidate: Candidate, rules: Rules) -> tuple[int, int]:
    """Least first."""
    return max(0, RANKS[candidate.job_class] - candidate.age // rules.ageing), candidate.number


def _choose_group(
    groups: Mapping[Group, list[Candidate]], turn: Turn, rules: Rules
) -> tuple[Group, Literal["overdue", "class", "turn", "oldest"]]:
    """Return the group whose turn it is. groups: each with its candidates, most urgent first."""
    urgency = {group: _urgency(waiting[0], rules) for group, waiting in groups.items()}
    overdue = [group for group in groups if turn.waited.get(group, 0) >= rules.patience]
    if overdue:
        return min(overdue, key=lambda group: (-turn.waited[group], urgency[group])), "overdue"
    best = min(rank for rank, _ in urgency.values())
    equals = [group for group in groups if urgency[group][0] == best]
    if turn.group in equals and turn.group is not None and (turn.stayed < rules.stay or len(equals) == 1):
        return turn.group, "turn"
    others = [group for group in equals if group != turn.group]
    chosen = min(others, key=lambda group: (-turn.waited.get(group, 0), urgency[group]))
    return chosen, "oldest" if len(equals) == len(groups) else "class"


def _fill(waiting: Sequence[Candidate], rows_max: int) -> tuple[tuple[int, ...], int]:
    """Return the jobs that fit, most urgent first, and how many samples they have."""
    taken, rows = [waiting[0].number], waiting[0].rows
    for candidate in waiting[1:]:
        if rows + candidate.rows > rows_max:
            break  # nobody smaller slips past a job that waits for room
        taken.append(candidate.number)
        rows += candidate.rows
    return tuple(taken), rows
