"""From messages of DEMAND to rows of days: which reports count, what in them can be true, and when it was. Pure."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime

import msgspec
import pyarrow as pa

from halfdrop.contracts.demand import MINUTE_S, ROWS_MAX, DemandReport, DemandRow, decode_report
from halfdrop.forecaster.demand_parts import MINUTE_MS, SCHEMA, VALUE_MAX, merge_live

AHEAD_MAX_MINUTES = 1
"""A report of a minute that has not begun at the server has a wrong clock; what it counted is right, and counts when it
was stored."""

BEHIND_MAX_MINUTES = 35 * 1440
"""An edge may have been away for weeks; what is older comes from a broken clock."""

MEMBERS_MAX = 20_000
"""Runs of members that are remembered, those that told last: a month of 600 restarts a day."""

DUPLICATE, UNREADABLE, EARLY, OLD, ABSURD = "duplicate", "unreadable", "early", "old", "absurd"
ODDITIES = (DUPLICATE, UNREADABLE, EARLY, OLD, ABSURD)
"""Reports told twice, reports that are none, minutes in the future, minutes too long ago, values that cannot be."""

_REPLICA_S_MAX = float(MINUTE_S)


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A message of the stream."""

    sequence: int
    stored_at: float
    """Unix seconds at the server."""

    data: bytes


class Position(msgspec.Struct, frozen=True, kw_only=True, tag="demand-position.v1"):
    """How far a compactor has come in one stream: all up to `sequence` is in the history, and nothing beyond."""

    stream: str
    sequence: int = 0
    written_at: float = 0.0
    members: dict[str, tuple[int, int]] = {}
    """For each run of a member the last number that was taken, and its minute: what comes again has a lower one."""


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What some messages come to."""

    position: Position
    """After them."""

    first: int
    tables: dict[date, pa.Table]
    oddities: Counter[str]
    reports: int
    odd_members: dict[str, str]
    """For each kind of oddity one member that it was seen of, for the log."""


def read_batch(messages: Iterable[Stored], position: Position, *, now: float) -> Batch:
    """Return rows and the position after `messages`, which come in the order of the stream and begin after `position`.

    Whatever is wrong with one of them concerns that one alone.
    """
    members = dict(position.members)
    oddities: Counter[str] = Counter()
    odd_members: dict[str, str] = {}
    rows: dict[date, list[dict[str, object]]] = defaultdict(list)
    first, sequence, reports = 0, position.sequence, 0

    def note(kind: str, who: str, count: int = 1) -> None:
        oddities[kind] += count
        odd_members.setdefault(kind, who)

    for message in messages:
        sequence = message.sequence
        first = first or sequence
        try:
            report = decode_report(message.data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            note(UNREADABLE, f"sequence {message.sequence}")
            continue
        if len(report.rows) > ROWS_MAX:
            note(UNREADABLE, report.member)
            continue
        run = f"{report.member}.{report.run}"
        if run in members and report.number <= members[run][0]:
            note(DUPLICATE, run)
            continue
        stored_minute = int(message.stored_at // MINUTE_S)
        members[run] = (report.number, stored_minute)
        reports += 1
        minute = _believed_minute(report, stored_minute)
        if minute != report.minute:
            note(EARLY if minute is not None else OLD, report.member)
        if minute is None:
            continue
        day = datetime.fromtimestamp(minute * MINUTE_S, UTC).date()
        for row in report.rows:
            values, absurd = _believed_values(row)
            if absurd:
                note(ABSURD, report.member)
            rows[day].append({"minute": minute * MINUTE_MS} | values)
    after = Position(stream=position.stream, sequence=sequence, written_at=now, members=_newest(members))
    tables = {day: merge_live([_table(found)]) for day, found in sorted(rows.items())}
    return Batch(
        position=after, first=first, tables=tables, oddities=oddities, reports=reports, odd_members=odd_members
    )


def _believed_minute(report: DemandReport, stored_minute: int) -> int | None:
    """Return the minute that the report's rows count in, None if they cannot count at all."""
    if report.minute > stored_minute + AHEAD_MAX_MINUTES:
        return stored_minute
    return report.minute if report.minute >= stored_minute - BEHIND_MAX_MINUTES else None


def _believed_values(row: DemandRow) -> tuple[dict[str, object], bool]:
    """Return the row's columns, what cannot be left out, and whether something was."""
    replicas = None if row.replica_s is None else min(row.replica_s, _REPLICA_S_MAX) / MINUTE_S
    told: dict[str, float | None] = {
        "requests": row.requests,
        "gpu_s_offered": row.gpu_s_offered,
        "gpu_s_served": row.gpu_s_served,
        "late": row.late,
        "wait_s_sum": row.wait_s_sum,
        "cold_starts": row.cold_starts,
        "boot_s_sum": row.boot_s_sum,
        "replicas": replicas,
    }
    is_absurd = False
    for name, value in told.items():
        if value is not None and not (0 <= value <= VALUE_MAX[name] and math.isfinite(value)):
            told[name] = None
            is_absurd = True
    names = {"region": row.region, "class": row.job_class, "model": row.model, "tier": row.tier}
    return {**names, **told}, is_absurd


def _table(rows: list[dict[str, object]]) -> pa.Table:
    columns = {
        field.name: pa.array([row[field.name] for row in rows], pa.int64()).cast(field.type)
        if field.name == "minute"
        else pa.array([_or_zero(field.name, row[field.name]) for row in rows], field.type)
        for field in SCHEMA
    }
    return pa.table(columns, schema=SCHEMA)


def _or_zero(name: str, value: object) -> object:
    return 0 if value is None and name in ("late", "wait_s_sum", "cold_starts", "boot_s_sum") else value


def _newest(members: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    if len(members) <= MEMBERS_MAX:
        return members
    kept = sorted(members.items(), key=lambda item: item[1][1])[-MEMBERS_MAX:]
    return dict(kept)
