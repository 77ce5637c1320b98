"""The goals, as data, and the verdict on figures. A goal that is missed is stated; only a broken bundle is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from halfdrop.contracts.errors import PermanentError

Figures = dict[str, Any]
"""What a manifest and a benchmark print: names to numbers, words, or names to numbers again."""

BROKEN_BELOW = 0.5
"""Kind accuracy under which weights are not early or weak but broken: a wrong file, a wrong export."""
BLANK_ABOVE = 0.2
"""Share of prompts that may come out as a plain ground before a bundle counts as broken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """A figure's name (a dot leads into a figure of several), and what it should be."""

    key: str
    comparison: Literal[">=", "<="]
    goal: float

    def is_met(self, value: float) -> bool:
        """Return whether a figure reaches the goal."""
        return value >= self.goal if self.comparison == ">=" else value <= self.goal


GOALS: tuple[Goal, ...] = (
    Goal(key="kind_accuracy", comparison=">=", goal=0.95),
    Goal(key="kind_accuracy_worst", comparison=">=", goal=0.80),
    Goal(key="attribute_accuracy", comparison=">=", goal=0.97),
    Goal(key="contour_error", comparison="<=", goal=4.0),
    Goal(key="broken_lines", comparison="<=", goal=0.02),
    Goal(key="seam_ratio_p95", comparison="<=", goal=1.05),
    Goal(key="int8_psnr_db", comparison=">=", goal=40.0),
    Goal(key="preview_master_ssim_p50", comparison=">=", goal=0.95),
    Goal(key="preview_unrefined_ssim_p50", comparison=">=", goal=0.99),
    Goal(key="preview_cpu_ms_p50", comparison="<=", goal=10.0),
    Goal(key="preview_speedup_vs_eager", comparison=">=", goal=10.0),
    Goal(key="master_4096_s", comparison="<=", goal=0.3),
    Goal(key="weights_mb.edge", comparison="<=", goal=20.0),
    Goal(key="weights_mb.all", comparison="<=", goal=60.0),
)


def judge_figures(figures: Mapping[str, Any]) -> Figures:
    """Return the verdict: "passed" (each goal's figure), "missed" (in words), "not_measured"."""
    passed: dict[str, float] = {}
    missed, not_measured = [], []
    for goal in GOALS:
        value = _read(figures, goal.key)
        if value is None:
            not_measured.append(goal.key)
        elif goal.is_met(value):
            passed[goal.key] = value
        else:
            missed.append(f"{goal.key} is {value:g}, goal {goal.comparison} {goal.goal:g}")
    return {"passed": passed, "missed": missed, "not_measured": not_measured}


def refuse_broken(figures: Mapping[str, Any]) -> None:
    """Raise PermanentError(bad-bundle) when the figures are not those of a weak model but of a broken bundle."""
    accuracy, blank = figures["kind_accuracy"], figures["blank_share"]
    if accuracy < BROKEN_BELOW or blank > BLANK_ABOVE:
        raise PermanentError(
            f"the bundle is broken: it draws the kind asked for in {accuracy:.0%} of prompts (allowed: from "
            f"{BROKEN_BELOW:.0%}) and nothing at all in {blank:.0%} (allowed: up to {BLANK_ABOVE:.0%}); "
            "export it again, or train it for longer",
            code="bad-bundle",
        )


def _read(figures: Mapping[str, Any], key: str) -> float | None:
    value: Any = figures
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return None if value is None else float(value)
