"""Words that mean arithmetic, taken out of a prompt: how the unit is laid, and how large it is.

The model draws one unit and never learns a layout or a scale, so "small red stars, half-drop" must reach it as
"red stars". What is left here on purpose: thickness ("thin stripes"), colours that sound like layouts ("brick red"),
and things that are drawn ("a brick wall", "mirrors").
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.patterns import normalise_prompt
from halfdrop.contracts.repeats import Axis, Repeat

DEFAULT_UNITS = 4
"""Four motifs across: on a phone's preview each still shows its details, and the repeat can be judged."""

UNITS_BY_SCALE = {
    **dict.fromkeys(("giant", "gigantic", "enormous", "oversized", "oversize"), 1),
    **dict.fromkeys(("huge", "large", "big"), 2),
    **dict.fromkeys(("medium", "mid", "midsize"), DEFAULT_UNITS),
    **dict.fromkeys(("small", "little"), 6),
    **dict.fromkeys(("tiny", "mini", "miniature", "ditsy", "ditzy", "teeny"), 8),
    **dict.fromkeys(("micro", "minuscule"), 12),
}
"""Units across the tile for each word of scale. A ditsy is the trade's name for a small scattered floral."""

INTENSIFIED_UNITS = {2: 1, 6: 8, 8: 12}
""""Very large" is giant, "extra small" is tiny, "super tiny" is micro; the rest cannot be intensified."""

_NUMERATORS = {"one": 1, "two": 2, "three": 3}
_DENOMINATORS = {
    "half": 2,
    "third": 3,
    "thirds": 3,
    "quarter": 4,
    "quarters": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "eighth": 8,
}

_KIND = r"(?:repeats?|repeating|layouts?|lattice|arrangement|tiling|offset|set|structure|style)"
_SIDE = r"(?:columns?|rows?|vertical(?:ly)?|horizontal(?:ly)?|sideways)"
_FRACTION = (
    r"(?:(?P<over>\d{1,2})\s*[/⁄]\s*(?P<under>\d{1,2})"
    rf"|(?:(?P<count>{'|'.join(_NUMERATORS)})[\s-])?(?P<part>{'|'.join(_DENOMINATORS)}))"
)
_END = r"(?=\s*(?:$|[,;.:()]))"

_LAYOUT = re.compile(
    rf"""(?<![\w-])
    (?P<lead>(?:(?:laid|arranged|set|printed|repeated|repeating)\s+(?:out\s+)?)?
             (?:in|with|as|on|by|using)\s+(?:(?:an?|the)\s+)?|an?\s+)?
    (?P<layout>
        {_FRACTION}[\s-]*(?:drop(?:ped|s)?|(?P<offset>brick)(?:[\s-]+{_KIND}|{_END}))
      | (?P<brick>brick)(?:[\s-]+(?:{_KIND}|lay|bond)\b|{_END})
      | (?P<mirror>mirrored|(?:mirror|turnover|reflected)(?:[\s-]+(?:{_KIND}|image|symmetry|tile)\b|{_END}))
      | (?P<straight>(?:full|straight)[\s-]+drop|(?:(?:straight|grid|block|square)[\s-]+)+{_KIND}\b|straight{_END})
    )
    (?:[\s-]+{_KIND})?
    (?:\s+(?:by|of|in|along)\s+(?:the\s+)?(?P<side>{_SIDE}))?
    (?![\w-])
    (?P<of>\s+of\b)?""",
    re.VERBOSE,
)

_SCALE = re.compile(
    rf"""(?<![\w-])
    (?:(?:in|at|on)\s+(?=(?:an?\s+)?[\w\s-]{{0,20}}\bscale\b))?
    (?:an?\s+)?
    (?P<intense>(?:very|extra|super|really|ultra)[\s-]+)?
    (?P<word>{"|".join(sorted(UNITS_BY_SCALE, key=len, reverse=True))})
    (?:[\s-]+(?:scaled?|sized?)\b)?
    (?![\w-])""",
    re.VERBOSE,
)

_BARE_BRICK_AFTER = re.compile(r"\b(?:on|of|like|and|over|exposed|red|old)\s*$")
_DETAIL = re.compile(r"\bwith\b(?!.*\bwith\b)")
_GROUND = re.compile(r"\b(?:back)?ground\s*$")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadPrompt:
    """A prompt taken apart."""

    prompt: str
    """What is left to draw, in normal form; may be empty."""
    repeat: Repeat
    """The lattice that the words name, in normal form; straight and DEFAULT_UNITS where they are silent."""
    names_layout: bool
    names_scale: bool


def read_phrases(prompt: str) -> ReadPrompt:
    """Return `prompt` without its words of layout and scale, and the lattice that they name.

    The first layout named counts, and the first scale that is not said of a detail ("daisies with small centres").
    An explicit repeat in the request wins over the lattice; the words are taken out all the same. Raises InvalidInput
    for a prompt that is too long or has control characters, and for a drop that no mill lays ("1/9 drop").
    """
    text = normalise_prompt("prompt", prompt)
    text, layout = _take_layout(text)
    text, units = _take_scale(text)
    named = layout or Repeat()
    repeat = Repeat(layout=named.layout, drop=named.drop, axis=named.axis, units=units or _default_units(named))
    return ReadPrompt(
        prompt=_tidy(text),
        repeat=repeat.normalise(),
        names_layout=layout is not None,
        names_scale=units is not None,
    )


def _default_units(lattice: Repeat) -> int:
    """Return DEFAULT_UNITS or the nearest number below at which the shifts close: a third drop has 3, not 6."""
    closed = lattice.shift.denominator
    return max(DEFAULT_UNITS // closed, 1) * closed


def _take_layout(text: str) -> tuple[str, Repeat | None]:
    first: Repeat | None = None
    kept, position = [], 0
    for match in _LAYOUT.finditer(text):
        if match["brick"] and match["layout"] == "brick" and _BARE_BRICK_AFTER.search(text[: match.start("layout")]):
            continue
        first = first or _name_lattice(match)
        start, end = _cut(text, match)
        kept.append(text[position:start])
        position = end
    return " ".join([*kept, text[position:]]), first


def _cut(text: str, match: re.Match[str]) -> tuple[int, int]:
    """Return what to take out: "in a … layout" whole, but of "on half-drop white" and "with a … of" only a part."""
    if match["of"] and (match["lead"] or "").startswith("with "):
        return match.start() + len("with "), match.end()
    is_closed = match["of"] is not None or re.match(r"\s*(?:$|[,;.:()]|and\b|on\b|with\b)", text[match.end() :])
    return (match.start() if is_closed else match.start("layout")), match.end()


def _name_lattice(match: re.Match[str]) -> Repeat:
    if match["brick"]:
        return Repeat(layout="brick")
    if match["mirror"]:
        return Repeat(layout="mirror")
    if match["straight"]:
        return Repeat()
    is_row = match["offset"] is not None or (match["side"] or "").startswith(("row", "horizontal", "sideways"))
    axis: Axis = "rows" if is_row else "columns"
    drop = _read_fraction(match)
    try:
        return Repeat(layout="drop", drop=drop, axis=axis, units=DEFAULT_UNITS).normalise()
    except InvalidInput as error:
        raise InvalidInput("prompt", got=match["layout"], allowed=error.allowed) from error


def _read_fraction(match: re.Match[str]) -> str:
    """Return the fraction of the drop as "1/3"."""
    if match["under"]:
        return f"{match['over']}/{match['under']}"
    return str(Fraction(_NUMERATORS.get(match["count"] or "one", 1), _DENOMINATORS[match["part"]]))


def _take_scale(text: str) -> tuple[str, int | None]:
    units: int | None = None
    for match in _SCALE.finditer(text):
        if units is None and not _is_of_detail(text[: match.start()]):
            units = UNITS_BY_SCALE[match["word"]]
            if match["intense"]:
                units = INTENSIFIED_UNITS.get(units, units)
    return _SCALE.sub(" ", text), units


def _is_of_detail(before: str) -> bool:
    """True after "daisies with …" up to the next comma, but not after "white background with …"."""
    clause = re.split(r"[,;.]", before)[-1]
    met = _DETAIL.search(clause)
    return met is not None and not _GROUND.search(clause[: met.start()])


def _tidy(text: str) -> str:
    """Close the gaps that the words left: doubled spaces and commas, and joining words with nothing to join."""
    text = re.sub(r"\(\s*\)", " ", text)
    text = re.sub(r"\s+([,;.])", r"\1", " ".join(text.split()))
    text = re.sub(r"(?:[,;]\s*){2,}", ", ", text)
    text = re.sub(r"\b(?:and|with|in|on|an?|the)\s*(?=[,;]|$)", "", text)
    text = re.sub(r"^(?:[\s,;.]|(?:and|of|in|with)\b)+", "", text)
    return " ".join(text.split()).strip(" ,;.")
