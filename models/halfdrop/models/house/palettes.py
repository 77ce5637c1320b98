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
    "sky blue": (140, 196, 236),
    "teal": (12, 122, 126),
    "turquoise": (52, 198, 196),
    "mint": (176, 226, 200),
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
DEFAULT_COLOURS = ("cream", "navy", "coral", "mustard", "teal")
"""Ground and layers 1 to 4 when a prompt names no colour at all."""
LIGHT_LUMINANCE = 0.72


def rgb(name: str) -> Rgb:
    """Return a named colour, 0 to 1."""
    red, green, blue = COLOURS_255[name]
    return red / 255, green / 255, blue / 255


def mixed(first: Rgb, second: Rgb) -> Rgb:
    """Return the colour half-way: what an overprint of gingham shows."""
    return (first[0] + second[0]) / 2, (first[1] + second[1]) / 2, (first[2] + second[2]) / 2


def ground_for(motif: str) -> str:
    """Return the ground that goes with a motif's colour when the prompt names none."""
    red, green, blue = rgb(motif)
    luminance = 0.3 * red + 0.59 * green + 0.11 * blue
    return DARK_GROUND if luminance > LIGHT_LUMINANCE or motif == "cream" else LIGHT_GROUND


def draw_names(words: random.Random) -> list[str]:
    """Return five colour names, ground first, far enough apart to be told from each other."""
    while True:
        names = words.sample(COLOUR_NAMES, 5)
        ground, body, second, third, fourth = (rgb(name) for name in names)
        if (
            _apart(ground, body) > 0.2
            and _apart(body, second) > 0.12
            and _apart(body, third) > 0.12
            and _apart(ground, fourth) > 0.12
            and _apart(ground, second) > 0.08
        ):
            return names


def _apart(first: Rgb, second: Rgb) -> float:
    return sum((a - b) ** 2 for a, b in zip(first, second, strict=True))
