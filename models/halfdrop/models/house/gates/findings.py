"""What is found of a bundle: every prompt drawn once, named by the judge, and held against what it asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from halfdrop.models.house.classifier import Classifier, name_kinds
from halfdrop.models.house.gates.asking import SEED, Asked, ask, ask_list
from halfdrop.models.house.gates.attributes import Answer, TrueUnit, measure_attributes
from halfdrop.models.house.gates.drawing import Drawn, Refine, draw_asked
from halfdrop.models.house.gates.exact import Likeness
from halfdrop.models.house.gates.likenesses import Library

OnProgress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """All that was found of one prompt."""

    asked: Asked
    drawn: Drawn
    kind: str
    """What the judge took it for."""
    answers: list[Answer]
    true: Likeness | None
    """None for free forms, which no exact unit is like."""

    @property
    def is_right(self) -> bool:
        """Whether the kind and all attributes are as asked."""
        return self.kind == self.asked.kind and all(answer.is_right for answer in self.answers)


def read_bundle(
    bundle: Path,
    judge: Classifier,
    *,
    per_kind: int,
    seed: int = SEED,
    refine: Refine | None = None,
    with_list: bool = True,
    on_progress: OnProgress = lambda line: None,
) -> list[Finding]:
    """Draw every prompt once and return what was found of each."""
    on_progress("asking")
    asked = ask(per_kind, seed) + (ask_list() if with_list else [])

    def on_drawn(count: int) -> None:
        if count % 50 == 0 or count == len(asked):
            on_progress(f"drawn {count} of {len(asked)}")

    drawn = draw_asked(bundle, asked, refine, on_drawn)
    kinds = name_kinds(judge, torch.from_numpy(np.stack([each.fields for each in drawn])))
    library, findings = Library(seed), []
    for number, (wanted, unit, kind) in enumerate(zip(asked, drawn, kinds, strict=True)):
        likeness = library.find(wanted, torch.from_numpy(unit.fields))
        true = TrueUnit(plates=likeness.plates, traits=likeness.traits) if likeness else library.unit_like(wanted)
        answers = measure_attributes(unit.fields, unit.palette, wanted, true)
        findings.append(Finding(asked=wanted, drawn=unit, kind=kind, answers=answers, true=likeness))
        if number % 100 == 99:
            on_progress(f"held against true motifs: {number + 1} of {len(asked)}")
    return findings
