"""Sentences for drawn units: what a designer would type, in many forms, and the palette that it means.

Layout, count and scale are never said: they are arithmetic, and are taken out of a prompt before the model.

Every sentence has one reading. Where a ground is named as one ("on navy", "navy background"), the other colours are
those of the bodies. Where none is, colours in a row go to the bodies in order and one that is left is the ground:
"navy and white stripes" are navy on white, "navy, coral and white stripes" are double ones on white.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from halfdrop.models.house.held_out import KIND_WORDS, is_held_out, kind_of, says_held_out_prompt
from halfdrop.models.house.kinds.drawing import Detail, Traits
from halfdrop.models.house.kinds.fields import PLATES
from halfdrop.models.house.palettes import (
    COLOUR_NAMES,
    Rgb,
    accent_for,
    body_for,
    draw_names,
    ground_for,
    mixed,
    natural_colours,
    rgb,
    shade_of,
)

SCHEMES = {"full": 64, "row": 16, "no ground": 10, "no colour": 6, "ground alone": 4}
"""What is said of the colours, in percent of captions: all; all in a row, the ground last; and so on."""
SEVERAL_COLOURED = frozenset({"terrazzo", "camouflage", "camo", "marble", "plaid", "tartan"})
"""Words of nouns that always have several colours, so that fewer can be named: the rest are shades of the last."""
SHADES_CHANCE = 0.2
PLAIN_DETAIL_CHANCE = 0.15
"""Share of details named without their colour: it then follows from the others'."""
SILENT_CHANCE = 0.3
"""Share of captions that leave out the details that are always drawn ('cherries' have stems)."""
GROUND_DETAIL_CHANCE = 0.08
"""Share of details in the colour of the ground ('navy hearts with white dots inside on white')."""
ON_BODY = frozenset({"dots inside", "inner shape", "veins", "spots"})
"""The details that lie on the body alone, and so are seen in the colour of the ground."""
DETAILS_IN_ROW_CHANCE = 0.4
SMALL_WORDS = frozenset({"with", "a", "and", "in", "{}"})
NEGATION_CHANCE = 0.16
SECOND_NEGATION_CHANCE = 0.2
DENIED_COLOUR_CHANCE = 0.35
FLUFF_CHANCE = 0.3
PLAIN_CHANCE = 0.06
SHARED_CHANCE = 0.25
"""Share of mixes whose colour is said once: 'red stars and dots'."""

KNOWN_KINDS = frozenset(kind for _, kind in KIND_WORDS)
DENIABLE = ("outline", "dots inside", "veins", "leaves", "stems", "centres", "lines", "stars", "knots", "inner shape")
"""Details that a caption may deny where they are not drawn."""
OPTIONAL = {
    "leaves": ("veins",),
    "moons": ("stars",),
    "suns": ("centres",),
    "hexagons": ("dots inside",),
    "trellis": ("knots",),
    "scallops": ("inner shape",),
    "ogee": ("inner shape",),
    "blobs": ("inner shape",),
    "paisley": ("inner shape", "dots inside"),
    "rings": ("dots inside",),
    "daisies": ("leaves",),
    "blossoms": ("leaves", "stems"),
}
"""The details that a kind is drawn with and without, or is expected with: denied more often than the others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Caption:
    """A sentence with the five colours it means; `is_used` masks the colours that can be seen."""

    text: str
    palette: tuple[Rgb, ...]
    is_used: tuple[bool, ...]


@dataclass(kw_only=True, slots=True)
class _Draft:
    """A sentence in the making. `names` holds ground and layers 1 to 4; `rgbs` replaces some of them."""

    clauses: tuple[Traits, ...]
    names: list[str]
    rgbs: dict[int, Rgb]
    ground: str = ""
    """The ground's name where it is said as one."""
    row: tuple[str, ...] = ()
    """Colours said in a row, once for all clauses."""
    bodies: tuple[str, ...] = ()
    """What is said of each clause's bodies."""
    tails: tuple[str, ...] = ()


def caption(traits: Traits, words: random.Random, *, from_held_out: bool = False) -> Caption:
    """Return one sentence for the traits with colours drawn at random, none of them held out from training.

    from_held_out: only from what training never sees, for the gates.
    """
    while True:
        draft = _colour(traits, words)
        text = _write(draft, words)
        if _is_held_out(draft) == from_held_out and not says_held_out_prompt(text):
            return Caption(text=text, palette=_palette(draft), is_used=_used(draft.clauses))


def _colour(traits: Traits, words: random.Random) -> _Draft:
    """Return what is said of the colours, and which they then are."""
    clauses = (traits,) if traits.partner is None else (traits, traits.partner)
    draft = _Draft(clauses=clauses, names=draw_names(words), rgbs={})
    (scheme,) = words.choices(list(SCHEMES), list(SCHEMES.values()))
    several = any(len(each.body) > 1 for each in clauses)
    may_be_short = not several or (len(clauses) == 1 and bool(SEVERAL_COLOURED & set(traits.noun.split())))
    if scheme in ("no ground", "no colour", "ground alone") and not may_be_short:
        scheme = "full"
    if scheme in ("no colour", "ground alone") and traits.is_blended and len(traits.body) > 1:
        scheme = "full"
    if scheme == "ground alone" and several:
        scheme = "full"
    if scheme == "row" and several and len(clauses) > 1:
        scheme = "full"
    if scheme in ("no colour", "ground alone"):
        _take_natural_colours(draft, keeps_ground=scheme == "ground alone")
        draft.bodies = ("",) * len(clauses)
    elif scheme == "row":
        draft.row = tuple(draft.names[layer + 1] for each in clauses for layer in each.body)
        draft.bodies = ("",) * len(clauses)
    else:
        draft.bodies = _said_bodies(draft, words, may_be_short)
    if scheme == "no ground":
        # The body decides the ground; details that were drawn on it stay apart from the body at least.
        draft.names[0] = ground_for(*(draft.names[each.body[0] + 1] for each in clauses))
    if scheme in ("full", "ground alone"):
        draft.ground = draft.names[0]
    has_details = len(clauses) == 1 and bool(traits.details)
    how = "bare" if scheme in ("no colour", "ground alone") else "coloured"
    if scheme == "row" and has_details and words.random() < DETAILS_IN_ROW_CHANCE:
        how = "in row"
    draft.tails = _said_details(draft, words, how)
    if scheme == "row":
        draft.row += (draft.names[0],)
    return draft


def _take_natural_colours(draft: _Draft, *, keeps_ground: bool) -> None:
    first = draft.clauses[0]
    ground, *bodies = natural_colours(first.noun)
    if not keeps_ground:
        draft.names[0] = ground
    for index, each in enumerate(draft.clauses):
        for place, layer in enumerate(each.body):
            if keeps_ground:
                draft.names[layer + 1] = body_for(draft.names[0], each.noun)
            elif index == 0:
                draft.names[layer + 1] = bodies[place]
            else:
                # The second motif stands on the first one's ground, beside it.
                taken = draft.names[first.body[0] + 1]
                draft.names[layer + 1] = accent_for(each.noun, taken, draft.names[0])


def _said_bodies(draft: _Draft, words: random.Random, may_be_short: bool) -> tuple[str, ...]:
    first = draft.clauses[0]
    if len(draft.clauses) == 2 and len(first.body) == 1 and words.random() < SHARED_CHANCE:
        for layer in draft.clauses[1].body:
            draft.names[layer + 1] = draft.names[first.body[0] + 1]
        return _listed(_body_names(draft, first)), ""
    if may_be_short and len(first.body) > 1 and words.random() < SHADES_CHANCE:
        said = words.randint(1, len(first.body) - 1)
        last = rgb(draft.names[first.body[said - 1] + 1])
        for step, layer in enumerate(first.body[said:], start=1):
            draft.rgbs[layer + 1] = shade_of(last, step)
        return (_listed(_body_names(draft, first)[:said]),)
    return tuple(_listed(_body_names(draft, each)) for each in draft.clauses)


def _said_details(draft: _Draft, words: random.Random, how: str) -> tuple[str, ...]:
    """Return what is said of each clause's details, and give those without a said colour theirs.

    how: "coloured", "bare" (no colour is said) or "in row" (their colours go to the end of the row).
    """
    tails = []
    for each in draft.clauses:
        body = draft.names[each.body[0] + 1]
        is_silent = how != "in row" and words.random() < SILENT_CHANCE
        phrases = []
        for detail in each.details:
            slot = detail.layer + 1
            is_left_out = is_silent and not detail.is_optional
            if how == "in row":
                draft.row += (draft.names[slot],)
                phrases.append(_bare(detail, words))
            elif is_left_out or how == "bare" or words.random() < PLAIN_DETAIL_CHANCE:
                draft.names[slot] = accent_for(detail_word(detail), body, draft.names[0])
                phrases += [] if is_left_out else [_bare(detail, words)]
            else:
                if draft.ground and detail_word(detail) in ON_BODY and words.random() < GROUND_DETAIL_CHANCE:
                    draft.names[slot] = draft.ground
                phrases.append(words.choice(_clear_phrases(detail)).format(draft.names[slot]))
        if how != "in row":
            words.shuffle(phrases)
        tails.append(", ".join(phrases))
    return tuple(tails)


def detail_word(detail: Detail) -> str:
    """Return a detail's name: 'outline', 'dots inside', 'inner shape'."""
    named = (
        " ".join(word for word in phrase.split() if word not in SMALL_WORDS and not word.endswith("ed"))
        for phrase in detail.phrases
    )
    return next((name for name in named if name), detail.phrases[0].split()[0])


def _clear_phrases(detail: Detail) -> tuple[str, ...]:
    """Return a detail's phrases without 'and {} stars', which says a second motif."""
    if kind_of(detail_word(detail)) not in KNOWN_KINDS:
        return detail.phrases
    return tuple(phrase for phrase in detail.phrases if not phrase.startswith("and ")) or detail.phrases


def _bare(detail: Detail, words: random.Random) -> str:
    """Return one of a detail's phrases that stand without a colour; 'outlined in {}' is none of them."""
    phrases = [phrase for phrase in _clear_phrases(detail) if not phrase.endswith("{}")] or [detail.phrases[0]]
    text = re.sub(r"\s+(?:in|with)$", "", " ".join(words.choice(phrases).format("").split()))
    return re.sub(r"\ba (?=[aeiou])", "an ", text)


def _body_names(draft: _Draft, each: Traits) -> list[str]:
    return [draft.names[layer + 1] for layer in each.body]


def _listed(names: list[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _write(draft: _Draft, words: random.Random) -> str:
    denied_details, denied_colour = _denials(draft, words)
    if denied_details and words.random() < 0.5:
        # Beside the motif: "dots without outline on white".
        *others, last = draft.tails
        draft.tails = (*others, _join(last, f"without {words.choice(['', 'any '])}{denied_details}"))
        denied_details = ""
    text = _sentence(draft, words)
    if words.random() < FLUFF_CHANCE and not text.startswith("on "):
        text = words.choice(["seamless {}", "seamless pattern of {}", "a pattern of {}", "{} pattern"]).format(text)
    if denied_details:
        text += words.choice([", no {}", ", without {}", " without any {}", ", with no {}"]).format(denied_details)
    if denied_colour:
        text += words.choice([", no {}", ", not {}", ", without {}"]).format(denied_colour)
    return text[:1].upper() + text[1:] if words.random() < FLUFF_CHANCE else text


def _sentence(draft: _Draft, words: random.Random) -> str:
    if draft.row:
        return _in_row(draft, words)
    if len(draft.clauses) == 1 and draft.bodies[0] and words.random() < 0.5:
        return _of_one_motif(draft, words)
    subject = _subject(draft, words)
    if not draft.ground:
        return subject
    forms = (
        "{0} on {1}",
        "{0} on {1}",
        "{0} on a {1} background",
        "{1} background with {0}",
        "{1} ground with {0}",
        "{0}, {1} background",
        "{1} background, {0}",
        "on {1}, {0}",
        "{0} on a plain {1} ground",
    )
    return words.choice(forms).format(subject, draft.ground)


def _of_one_motif(draft: _Draft, words: random.Random) -> str:
    """Return a sentence whose colours stand apart from the noun, which two motifs would leave unclear."""
    (traits,), (colours,), (tail,), ground = draft.clauses, draft.bodies, draft.tails, draft.ground
    thing = _join(*_adjectives(draft, traits, words), traits.noun)
    if not ground:
        return words.choice([_join(thing, "in", colours, tail), _join(colours, thing, tail)])
    comma = f", {tail}" if tail else ""
    forms = [
        f"{thing}, {colours} on {ground}{comma}",
        _join(thing, "in", colours, tail, "on", ground),
        _join(thing, "in", colours, "on", ground) + comma,
        _join(colours, thing, "on", ground, tail),
        _join(thing, tail, "in", colours, "on", f"a {ground} background"),
        f"{ground} background, {thing} in {colours}{comma}",
    ]
    if " and " not in colours:
        forms.append(_join(colours, "on", ground, thing, tail))
    return words.choice(forms)


def _in_row(draft: _Draft, words: random.Random) -> str:
    row = _listed(list(draft.row))
    subject = _subject(draft, words)
    forms = ["{0} {1}", "{1} in {0}", "{1}, {0}", "{1} in {0} colours", "{1}, {0} colours"]
    return words.choice(forms).format(row, subject)


def _subject(draft: _Draft, words: random.Random) -> str:
    said = []
    for traits, colours, tail in zip(draft.clauses, draft.bodies, draft.tails, strict=True):
        adjectives = _join(*_adjectives(draft, traits, words))
        first, second = (adjectives, colours) if words.random() < 0.5 else (colours, adjectives)
        said.append(_join(first, second, traits.noun, tail))
    return " and ".join(said)


def _adjectives(draft: _Draft, traits: Traits, words: random.Random) -> tuple[str, ...]:
    is_plain = not traits.details and not traits.adjectives and len(draft.clauses) == 1
    return ("plain",) if is_plain and words.random() < PLAIN_CHANCE else traits.adjectives


def _denials(draft: _Draft, words: random.Random) -> tuple[str, str]:
    """Return a detail (or two) that is not drawn and a colour that is not used, to be denied; '' for none."""
    if words.random() >= NEGATION_CHANCE or (draft.clauses[0].details and len(draft.clauses) > 1):
        return "", ""
    if words.random() < DENIED_COLOUR_CHANCE:
        used = {draft.names[slot] for slot, is_used in enumerate(_used(draft.clauses)) if is_used}
        return "", words.choice([name for name in COLOUR_NAMES if name not in used])
    present = " ".join(
        text for each in draft.clauses for text in (each.noun, *each.adjectives, *(_names(each.details)))
    )
    likely = [word for each in draft.clauses for word in OPTIONAL.get(kind_of(each.noun), ())]
    absent = [word for word in (*likely * 3, *DENIABLE) if word.split()[0][:4] not in present]
    first = words.choice(absent)
    second = words.choice(absent)
    if second != first and words.random() < SECOND_NEGATION_CHANCE:
        return f"{first} or {second}", ""
    return first, ""


def _names(details: tuple[Detail, ...]) -> tuple[str, ...]:
    return tuple(phrase for detail in details for phrase in detail.phrases)


def _is_held_out(draft: _Draft) -> bool:
    return any(
        is_held_out(
            kind_of(each.noun),
            draft.names[each.body[0] + 1],
            draft.names[0],
            [(detail_word(detail), draft.names[detail.layer + 1]) for detail in each.details],
        )
        for each in draft.clauses
    )


def _palette(draft: _Draft) -> tuple[Rgb, ...]:
    colours = [draft.rgbs.get(slot, rgb(name)) for slot, name in enumerate(draft.names)]
    if draft.clauses[0].is_blended:
        # Layers 0 and 1 are the single passes of the cloth; the colour named is that of their crossing.
        colours[1] = colours[2] = mixed(colours[0], colours[3])
    return tuple(colours)


def _used(clauses: tuple[Traits, ...]) -> tuple[bool, ...]:
    layers = {layer for each in clauses for layer in each.body}
    layers |= {detail.layer for each in clauses for detail in each.details}
    if clauses[0].is_blended:
        layers |= {0, 1}
    return (True, *(layer in layers for layer in range(PLATES)))


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)
