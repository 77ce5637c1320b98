"""The words that `meaning` can place, as folded by the tokenizer: motifs, ways of drawing, details, silent words.

Every motif of the grammar stands here under its kind; a test holds the list against what the kinds say of themselves.
What is missing has no meaning, so that a prompt with it is never taken for another.
"""

from __future__ import annotations

from halfdrop.models.house.palettes import COLOUR_NAMES
from halfdrop.models.house.tokenizer import fold

_MOTIFS = {
    "dots": "dot, polka dot, spot",
    "rings": "ring, circle",
    "stars": "star",
    "hearts": "heart",
    "pluses": "plus, plus cross, plus sign, plus shape",
    "crosses": "x cross, x shape",
    "diamonds": "diamond",
    "squares": "square",
    "daisies": "daisy, daisy flower",
    "blossoms": "blossom, flower, 5 petal flower",
    "leaves": "leaf",
    "paisley": "paisley, paisley drop",
    "sprigs": "sprig, flower sprig",
    "tulips": "tulip",
    "cherries": "cherry, cherry pair",
    "moons": "moon",
    "suns": "sun",
    "clouds": "cloud",
    "raindrops": "raindrop, drop",
    "fish": "fish",
    "mushrooms": "mushroom",
    "snowflakes": "snowflake",
    "stripes": "stripe",
    "pinstripes": "pinstripe",
    "checkerboard": "checkerboard, checkerboard square, check",
    "harlequin": "harlequin, harlequin diamond",
    "gingham": "gingham, gingham check",
    "plaid": "plaid",
    "windowpane": "windowpane, windowpane check, grid line",
    "houndstooth": "houndstooth, houndstooth check",
    "basketweave": "basketweave",
    "herringbone": "herringbone, herringbone weave",
    "argyle": "argyle, argyle diamond",
    "chevron": "chevron, chevron zigzag, zigzag",
    "waves": "wave, wavy line, wavy stripe",
    "hexagons": "hexagon, honeycomb, honeycomb hexagon",
    "scallops": "scallop, fish scale, scale scallop",
    "ogee": "ogee, ogee medallion",
    "triangles": "triangle, geometric triangle",
    "trellis": "trellis, diamond trellis, lattice",
    "terrazzo": "terrazzo, terrazzo chip",
    "camouflage": "camouflage",
    "blobs": "blob, organic blob, abstract blob",
    "marble": "marble, marble vein",
    "zebra": "zebra, zebra stripe",
    "leopard": "leopard, leopard spot",
}

_DETAILS = {
    "dots inside": "dot inside, inner dot",
    "inner shape": "inner shape",
    "outline": "outline",
    "centres": "centre",
    "veins": "vein",
    "leaves": "leaf",
    "stems": "stem",
    "stems and leaves": "stem and leaf",
    "stars": "star",
    "eyes": "eye",
    "spots": "spot",
    "lines": "line",
    "knots": "knot, node",
    "rings": "ring",
}

_WAYS = (
    "tilted",
    "upside down",
    "sparse",
    "hollow",
    "plain",
    "thin",
    "wide",
    "vertical",
    "horizontal",
    "diagonal",
    "5 pointed",
    "6 pointed",
    "8 pointed",
)

Phrase = tuple[str, ...]


def _by_phrase(table: dict[str, str]) -> dict[Phrase, str]:
    return {tuple(phrase.split()): name for name, phrases in table.items() for phrase in phrases.split(", ")}


MOTIFS: dict[Phrase, str] = _by_phrase(_MOTIFS)
"""Tokens, and the kind that they name."""
DETAILS: dict[Phrase, str] = _by_phrase(_DETAILS)
"""Tokens, and the detail that they name."""
WAYS: dict[Phrase, str] = {tuple(way.split()): way for way in _WAYS}
"""Tokens that say how a motif is drawn."""
COLOURS: dict[str, str] = {fold(name)[0]: name for name in COLOUR_NAMES}
"""Token, and the colour's name."""

PARTICIPLES: dict[Phrase, str] = {
    ("outlined", "in"): "outline",
    ("outline", "in"): "outline",
    ("nested", "with"): "inner shape",
    ("ringed", "in"): "rings",
}
"""Tokens before a colour, and the detail that has it: 'outlined in white'."""

BODIES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("stripes", "chevron", "waves"), (1, 2)),
    **dict.fromkeys(("plaid", "marble"), (2,)),
    **dict.fromkeys(("terrazzo", "camouflage"), (3,)),
}
"""How many colours the bodies of a kind have; one for all others."""
MAY_NAME_FEWER = frozenset({"plaid", "marble", "terrazzo", "camouflage"})
"""Kinds of several colours of which a prompt may name only the first."""

SILENT = frozenset(
    word
    for words in (
        "a an the of any please some i want would like me my make create draw",
        "seamless pattern patterns repeat repeats repeating tile tiles tiled tiling design designs print prints",
        "fabric textile wallpaper wrapping paper motif motifs surface allover",
        "colour color colours colors coloured colored",
    )
    for word in words.split()
)
"""Words that may be ignored. The tokenizer drops more ('light', 'few', 'between', 'only'): the model is blind to those,
but whoever wrote them meant something by them."""
