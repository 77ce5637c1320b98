"""Units drawn from formulas: what the house model would give if it were perfect."""

import numpy as np
import pytest
from numpy.typing import NDArray

from halfdrop.contracts.plates import BAND_PX, GRID_PX, LAYERS
from halfdrop.contracts.repeats import Repeat
from halfdrop.models.fields import Fields

Distance = NDArray[np.float64]

PALETTE = ("#f4ead8", "#c0392b", "#1f5f8b", "#e0a526", "#2d2d2d")

_centres = (np.arange(GRID_PX) + 0.5) / GRID_PX
U, V = np.meshgrid(_centres, _centres)


def stack(*distances: Distance) -> Fields:
    """Return the fields of layers given in grid pixels; the rest are unused."""
    fields = np.full((LAYERS, GRID_PX, GRID_PX), -1, np.float32)
    for layer, distance in enumerate(distances):
        fields[layer] = np.clip(distance / BAND_PX, -1, 1)
    return fields


def heart(size_px: float) -> Distance:
    x, y = np.abs((U - 0.5) * GRID_PX / size_px), (0.5 - V) * GRID_PX / size_px + 0.552
    lobe = np.hypot(x - 0.25, y - 0.75) - np.sqrt(2) / 4
    foot = 0.5 * np.maximum(x + y, 0)
    below = np.sqrt(np.minimum(x**2 + (y - 1) ** 2, (x - foot) ** 2 + (y - foot) ** 2)) * np.sign(x - y)
    return np.asarray(-np.where(x + y > 1, lobe, below) * size_px)


def camouflage(seed: int, cover_px: float) -> Distance:
    """Return periodic noise, scaled to a slope of about 1 near its edges."""
    noise = np.random.default_rng(seed).standard_normal((GRID_PX, GRID_PX))
    cycles = np.fft.fftfreq(GRID_PX) * GRID_PX
    power = cycles[:, None] ** 2 + cycles[None, :] ** 2
    smooth = np.fft.ifft2(np.fft.fft2(noise) * np.exp(-power / 5) * (power > 0)).real
    slope_x = (np.roll(smooth, -1, 1) - np.roll(smooth, 1, 1)) / 2
    slope_y = (np.roll(smooth, -1, 0) - np.roll(smooth, 1, 0)) / 2
    return np.asarray(smooth / np.maximum(np.hypot(slope_x, slope_y), 0.1 * smooth.std()) + cover_px)


UNITS = {
    "dot": stack(20 - GRID_PX * np.hypot(U - 0.5, V - 0.5)),
    "heart": stack(heart(44), heart(20)),
    "camouflage": stack(camouflage(1, 0), camouflage(2, -2), camouflage(3, -4)),
    "upright stripes": stack(8 - np.abs(U - 0.5) * GRID_PX, 2 - np.abs(U - 0.5) * GRID_PX),
    "level stripes": stack(8 - np.abs(V - 0.5) * GRID_PX, 2 - np.abs(V - 0.5) * GRID_PX),
}

REPEATS = {
    "straight": Repeat(units=2),
    "one unit": Repeat(units=1),
    "half-drop": Repeat(layout="half-drop", units=2),
    "brick": Repeat(layout="brick", units=4),
    "third drop": Repeat(layout="drop", drop="1/3", units=3),
    "two fifths along rows": Repeat(layout="drop", drop="2/5", axis="rows", units=5),
    "mirror": Repeat(layout="mirror", units=2),
}


@pytest.fixture(scope="session")
def units() -> dict[str, Fields]:
    return UNITS


@pytest.fixture(scope="session")
def palette() -> tuple[str, ...]:
    return PALETTE


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest) -> Fields:
    return UNITS[request.param]


@pytest.fixture(params=REPEATS)
def repeat(request: pytest.FixtureRequest) -> Repeat:
    return REPEATS[request.param]
