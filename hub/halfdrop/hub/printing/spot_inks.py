"""The inks of a print: a name and a Lab value for each, which is how mills and engravers ask for colours.

Lab is CIE's, under D50 as in every print profile; sRGB's own white is D65, so colours are adapted (Bradford).
"""

from typing import NamedTuple

import numpy as np
from coloraide import Color
from numpy.typing import NDArray

WHITE_D50 = (0.9642, 1.0, 0.8249)

_SRGB_TO_XYZ_D50 = np.array(
    [
        [0.4360747, 0.3850649, 0.1430804],
        [0.2225045, 0.7168786, 0.0606169],
        [0.0139322, 0.0971045, 0.7141733],
    ]
)
"""Linear sRGB to XYZ, adapted to D50 by Bradford's matrix."""

_EPSILON, _KAPPA = 216 / 24389, 24389 / 27


class Ink(NamedTuple):
    """One ink. `lab`: L* 0 to 100, a* and b*, D50."""

    name: str
    colour: str
    lab: tuple[float, float, float]


def name_inks(palette: list[str]) -> list[Ink]:
    """Return the inks of a palette of "#rrggbb", the ground first. Names are unique even where colours are not."""
    names = ["Ground", *(f"Plate {place}" for place in range(1, len(palette)))]
    return [Ink(f"{name} {colour}", colour, lab_of(colour)) for name, colour in zip(names, palette, strict=True)]


def lab_of(colour: str) -> tuple[float, float, float]:
    """Return the Lab value of "#rrggbb"."""
    encoded = np.frombuffer(bytes.fromhex(colour.removeprefix("#")), np.uint8) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    relative = _SRGB_TO_XYZ_D50 @ linear / np.array(WHITE_D50)
    f: NDArray[np.float64] = np.where(relative > _EPSILON, np.cbrt(relative), (_KAPPA * relative + 16) / 116)
    x, y, z = f.tolist()
    return (round(116 * y - 16, 3), round(500 * (x - y), 3), round(200 * (y - z), 3))


def delta_e_2000(one: tuple[float, float, float], other: tuple[float, float, float]) -> float:
    """Return how far apart two Lab values look, by CIEDE2000: below 1 hardly anybody sees it, mills allow 0.5 to 1.5.

    Source: Sharma, Wu, Dalal, "The CIEDE2000 color-difference formula", 2005; the tests hold their data against it.
    """
    # The formula knows no white; under this space's name coloraide takes the values as they are.
    return float(Color("lab-d65", list(one)).delta_e(Color("lab-d65", list(other)), method="2000"))
