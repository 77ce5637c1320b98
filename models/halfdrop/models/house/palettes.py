"""The named colours the model knows, and how a training palette is drawn from them."""

from __future__ import annotations

import random

Rgb = tuple[float, float, float]

COLOURS_255: dict[str, tuple[int, int, int]] = {
    "white": (250, 249, 245),
    "cream": (245, 234, 208),
    "beige": (218, 196, 160),
    "black": (22, 22, 26),
    "charcoal": (62, 64, 70),
    "grey": (146, 148, 152),
    "silver": (200, 203, 208),
    "navy": (24, 38, 86),
    "blue": (38, 92, 190),
    "denim": (86, 116, 156),
    "sky blue": (140, 196, 236),
    "teal": (12, 122, 126),
    "turquoise": (52, 198, 196),
    "mint": (176, 226, 200),
    "sage": (158, 174, 136),
    "green": (44, 140, 66),
    "forest green": (24, 74, 46),
    "olive": (112, 116, 44),
    "lime": (164, 210, 56),
    "yellow": (248, 212, 48),
    "mustard": (208, 156, 34),
    "gold": (196, 158, 72),
    "orange": (240, 128, 32),
    "rust": (174, 78, 36),
    "brown": (98, 62, 40),
    "tan": (190, 148, 104),
    "coral": (250, 120, 100),
    "red": (204, 34, 44),
    "burgundy": (112, 20, 46),
    "pink": (246, 166, 190),
    "magenta": (204, 36, 130),
    "lavender": (196, 178, 230),
    "purple": (112, 54, 150),
    "peach": (252, 202, 168),
}
"""sRGB, 0 to 255. Their names are the words the palette head is taught."""

COLOUR_NAMES = tuple(COLOURS_255)
LIGHT_GROUND, DARK_GROUND = "cream", "navy"
"""The ground when a prompt names none: cream, or navy under a light motif."""
NATURAL_COLOURS: dict[str, tuple[str, ...]] = {
    "daisies": ("sage", "white"),
    "daisy": ("sage", "white"),
    "blossoms": ("cream", "pink"),
    "leaves": ("cream", "forest green"),
    "leaf": ("cream", "forest green"),
    "sprigs": ("cream", "coral"),
    "tulips": ("cream", "red"),
    "cherries": ("cream", "red"),
    "cherry": ("cream", "red"),
    "hearts": ("pink", "red"),
    "suns": ("navy", "gold"),
    "sunbursts": ("navy", "gold"),
    "moons": ("navy", "cream"),
    "clouds": ("sky blue", "white"),
    "raindrops": ("cream", "denim"),
    "snowflakes": ("navy", "white"),
    "mushrooms": ("cream", "red"),
    "toadstools": ("cream", "red"),
    "pinstripes": ("navy", "white"),
    "camouflage": ("tan", "olive", "brown", "black"),
    "camo": ("tan", "olive", "brown", "black"),
    "terrazzo": ("white", "coral", "teal", "mustard"),
    "marble": ("white", "grey", "gold"),
    "plaid": ("red", "forest green", "yellow"),
    "tartan": ("red", "forest green", "yellow"),
    "zebra": ("white", "black"),
    "leopard": ("tan", "brown"),
    "houndstooth": ("white", "black"),
    "checkerboard": ("white", "black"),
    "gingham": ("white", "red"),
}
"""Ground and body where a prompt names no colour, by a word of the noun: what a designer would expect to see."""
DEFAULT_COLOURS = ("cream", "navy", "coral", "mustard")
"""The same for every other noun."""

GREENERY = ("green", "forest green", "mint", "sage", "teal")
HEARTS_OF_FLOWERS = ("yellow", "brown", "white", "burgundy")
CONTRASTS = ("white", "navy", "coral", "mustard", "black")
ACCENTS: dict[str, tuple[str, ...]] = {
    "leaves": GREENERY,
    "stems": GREENERY,
    "stalks": GREENERY,
    "veins": ("mint", "forest green", "white"),
    "centres": HEARTS_OF_FLOWERS,
    "centre": HEARTS_OF_FLOWERS,
    "stars": ("yellow", "white", "coral"),
    "eyes": ("white", "black", "coral"),
    "rings": ("black", "brown", "white"),
}
"""Colours of a detail whose colour is not said, by a word of its name; the first that can be seen is taken."""
LIGHT_LUMINANCE = 0.72
BODY_APART, DETAIL_APART, SEEN_APART = 0.2, 0.12, 0.08
"""Least squared distance of a body from its ground, of a detail from what it lies on, and of anything from its ground,
in sRGB of 0 to 1."""


def rgb(name: str) -> Rgb:
    """Return a named colour, 0 to 1."""
    red, green, blue = COLOURS_255[name]
    return red / 255, green / 255, blue / 255


def mixed(first: Rgb, second: Rgb) -> Rgb:
    """Return the colour half-way: what an overprint of gingham shows."""
    return (first[0] + second[0]) / 2, (first[1] + second[1]) / 2, (first[2] + second[2]) / 2


def ground_for(motif: str, *others: str) -> str:
    """Return the ground that goes with a motif's colour, and lets others be seen, when the prompt names none."""
    red, green, blue = rgb(motif)
    luminance = 0.3 * red + 0.59 * green + 0.11 * blue
    is_light = luminance > LIGHT_LUMINANCE or motif == "cream"
    grounds = (DARK_GROUND, "charcoal", "black") if is_light else (LIGHT_GROUND, "sky blue", "white")
    return next((ground for ground in grounds if _is_seen_on(ground, others)), grounds[0])


def _is_seen_on(ground: str, names: tuple[str, ...]) -> bool:
    return all(_apart(rgb(ground), rgb(name)) > SEEN_APART for name in names)


def natural_colours(noun: str) -> tuple[str, ...]:
    """Return ground and body colours of a noun that comes without any."""
    return next((NATURAL_COLOURS[word] for word in noun.split() if word in NATURAL_COLOURS), DEFAULT_COLOURS)


def body_for(ground: str, noun: str) -> str:
    """Return the colour of a body when the prompt names the ground alone."""
    return _first_apart((*natural_colours(noun)[1:], *CONTRASTS), (ground,), BODY_APART)


def accent_for(detail: str, body: str, ground: str) -> str:
    """Return the colour of a detail that a prompt names without a colour, or does not name at all."""
    wanted = next((ACCENTS[word] for word in detail.split() if word in ACCENTS), ())
    return _first_apart((*wanted, *CONTRASTS), (body, ground), DETAIL_APART)


def shade_of(colour: Rgb, step: int) -> Rgb:
    """Return a darker (step 1) or a lighter (step 2) neighbour: for the plates of a cloth that is named one colour."""
    return mixed(colour, rgb("black" if step == 1 else "white"))


def can_be_told(body: str, ground: str) -> bool:
    """Return whether a body of one colour is clearly seen on a ground of another; True for every caption's."""
    return _apart(rgb(body), rgb(ground)) > BODY_APART


def _first_apart(candidates: tuple[str, ...], others: tuple[str, ...], distance: float) -> str:
    seen = [rgb(name) for name in others]
    return next(name for name in candidates if all(_apart(rgb(name), other) > distance for other in seen))


def draw_names(words: random.Random) -> list[str]:
    """Return five colour names, ground first, far enough apart to be told from each other."""
    while True:
        names = words.sample(COLOUR_NAMES, 5)
        ground, body, second, third, fourth = (rgb(name) for name in names)
        if (
            _apart(ground, body) > BODY_APART
            and _apart(body, second) > DETAIL_APART
            and _apart(body, third) > DETAIL_APART
            and _apart(ground, fourth) > DETAIL_APART
            and _apart(ground, second) > SEEN_APART
            and _apart(ground, third) > SEEN_APART
        ):
            return names


def _apart(first: Rgb, second: Rgb) -> float:
    return sum((a - b) ** 2 for a, b in zip(first, second, strict=True))
