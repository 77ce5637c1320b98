"""The strict parser of prompts, held against the grammar itself: what a caption means is known from its palette."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import combinations

import pytest

from halfdrop.models.house import captions
from halfdrop.models.house.captions import Caption, detail_word
from halfdrop.models.house.data import seeded_units
from halfdrop.models.house.held_out import is_held_out, kind_of
from halfdrop.models.house.held_out_prompts import HELD_OUT_PROMPTS
from halfdrop.models.house.kinds.catalogue import KIND_NAMES
from halfdrop.models.house.kinds.drawing import Traits, seeded_words
from halfdrop.models.house.meaning import read_meaning
from halfdrop.models.house.meaning_roles import Meaning
from halfdrop.models.house.palettes import COLOUR_NAMES, draw_names, rgb
from halfdrop.models.phrases import read_phrases

PER_KIND = 24
SAYINGS = 4
PAIRS = 20_000
"""Pairs of captions that are compared; every one must be found equal or different rightly."""
SHARE_MIN = 0.8

DETAIL_NAMES = {
    "outline": "outline",
    "dot": "dots inside",
    "inner shape": "inner shape",
    "centre": "centres",
    "vein": "veins",
    "leaves": "leaves",
    "stem": "stems",
    "star": "stars",
    "eye": "eyes",
    "spot": "spots",
    "line": "lines",
    "knot": "knots",
    "ring": "rings",
}
"""A part of a detail's phrases, and its name; the first that fits counts."""

Said = tuple[Traits, Caption]


@pytest.fixture(scope="module")
def sayings() -> list[Said]:
    """Units of all kinds and mixes, each said again in other words. Few palettes, so that meanings meet."""
    traits = seeded_units(PER_KIND, 11, mixes=4, grid=8).traits
    words = seeded_words(12)
    few = [draw_names(words) for _ in range(3)]

    def draw_few(dice: random.Random) -> list[str]:
        return list(dice.choice(few))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(captions, "draw_names", draw_few)
        # What is held out in all three palettes would be drawn again for ever.
        return [
            (each, captions.caption(each, words)) for each in traits for _ in range(SAYINGS) if _can_be_said(each, few)
        ]


def _can_be_said(traits: Traits, few: list[list[str]]) -> bool:
    clauses = (traits, traits.partner) if traits.partner else (traits,)
    return any(
        not any(
            is_held_out(
                kind_of(each.noun),
                names[each.body[0] + 1],
                names[0],
                [(detail_word(detail), names[detail.layer + 1]) for detail in each.details],
            )
            for each in clauses
        )
        for names in few
    )


def read(text: str) -> Meaning | None:
    return read_meaning(text.lower())


def roles_of(traits: Traits, meaning: Meaning) -> Iterator[tuple[str, int]]:
    """Yield the colours a meaning names, and the slot of the palette that each must have."""
    if meaning.ground:
        yield meaning.ground, 0
    clauses = (traits, traits.partner) if traits.partner else (traits,)
    assert len(clauses) == len(meaning.motifs)
    for each, motif in zip(clauses, meaning.motifs, strict=True):
        for colour, layer in zip(motif.bodies, each.body, strict=False):
            yield colour, layer + 1
        slots = {name: detail.layer + 1 for detail in each.details for name in names_of(detail.phrases)}
        for name, colour in motif.details:
            assert name in slots, (name, slots)
            if colour:
                yield colour, slots[name]


def names_of(phrases: tuple[str, ...]) -> set[str]:
    """Return the parser's name of a detail with these phrases."""
    text = " ".join(phrases)
    return {next(name for word, name in DETAIL_NAMES.items() if word in text)}


def signature(traits: Traits, caption: Caption) -> object:
    """What a unit looks like: its motifs with all they were drawn with, and every colour that can be seen."""
    clauses = (traits, traits.partner) if traits.partner else (traits,)
    drawn = [
        (
            kind_of(each.noun),
            tuple(sorted(way for way in each.adjectives if way)),
            each.body,
            tuple(frozenset(names_of(detail.phrases)) for detail in each.details),
        )
        for each in clauses
    ]
    return tuple(drawn), tuple(c for c, used in zip(caption.palette, caption.is_used, strict=True) if used)


def test_nearly_every_caption_of_the_grammar_has_a_meaning(sayings: list[Said]) -> None:
    read_ones = [read(caption.text) is not None for _, caption in sayings]
    assert sum(read_ones) / len(read_ones) > SHARE_MIN
    by_kind: dict[str, list[bool]] = defaultdict(list)
    for (traits, _), is_read in zip(sayings, read_ones, strict=True):
        by_kind[kind_of(traits.noun)].append(is_read)
    assert set(by_kind) >= set(KIND_NAMES)
    assert all(sum(found) / len(found) > 0.6 for found in by_kind.values()), by_kind


def test_a_meaning_has_the_motifs_and_the_colours_that_the_caption_was_drawn_in(sayings: list[Said]) -> None:
    checked = Counter[str]()
    for traits, caption in sayings:
        meaning = read(caption.text)
        if meaning is None:
            continue
        clauses = (traits, traits.partner) if traits.partner else (traits,)
        assert [motif.kind for motif in meaning.motifs] == [kind_of(each.noun) for each in clauses], caption.text
        for motif, each in zip(meaning.motifs, clauses, strict=True):
            ways = {way.replace("-", " ") for way in each.adjectives if way}
            assert set(motif.ways) - {"plain"} == ways, caption.text
        for colour, slot in roles_of(traits, meaning):
            assert rgb(colour) == caption.palette[slot], (caption.text, colour, slot)
            checked[colour] += 1
    assert sum(checked.values()) > 2 * len(sayings)


def test_of_twenty_thousand_pairs_no_equal_meanings_differ(sayings: list[Said]) -> None:
    by_kind: dict[str, list[Said]] = defaultdict(list)
    for each in sayings:
        by_kind[kind_of(each[0].noun)].append(each)
    close = [pair for group in by_kind.values() for pair in combinations(group, 2)]
    dice = seeded_words(13)
    pairs = dice.sample(close, PAIRS)
    meanings = {caption.text: read(caption.text) for _, caption in sayings}
    equal = 0
    wrong: list[tuple[str, str]] = []
    for (one, first), (other, second) in pairs:
        if meanings[first.text] is None or meanings[first.text] != meanings[second.text]:
            continue
        equal += 1
        if signature(one, first) != signature(other, second):
            wrong.append((first.text, second.text))
    assert wrong == []
    assert equal > 100  # the pairs do meet; otherwise this says nothing


def test_the_same_said_otherwise_is_the_same_meaning() -> None:
    same = (
        ("red dots on white", "white background with red dots"),
        ("red dots on white", "on white, scarlet polka dots"),
        ("red dots on white", "seamless pattern of spots in red on a white background"),
        ("red dots on white", "red and white dots"),
        ("red dots on white", "dots, red on a plain white ground"),
        ("red dots on white", "white background, dots in red"),
        ("navy stars outlined in gold on cream", "cream ground with navy stars with a gold outline"),
        ("white daisies with no leaves on navy", "leafless white daisies on navy"),
        ("pink, teal and mustard terrazzo on white", "white background, terrazzo chips in pink, teal and mustard"),
        ("#f80 dots on navy", "navy ground with #ff8800 dots"),
        ("red stars and blue dots on white", "on white, red stars and blue dots"),
        ("white dots, no outline or dots inside", "white dots without dots inside, without outline"),
        ("red stars and dots on white", "white background with scarlet stars and spots"),
        ("gold crescent moons on navy", "gold moons on navy"),
        ("navy, coral and cream stripes", "navy and coral stripes on cream"),
    )
    for first, second in same:
        assert read(first) is not None, first
        assert read(first) == read(second), (first, second)


@pytest.mark.parametrize(
    "prompt",
    [
        "red dots with cats on white",
        "three red dots on white",
        "a single red dot on white",
        "light coral dots on white",
        "coral lights dots on white",
        "red or blue dots on white",
        "red dots on white, blue",
        "red and white dots on navy",
        "blue stars with outline in red",
        "no red dots on white",
        "dots no outline and veins",
        "red dots (on white)",
        "red/white dots",
        "red dots on white on navy",
        "red stars, blue dots and green leaves on white",
        "white daisies with yellow centres and green leaves",
        "stars and red dots on white",
        "red dots, no red",
        "50% red dots on white",
        "dots between stars",
        "white, red dots",
        "daisies on navy",
        "",
    ],
)
def test_what_cannot_be_placed_wholly_has_no_meaning(prompt: str) -> None:
    assert read(prompt) is None


def test_most_prompts_of_designers_have_the_meaning_that_was_put_down_for_them() -> None:
    shown = 0
    for each in HELD_OUT_PROMPTS:
        meaning = read(read_phrases(each.text).prompt)
        if meaning is None:
            continue
        shown += 1
        (motif,) = meaning.motifs
        assert motif.kind == each.kind, each.text
        assert meaning.ground in ("", each.ground), each.text
        bodies = [colour for role, colour in each.colours.items() if role.startswith("body")]
        assert list(motif.bodies) in ([], bodies), each.text
        for name, colour in motif.details:
            assert colour in ("", each.colours.get(name, colour)), each.text
    assert shown / len(HELD_OUT_PROMPTS) > SHARE_MIN


def test_every_colour_of_ours_has_a_token() -> None:
    for name in COLOUR_NAMES:
        meaning = read(f"{name} dots on {'black' if name != 'black' else 'white'}")
        assert meaning is not None, name
        assert meaning.motifs[0].bodies == (name,)
