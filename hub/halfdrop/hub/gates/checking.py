"""All gates on one pattern: what each found, its verdict by the template's rules, and pictures of what did not pass."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from halfdrop.contracts.gate_reports import Finding, judge, passes
from halfdrop.contracts.templates import AtLeast, AtMost, GateName, Gates, side_mm
from halfdrop.hub.gates import marks
from halfdrop.hub.gates.blank import measure_ink, measure_noise
from halfdrop.hub.gates.colours import count_colours
from halfdrop.hub.gates.repeats import measure_repeats
from halfdrop.hub.gates.seams import measure_plate_seams, measure_seams
from halfdrop.hub.gates.size import Measure, size_error_mm
from halfdrop.hub.gates.specimen import Bytes, Specimen
from halfdrop.hub.gates.stroke import as_mm, measure_stroke

PATTERN_STAGE = "pattern"
DIGITS = 4


class Found(NamedTuple):
    """A number, what it means, and how to draw what is wrong."""

    number: float
    says: str
    draw: Callable[[], Bytes]


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One gate's finding, and a picture of what did not pass; None where all is well."""

    finding: Finding
    picture: Bytes | None


def check_pattern(specimen: Specimen, gates: Gates, *, retried: int) -> list[Checked]:
    """Return what the gates that look at a pattern found, before any file is made of it. `copies` needs a store, and
    `size` a file: they are not among them."""
    checked = []
    for name, rule in gates.rules().items():
        measure = _MEASURES.get(name)
        if measure is not None:
            checked.append(_checked(name, PATTERN_STAGE, measure(specimen, rule), rule, retried))
    return checked


def check_raster(name: str, tile: Bytes, specimen: Specimen, gates: Gates, *, retried: int) -> list[Checked]:
    """Return what the seam gate found of a file's pixels, [size, size, 3]."""
    if gates.seams is None:
        return []
    ratio = measure_seams(tile, specimen.repeat, specimen.fields, specimen.palette)
    found = Found(ratio, _say_seams(ratio), lambda: marks.draw_seams(tile, specimen))
    return [_checked("seams", name, found, gates.seams, retried)]


def check_plate(
    name: str, plane: Bytes, field: NDArray[np.float32], specimen: Specimen, gates: Gates, *, retried: int
) -> list[Checked]:
    """Return what the seam gate found of one plate, [size, size] coverage, which was composed of `field`."""
    if gates.seams is None:
        return []
    ratio = measure_plate_seams(plane, specimen.repeat, field)
    found = Found(ratio, _say_seams(ratio), lambda: marks.draw_seams(np.repeat(plane[..., None], 3, axis=2), specimen))
    return [_checked("seams", name, found, gates.seams, retried)]


def check_file(name: str, measure: Measure, gates: Gates, *, size_px: int, dpi: float) -> list[Checked]:
    """Return what the size gate found of a file. There is nothing to draw of a size."""
    if gates.size is None:
        return []
    says = (
        f"the file says {measure.width_px} × {measure.height_px} px at {measure.dpi:.5g} dpi; ordered: {size_px} px, "
        f"{side_mm(size_px, dpi):.2f} mm"
    )
    found = Found(size_error_mm(measure, size_px=size_px, dpi=dpi), says, lambda: np.zeros((1, 1, 3), np.uint8))
    return [Checked(finding=_checked("size", name, found, gates.size, 0).finding, picture=None)]


def check_copies(distance: float, specimen: Specimen, gates: Gates, *, retried: int) -> list[Checked]:
    """Return what the near-copy gate makes of the distance to the nearest pattern of another tenant."""
    if gates.copies is None:
        return []
    says = f"the nearest pattern of another tenant is {distance:.3f} away (0: the same; 1: nothing alike)"
    found = Found(distance, says, lambda: marks.draw_plain(specimen))
    return [_checked("copies", PATTERN_STAGE, found, gates.copies, retried)]


def _checked(name: GateName, stage: str, found: Found, rule: AtMost | AtLeast, retried: int) -> Checked:
    number = round(found.number, DIGITS)
    verdict = judge(number, rule, retried=retried)
    finding = Finding(
        gate=name,
        stage=stage,
        number=number,
        limit=rule.min if isinstance(rule, AtLeast) else rule.max,
        is_least=isinstance(rule, AtLeast),
        verdict=verdict,
        says=found.says,
    )
    return Checked(finding=finding, picture=None if passes(number, rule) else found.draw())


def _seams(specimen: Specimen, _: AtMost | AtLeast) -> Found:
    ratio = measure_seams(specimen.tile, specimen.repeat, specimen.fields, specimen.palette)
    return Found(ratio, _say_seams(ratio), lambda: marks.draw_seams(specimen.tile, specimen))


def _say_seams(ratio: float) -> str:
    return f"borders of units stand out {ratio:.3f} times as much as the worst line inside"


def _repeats(specimen: Specimen, _: AtMost | AtLeast) -> Found:
    likeness = measure_repeats(specimen)
    moved = f"moved by {likeness.across:.2f} units across and {likeness.down:.2f} down, which is no step of its lattice"
    says = "no repeat is seen beside its lattice"
    if likeness.correlation:
        says = f"{moved}, the pattern is like itself by {likeness.correlation:.3f}"
    return Found(likeness.correlation, says, lambda: marks.draw_repeats(specimen, likeness))


def _blank(specimen: Specimen, _: AtMost | AtLeast) -> Found:
    share = measure_ink(specimen.tile)
    return Found(share, f"{share:.1%} of the tile is not its commonest colour", lambda: marks.draw_plain(specimen))


def _noise(specimen: Specimen, _: AtMost | AtLeast) -> Found:
    noise = measure_noise(specimen.tile)
    return Found(noise, f"{noise:.1%} of pure noise", lambda: marks.draw_plain(specimen))


def _colours(specimen: Specimen, _: AtMost | AtLeast) -> Found:
    count = count_colours(specimen.tile)
    return Found(count, f"{count} colours are seen, the ground included", lambda: marks.draw_plain(specimen))


def _stroke(specimen: Specimen, rule: AtMost | AtLeast) -> Found:
    assert isinstance(rule, AtLeast)
    if specimen.fields is None:
        return Found(
            rule.min, "not looked at: a picture without plates has no strokes of its own", lambda: specimen.tile
        )
    thinnest = measure_stroke(specimen, rule.min)
    width_mm = as_mm(thinnest.width_px, specimen.dpi)
    kind = "gap" if thinnest.is_gap else "line"
    if not thinnest.thin.size:
        says = f"no line or gap is under {width_mm:.2f} mm ({thinnest.width_px:.0f} px)"
    else:
        says = (
            f"the thinnest {kind} of plate {thinnest.plate + 1} is {width_mm:.2f} mm ({thinnest.width_px:.0f} px) wide"
        )

    def draw() -> Bytes:
        return marks.draw_stroke(specimen.compose_plates()[thinnest.plate], thinnest)

    return Found(width_mm, says, draw)


_MEASURES: dict[GateName, Callable[[Specimen, AtMost | AtLeast], Found]] = {
    "seams": _seams,
    "repeats": _repeats,
    "blank": _blank,
    "noise": _noise,
    "colours": _colours,
    "stroke": _stroke,
}
