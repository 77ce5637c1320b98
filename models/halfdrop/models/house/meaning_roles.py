"""What a prompt means, as a value, and how the colours said in a row get their roles (ADR 8)."""

from __future__ import annotations

from dataclasses import dataclass, field

from halfdrop.models.house.meaning_words import BODIES, MAY_NAME_FEWER

MOTIFS_MAX = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Motif:
    """A motif and what is said of it."""

    kind: str
    ways: tuple[str, ...] = ()
    """How it is drawn ('tilted'), sorted."""
    bodies: tuple[str, ...] = ()
    """Colours of its bodies, in order: names of ours, or '#rrggbb'. Empty for a second motif in those of the first."""
    details: tuple[tuple[str, str], ...] = ()
    """Details, each with its colour or '' where that is not said; sorted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Meaning:
    """All that a prompt says of the unit to draw."""

    motifs: tuple[Motif, ...]
    """One, or two in the order said: the first is the larger."""
    ground: str = ""
    """The ground's colour, '' where it is not said."""
    denied: tuple[str, ...] = ()
    """Details and colours that are denied, sorted."""

    @property
    def canonical(self) -> str:
        """The one text of this meaning, for hashing."""
        return repr((self.ground, self.denied, [(m.kind, m.ways, m.bodies, m.details) for m in self.motifs]))


class Unclear(Exception):
    """A word has no place, or two."""


@dataclass(slots=True)
class Clause:
    """A motif as far as it was read."""

    kind: str
    ways: set[str]
    bodies: list[str]
    details: dict[str, str] = field(default_factory=dict)


def settle(clauses: list[Clause], *, trailing: list[str], ground: str, denied: set[str]) -> Meaning:
    """Return the meaning, the colours in a row given their roles.

    trailing: colours said after the motifs, for all of them. Raises Unclear where a colour has no role, or a role two.
    """
    first, *others = clauses
    if trailing:
        if any(clause.bodies for clause in clauses):
            raise Unclear
        first.bodies = trailing
    if not first.bodies:
        # The colours then follow from the noun as it is written: a checkerboard is black, checks are navy.
        raise Unclear
    if not ground:
        ground = _share_row(first, others, is_trailing=bool(trailing))
    elif trailing and others:
        raise Unclear
    if not all(_has_room(clause.kind, len(clause.bodies)) for clause in clauses):
        raise Unclear
    said = {name for clause in clauses for name in _said(clause)} | {ground}
    if said & denied:
        raise Unclear
    motifs = tuple(
        Motif(
            kind=clause.kind,
            ways=tuple(sorted(clause.ways)),
            bodies=tuple(clause.bodies),
            details=tuple(sorted(clause.details.items())),
        )
        for clause in clauses
    )
    return Meaning(motifs=motifs, ground=ground, denied=tuple(sorted(denied)))


def _share_row(first: Clause, others: list[Clause], *, is_trailing: bool) -> str:
    """Share colours in a row: the bodies', then bare details', and the last is the ground's. Return that, or ''."""
    row = first.bodies
    rest = len(row) - 1
    if others:
        (second,) = others
        if rest == 0 and not is_trailing:
            return ""
        if rest != MOTIFS_MAX or second.bodies:
            raise Unclear
        first.bodies, second.bodies = row[:1], row[1:2]
        return row[rest]
    bare = [name for name, colour in first.details.items() if not colour]
    if bare and rest == 1 + len(bare) and len(bare) == len(first.details) and first.kind not in BODIES:
        first.details.update(zip(bare, row[1:rest], strict=True))
        first.bodies = row[:1]
        return row[rest]
    if rest in BODIES.get(first.kind, (1,)):
        first.bodies = row[:rest]
        return row[rest]
    return ""


def _said(clause: Clause) -> set[str]:
    return {*clause.bodies, *clause.details, *clause.details.values()} - {""}


def _has_room(kind: str, colours: int) -> bool:
    counts = BODIES.get(kind, (1,))
    return colours == 0 or colours in counts or (kind in MAY_NAME_FEWER and colours < max(counts))
