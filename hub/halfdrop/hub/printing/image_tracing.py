"""Pictures in inks to outlines, where there are no plates to take them from: a stacked SVG, by vtracer or potrace.

Inks are stacked, the commonest below: each but the first is traced over what lies above it as well, so shapes overlap
and leave no hairlines. The tile is traced with its wrapped neighbours round it and cut to size: what crosses the border
is traced as one.
"""

import io
import re
import shutil
import subprocess
from collections.abc import Sequence
from html import escape
from typing import Literal

import numpy as np
import vtracer
from numpy.typing import NDArray
from PIL import Image

from halfdrop.contracts.errors import PermanentError
from halfdrop.hub.printing.spot_inks import lab_of

Bytes = NDArray[np.uint8]
Tracer = Literal["vtracer", "potrace"]

RIM_PX = 24
"""How much of its neighbours a tile is traced with."""

POTRACE_MAX_S = 60.0
SPECKLE_PX = 2
"""Smaller spots are left out by either program; larger ones are for `drop_picture_specks` to judge."""

_PATH = re.compile(r'<path d="([^"]*)" fill="(#[0-9A-Fa-f]{6})" transform="translate\(([-\d.]+),([-\d.]+)\)"/>')
_POTRACE_GROUP = re.compile(r'<g transform="([^"]*)"[^>]*>(.*)</g>', re.DOTALL)


def trace_picture(
    indices: Bytes,
    palette: Sequence[str],
    *,
    tracer: Tracer = "vtracer",
    title: str = "Halfdrop pattern",
    metadata: str = "",
    copies: int = 1,
    side: str = "",
) -> str:
    """Return an SVG of a tile, [height, width] places in the palette: a group "ink-n" for each, the ground below.

    copies: how often the tile lies beside and below itself; it is traced once. side: what the whole
    measures, "640mm" say; left out, its pixels. Raises
    PermanentError where potrace is asked for and not installed.
    """
    height, width = indices.shape
    rim = min(RIM_PX, height, width)
    wide = np.pad(indices, rim, mode="wrap")
    trace = _trace_with_vtracer if tracer == "vtracer" else _trace_with_potrace
    groups = trace(wide, palette)
    whole_width, whole_height = width * copies, height * copies
    long, high = side or whole_width, side or whole_height
    drawn = f'<g transform="translate({-rim} {-rim})">\n{groups}</g>\n'
    if copies > 1:
        drawn = _lay_copies(drawn, palette[0], width, height, over=rim // 2, copies=copies)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        f' width="{long}" height="{high}" viewBox="0 0 {whole_width} {whole_height}">\n'
        f"<title>{escape(title)}</title>\n<metadata>{metadata}</metadata>\n"
        f'<rect id="ground" width="{whole_width}" height="{whole_height}" fill="{palette[0]}"/>\n{drawn}</svg>\n'
    )


def _lay_copies(drawn: str, ground: str, width: int, height: int, *, over: int, copies: int) -> str:
    """Return a traced cell laid beside and below itself. Each copy reaches over the next by `over`, where both show the
    same: what meets exactly would leave a hairline."""
    box = f'x="{-over}" y="{-over}" width="{width + 2 * over}" height="{height + 2 * over}"'
    places = [(across * width, down * height) for down in range(copies) for across in range(copies)]
    uses = "".join(f'<use xlink:href="#cell" x="{across}" y="{down}"/>\n' for across, down in places)
    return (
        f'<defs><clipPath id="around"><rect {box}/></clipPath>\n'
        f'<g id="cell" clip-path="url(#around)"><rect {box} fill="{ground}"/>\n{drawn}</g></defs>\n{uses}'
    )


def _trace_with_vtracer(wide: Bytes, palette: Sequence[str]) -> str:
    """Return the groups. vtracer stacks by itself, and averages colours: each is put back to the ink it is."""
    levels = np.array([list(bytes.fromhex(colour[1:])) for colour in palette], np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels[wide]).save(buffer, "PNG", compress_level=1)
    traced = vtracer.convert_raw_image_to_svg(
        buffer.getvalue(),
        img_format="png",
        colormode="color",
        hierarchical="stacked",
        mode="spline",
        filter_speckle=SPECKLE_PX,
        color_precision=8,
        layer_difference=0,
        path_precision=2,
    )
    labs = np.array([lab_of(colour) for colour in palette])
    inks: dict[str, int] = {}
    parts = []
    for path, colour, across, down in _PATH.findall(traced):
        if colour not in inks:
            inks[colour] = int(np.linalg.norm(labs - lab_of(colour.lower()), axis=-1).argmin())
        ink = inks[colour]
        move = "" if (across, down) == ("0", "0") else f' transform="translate({across} {down})"'
        parts.append(f'<path class="ink-{ink}" fill="{palette[ink]}" d="{path.strip()}"{move}/>\n')
    return "".join(parts)


def _trace_with_potrace(wide: Bytes, palette: Sequence[str]) -> str:
    """Return the groups: each ink over all that lie above it, traced as one black shape."""
    program = shutil.which("potrace")
    if program is None:
        raise PermanentError("potrace is not installed; allowed: vtracer, or install potrace", code="not-installed")
    parts = []
    for ink in range(1, len(palette)):
        ones = wide >= ink
        if not ones.any():
            continue
        height, width = ones.shape
        bitmap = b"P4\n%d %d\n" % (width, height) + np.packbits(ones, axis=1).tobytes()
        command = [program, "-s", "-u", "100", "-t", str(SPECKLE_PX * SPECKLE_PX), "-o", "-", "-"]
        done = subprocess.run(command, input=bitmap, capture_output=True, check=True, timeout=POTRACE_MAX_S)
        found = _POTRACE_GROUP.search(done.stdout.decode())
        # potrace writes points at 72 to the inch of what it takes for 72 pixels to the inch: one is one
        shapes = f'<g transform="{found[1]}">{found[2].strip()}</g>' if found else ""
        parts.append(f'<g id="ink-{ink}" fill="{palette[ink]}">{shapes}</g>\n')
    return "".join(parts)
