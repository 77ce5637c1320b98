"""What the gates found: a number, its limit and a verdict for each, for every seed that was tried."""

from typing import Literal

import msgspec

from halfdrop.contracts.templates import AtLeast, AtMost, GateName

REPORT_NAME, GATE_PREFIX = "gates.json", "gate-"
"""What the report is called beside the job's files, and how the pictures of what did not pass begin."""

Verdict = Literal["pass", "warn", "retry", "fail"]
"""Passed; failed, and the files are made all the same; failed, and another seed is tried; failed for good."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one gate found of one thing."""

    gate: GateName
    stage: str
    """What was looked at: "pattern", or a file's name."""

    number: float
    """As measured, rounded; what it counts stands in docs/templates.md."""

    limit: float
    is_least: bool = False
    """True if the number must reach the limit, else it must not exceed it."""

    verdict: Verdict
    says: str
    """In words, with units."""

    picture: str = ""
    """Name of the file that shows it; only of what did not pass."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One seed, and what was found of it."""

    seed: int
    pattern_key: str
    findings: tuple[Finding, ...]


class GateReport(msgspec.Struct, frozen=True, kw_only=True, tag="gates.v1"):
    """All that was found of an order; the last attempt is the one that counts."""

    template: str
    template_digest: str
    verdict: Verdict
    attempts: tuple[Attempt, ...]


def passes(number: float, rule: AtMost | AtLeast) -> bool:
    """True if `number` keeps to the rule; what is no number never does."""
    return number >= rule.min if isinstance(rule, AtLeast) else number <= rule.max


def judge(number: float, rule: AtMost | AtLeast, *, retried: int) -> Verdict:
    """Return the verdict on `number` after `retried` other seeds were tried."""
    if passes(number, rule):
        return "pass"
    if retried < rule.retry_with_new_seed:
        return "retry"
    return rule.on_failure


def worst(findings: tuple[Finding, ...]) -> Verdict:
    """Return what a pattern's findings come to. What no other seed can mend outweighs a retry."""
    grave_first: tuple[Verdict, ...] = ("fail", "retry", "warn")
    for verdict in grave_first:
        if any(finding.verdict == verdict for finding in findings):
            return verdict
    return "pass"


def encode_report(report: GateReport) -> bytes:
    """Return the report as JSON that people can read."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2)


def decode_report(data: bytes) -> GateReport:
    """Return the report in `data`. Raises msgspec.MsgspecError if it is none."""
    return msgspec.json.decode(data, type=GateReport)
