"""Paintings taken apart into inks: on the lattice's own torus, and true to the pixels that were painted."""

import hashlib
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy import ndimage

from halfdrop.contracts.jobs import Job
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.contracts.printing import PrintOptions
from halfdrop.contracts.repeats import Repeat
from halfdrop.contracts.templates import AtMost, Finishing, Gates
from halfdrop.hub.checkpoints.tiles import lay_tile, reduce_unit, with_neighbours
from halfdrop.hub.printing.design import describe_painting, design_painting
from halfdrop.hub.printing.painted import ink_unit
from halfdrop.hub.printing.plan import plan_files
from halfdrop.hub.printing.vector_check import join_ratio
from halfdrop.models.pixel_seams import border_step_ratio
from halfdrop.models.renderer import compose_tile

INKS = ("#f4efe6", "#c0392b", "#1d3557", "#2a9d8f")
LATTICES = [
    Repeat(),
    Repeat(layout="half-drop"),
    Repeat(layout="brick"),
    Repeat(layout="drop", drop="1/4", axis="rows", units=4),
    Repeat(layout="mirror"),
]


def paint(repeat: Repeat, side: int = 128, seed: int = 5) -> np.ndarray:
    """Blots in four flat colours that run on over the borders of this lattice."""
    noise = np.random.default_rng(seed).integers(0, 256, (side, side)).astype(np.uint8)
    wide = with_neighbours(noise, repeat, side // 2).astype(float)
    soft = ndimage.gaussian_filter(wide, side / 16)[side // 2 : -side // 2, side // 2 : -side // 2]
    ranks = np.searchsorted(np.quantile(soft, [0.5, 0.75, 0.9]), soft)
    levels = np.array([list(bytes.fromhex(colour[1:])) for colour in INKS], np.uint8)
    painted: np.ndarray = levels[ranks]
    return painted


def job_of(repeat: Repeat, **changes: Any) -> Job:
    spec = PatternSpec(prompt="blots", repeat=repeat.normalise(), model_digest="d" * 64)
    return Job(id="1", origin="test", spec=spec, size_px=128 * repeat.normalise().units, created_at=0, **changes)


@pytest.mark.parametrize("repeat", LATTICES, ids=lambda repeat: repeat.layout)
def test_inks_are_those_that_were_painted_up_to_the_borders_of_the_unit(repeat: Repeat) -> None:
    unit = paint(repeat)
    inked = ink_unit(unit, repeat, inks=6)
    assert set(inked.palette) == set(INKS)
    assert inked.palette[0] == INKS[0], "the commonest is the ground"
    painted, lattice = lay_tile(unit, repeat), repeat.normalise()
    composed = compose_tile(inked.fields, inked.palette, lattice, len(painted))
    apart = np.abs(composed.astype(int) - painted).mean(axis=-1)
    assert apart.mean() < 4, "edges get soft, no more"
    edges = [place * len(unit) + by for place in range(lattice.units) for by in (-1, 0)]
    for lines in (apart.mean(axis=0), apart.mean(axis=1)):
        assert lines[edges].max() < lines.max() + 1e-9
    assert border_step_ratio(composed, lattice) <= 1.1


def test_a_painting_without_flat_places_keeps_its_colours() -> None:
    """Brush work all over: taken from its few flat places alone, it would be one grey."""
    noise = np.random.default_rng(2).normal(size=(128, 128, 3))
    soft = ndimage.gaussian_filter(noise, (2.5, 2.5, 0), mode="wrap")
    unit = np.clip(128 + 60 * soft / soft.std(), 0, 255).astype(np.uint8)
    inked = ink_unit(unit, Repeat(), inks=5)
    assert len(inked.palette) == 5
    shares = [float((field > 0).mean()) for field in inked.fields]
    assert min(shares) > 0.02, shares


def test_a_neighbour_hangs_lower_by_the_drop() -> None:
    unit = np.arange(8 * 8, dtype=np.uint8).reshape(8, 8)
    for repeat in LATTICES[:3]:
        tile = lay_tile(unit, repeat.normalise())
        nine = np.tile(tile, (3, 3))
        side = len(tile)
        around = nine[side - 3 : side + 8 + 3, side - 3 : side + 8 + 3]
        np.testing.assert_array_equal(with_neighbours(unit, repeat, 3), around)


def test_a_unit_is_reduced_by_whole_numbers() -> None:
    unit = paint(Repeat())
    assert len(reduce_unit(unit, 33)) == 64
    assert len(reduce_unit(unit, 16)) == 16
    assert reduce_unit(unit, 100) is unit
    assert np.abs(reduce_unit(unit, 16).astype(float).mean((0, 1)) - unit.mean((0, 1))).max() < 1


@pytest.mark.parametrize(
    ("changes", "inks", "is_inked"),
    [
        ({}, 6, False),
        ({"printing": PrintOptions(inks_max=3)}, 3, False),
        ({"finishing": ("refine",)}, 6, False),
        ({"finishing": ("separate",)}, 2, True),
    ],
)
def test_press_and_template_say_how_many_inks_there_are_and_whether_they_are_shown(
    changes: dict[str, Any], inks: int, is_inked: bool
) -> None:
    if steps := changes.get("finishing"):
        gates = Gates(colours=AtMost(max=2)) if "separate" in steps else Gates()
        changes = {"finishing": Finishing(template="t@1", digest="d", steps=steps, outputs=("png",), gates=gates)}
    job = job_of(Repeat(), **changes)
    unit = paint(Repeat())
    painting = describe_painting(job, unit, family="sd", device="cpu", dtype="float32")
    assert (painting.inks, painting.is_inked) == (inks, is_inked)
    assert painting.unit_sha256 == hashlib.sha256(unit.tobytes()).hexdigest()
    design = design_painting(unit, painting, job.spec, colourways=[])
    assert len(set(design.palette)) == min(inks, len(INKS))
    assert (design.tile is None) == is_inked


def test_a_palette_is_kept_in_its_order_and_colourways_follow_its_roles() -> None:
    repeat = Repeat(layout="half-drop")
    unit = paint(repeat)
    job = job_of(repeat)
    filled = (INKS[0], INKS[2], INKS[0], INKS[2], INKS[0])  # as a template fills roles beyond its two colours
    spec = msgspec.structs.replace(job.spec, palette=filled)
    painting = describe_painting(job, unit, family="sd", device="cpu", dtype="float32")
    design = design_painting(unit, painting, spec, colourways=[("#101010", "#e0e0e0", "#101010", "#e0e0e0")])
    assert design.palette == design.asked == (INKS[0], INKS[2])
    assert design.colourways == (("#101010", "#e0e0e0"),)


def test_the_master_is_the_painting_and_its_drawing_tiles() -> None:
    repeat = Repeat(layout="half-drop", units=4).normalise()
    unit = paint(repeat)
    job = job_of(repeat)
    painting = describe_painting(job, unit, family="sd", device="cpu", dtype="float32")
    design = design_painting(unit, painting, job.spec, colourways=[])
    artwork = design.artwork(job.spec, job.size_px, PrintOptions())
    np.testing.assert_array_equal(artwork.tile(), lay_tile(unit, repeat))
    files = {file.name: file for file in plan_files(artwork)}
    svg = files["pattern.svg"].make()
    assert svg.count(b'xlink:href="#cell"') == 4, "a cell of two units, traced once and laid four times"
    shown = compose_tile(artwork.fields, artwork.palette, repeat, 256)
    assert join_ratio(svg, shown) < 1.5
    recoloured = artwork.in_colours(["#000000"])
    assert not recoloured.shows_painting
    assert (recoloured.tile() == 0).all(axis=-1).any()
