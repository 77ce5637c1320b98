"""Contours to an SVG whose unit is drawn once and laid by reference."""

from collections.abc import Sequence
from html import escape

from halfdrop.contracts.repeats import Repeat
from halfdrop.models.contours import Outline, Points, trace_outline
from halfdrop.models.fields import Fields


def trace_svg(
    fields: Fields,
    palette: Sequence[str],
    repeat: Repeat,
    size_px: int,
    *,
    title: str = "Halfdrop pattern",
    metadata: str = "",
    side_mm: float | None = None,
) -> str:
    """Return an SVG of one tile, `size_px` square: the ground and a group "layer-n" for each layer with ink.

    fields, palette: as in `renderer.compose_tile`. metadata: XML that says where it comes from. side_mm: its physical
    size; absent: that many pixels. Scales to any size; contours are simplified for this one.
    """
    outline = trace_outline(fields, repeat, size_px)
    side = str(size_px) if side_mm is None else f"{side_mm:.6g}mm"
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        f' width="{side}" height="{side}"'
        f' viewBox="0 0 {size_px} {size_px}">\n<title>{escape(title)}</title>\n'
        f"<desc>{escape(describe_lattice(outline.lattice))}</desc>\n"
        f"<metadata>{metadata}</metadata>\n"
        f'<rect id="ground" width="{size_px}" height="{size_px}" fill="{palette[0]}"/>\n'
    )
    layers = [
        _lay_layer(f"layer-{layer + 1}", palette[layer + 1], "".join(map(_format, rings)), outline)
        for layer, rings in outline.layers
    ]
    return head + "".join(layers) + "</svg>\n"


def describe_lattice(lattice: Repeat) -> str:
    """Return the repeat in words, for people who open the file."""
    drop = f", {lattice.shifted_axis} shifted by {lattice.shift}" if lattice.shift else ""
    return f"Repeat: {lattice.layout}{drop}; {lattice.units} units across. The tile wraps in both directions."


def _format(ring: Points) -> str:
    """Return one closed subpath."""
    return "M" + " ".join(f"{format_px(x)},{format_px(y)}" for x, y in ring[:-1].tolist()) + "Z"


def format_px(value: float) -> str:
    """Return two decimals at most: a hundredth of a pixel, a tenth of the contours' tolerance."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _lay_layer(name: str, colour: str, path: str, outline: Outline) -> str:
    """Return the layer: its unit, a line of units along the axis that is shifted, and those lines side by side."""
    unit = f'<path id="{name}-unit" d="{path}"/>\n'
    if outline.lattice.layout == "mirror":
        unit = _mirror_unit(name, path, outline.pitch_px)
    line = "".join(_use(f"{name}-unit", place) for place in outline.line_places())
    lines = "".join(_use(f"{name}-line", place) for place in outline.lines())
    return (
        f'<defs>\n{unit}<g id="{name}-line">{line}</g>\n</defs>\n'
        f'<g id="{name}" fill="{colour}" fill-rule="evenodd">{lines}</g>\n'
    )


def _mirror_unit(name: str, path: str, pitch_px: float) -> str:
    """Return four units in a square, the right-hand and the lower ones flipped."""
    across = format_px(pitch_px)
    flips = (f"matrix(-1 0 0 1 {across} 0)", f"matrix(1 0 0 -1 0 {across})", f"matrix(-1 0 0 -1 {across} {across})")
    flipped = "".join(f'<use xlink:href="#{name}-quarter" transform="{flip}"/>' for flip in flips)
    return f'<g id="{name}-unit"><path id="{name}-quarter" d="{path}"/>{flipped}</g>\n'


def _use(name: str, place: tuple[float, float]) -> str:
    """Return a reference moved to a place.

    Its attribute keeps the older prefix, without which drawing programs of some years ago show nothing.
    """
    x, y = place
    return f'<use xlink:href="#{name}" x="{x:.9g}" y="{y:.9g}"/>'
