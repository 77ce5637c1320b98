"""The torus of a lattice: what stands beyond a border is what the lattice lays there."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from halfdrop.contracts.repeats import Repeat
from halfdrop.models.house.kinds.drawing import Canvas
from halfdrop.models.house.net import WrappingConv, torus_tensors
from halfdrop.models.house.torus import LATTICES, SIDE, STRAIGHT, Lattice, lattice_of, torus_of


def wave_at(lattice: Lattice, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A plane wave that closes on the lattice, at cell coordinates also outside the unit."""
    drop, u, v = float(lattice[1]), (x + 0.5) / SIDE, (y + 0.5) / SIDE
    phase = u + 2 * (v - drop * u) if lattice[0] == "columns" else v + 2 * (u - drop * v)
    return np.cos(2 * math.pi * phase)


@pytest.mark.parametrize("lattice", LATTICES, ids=str)
def test_the_ring_continues_whatever_closes_on_the_lattice(lattice: Lattice) -> None:
    inside = np.arange(SIDE)
    cells = wave_at(lattice, *np.meshgrid(inside, inside))
    around = np.arange(-1, SIDE + 1)
    wide = wave_at(lattice, *np.meshgrid(around, around))
    expected = np.concatenate([wide[0], wide[1:-1, 0], wide[1:-1, -1], wide[-1]])
    ring = torus_of(lattice).ring @ cells.reshape(-1)
    # Drops that are no whole number of cells are read between two of them.
    assert np.abs(ring - expected).max() < (1e-5 if SIDE % lattice[1].denominator == 0 else 0.1)


def test_the_straight_ring_is_plain_wrapping() -> None:
    torch.manual_seed(0)
    conv, cells = WrappingConv(3, 5), torch.randn(2, 3, SIDE, SIDE)
    plain = torch.nn.functional.conv2d(
        torch.nn.functional.pad(cells, (1, 1, 1, 1), mode="circular"), conv.weight, conv.bias
    )
    assert torch.allclose(conv(cells, torus_tensors([torus_of(STRAIGHT)]).ring), plain, atol=1e-5)


def test_every_orderable_drop_has_a_lattice_and_a_mirror_is_straight() -> None:
    for repeat in (Repeat(), Repeat(layout="mirror"), Repeat(layout="half-drop"), Repeat(layout="brick")):
        assert lattice_of(repeat.normalise()) in LATTICES
    third = Repeat(layout="drop", drop="2/3", axis="rows").normalise()
    assert lattice_of(third) == ("rows", Fraction(2, 3))
    assert lattice_of(Repeat(layout="mirror").normalise()) == STRAIGHT
    assert len(set(LATTICES)) == len(LATTICES) == 43


def test_lattices_differ_in_what_the_denoiser_is_told() -> None:
    told = [torus_of(lattice).drop.tobytes() for lattice in LATTICES]
    assert len(set(told)) == len(told)
    assert not torus_of(STRAIGHT).drop.any()


@pytest.mark.parametrize("axis", ["columns", "rows"])
def test_phases_close_on_the_lattice_as_the_canvas_does(axis: str) -> None:
    drop = Fraction(3, 8)
    torus, canvas = torus_of((axis, drop)), Canvas(grid=8, drop=float(drop), axis=axis)  # type: ignore[arg-type]
    # One turn across and none down is the first phase; the canvas draws the same wave from cell centres.
    wave = canvas.wave(0, 1) if axis == "columns" else canvas.wave(1, 0)
    turned = torch.cos(2 * math.pi * (wave - wave[:, :1, :1])).flatten().numpy()
    column = 8 if axis == "columns" else 0
    assert np.allclose(torus.cos[:, column], turned, atol=1e-4)
