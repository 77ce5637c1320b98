"""What finishing costs: `python bench/finishing.py` prints one JSON object as its last line.

One unit with four inks, as the shipped refiner returns it (128 samples along its side; a formula: nothing is sampled),
laid as a half-drop. Each step is timed in CPU seconds of this process and by the clock, best of `--rounds`, in one
thread. `tiff_4096_s` is the RGB TIFF of a painted tile (goal 0.5), `vector_1024_s` six colours of a 1024 px picture
quantised, cleaned and traced (goal 1), `bundle_4096_s` everything that an order can ask for, rendering and seams
included (goal 6). Every file of the bundle is opened by a program that did not write it, outside of the timing.
"""

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, get_args

import numpy as np
from measuring import report

from halfdrop.contracts.patterns import PatternSpec
from halfdrop.contracts.plates import BAND_PX, GRID_PX
from halfdrop.contracts.printing import PrintFormat, PrintOptions
from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.printing.artwork import Artwork
from halfdrop.hub.printing.image_tracing import trace_picture
from halfdrop.hub.printing.plan import plan_files
from halfdrop.hub.printing.quantising import drop_picture_specks, quantise, smooth_edges
from halfdrop.hub.printing.tiff_files import encode_indexed_tiff, encode_separated_tiff, encode_tiff
from halfdrop.models.fields import Fields
from halfdrop.models.renderer import compose_tile
from halfdrop.models.seams import seam_ratio

GRID = 128
PALETTE = ("#f4ead8", "#c0392b", "#1f5f8b", "#e0a526", "#2d2d2d")
SIX = (*PALETTE, "#6fae75")
READERS = {
    ".png": ["exiftool", "-validate", "-q"],
    ".webp": ["exiftool", "-validate", "-q"],
    ".tiff": ["tiffinfo", "-D"],
    ".svg": ["rsvg-convert", "-w", "256", "-h", "256", "-o", "seen.png"],
    ".pdf": ["gs", "-q", "-dNOPAUSE", "-dBATCH", "-sDEVICE=nullpage"],
    ".ai": ["gs", "-q", "-dNOPAUSE", "-dBATCH", "-sDEVICE=nullpage"],
    ".json": ["python3", "-m", "json.tool"],
}
"""Who opens a file that libvips, qpdf or we wrote; each returns an error for one that is torn."""

T = TypeVar("T")


def main(rounds: int, profile: bytes) -> None:
    """Time the steps and print them."""
    spec = PatternSpec(prompt="bench", repeat=Repeat(layout="half-drop").normalise(), model_digest="sha256:0f")
    fields = draw_unit()
    formats = tuple(name for name in get_args(PrintFormat) if name != "tiff-cmyk" or profile)

    def prepare() -> Artwork:
        options = PrintOptions(repeat_mm=346.8, profile="bench" if profile else "")
        fresh = Artwork(fields=fields, palette=PALETTE, spec=spec, size_px=4096, options=options, profile=profile)
        tile = fresh.tile()
        seams = seam_ratio(tile, fields, PALETTE, spec.repeat)
        return fresh.with_gates(f'{{"seams":{seams:.3f}}}', painted=tile)

    artwork = prepare()
    figures: dict[str, object] = {}

    def measure(name: str, work: Callable[[], T]) -> T:
        cpu_s, wall_s, made = best_of(rounds, work)
        figures[f"{name}_s"], figures[f"{name}_wall_s"] = round(cpu_s, 3), round(wall_s, 3)
        return made

    measure("tiff_4096", lambda: encode_tiff(artwork))
    measure("tiff_indexed_4096", lambda: encode_indexed_tiff(artwork))
    measure("tiff_separated_4096", lambda: encode_separated_tiff(artwork))
    picture = draw_picture()
    svg = measure("vector_1024", lambda: vectorise(picture))

    def bundle() -> dict[str, bytes]:
        return {file.name: file.make() for file in plan_files(prepare(), formats)}

    files = measure("bundle_4096", bundle)
    steps = {file.name: best_of(1, file.make)[0] for file in plan_files(artwork, formats)}
    colourway = plan_files(artwork, (), [("#102030", "#f0e0d0")]).others[0]
    measure("colourway_master_4096", colourway.make)
    measure("render_master_4096", lambda: compose_tile(fields, PALETTE, spec.repeat, 4096))
    read = read_by_others(files | {"picture.svg": svg})
    report(
        "finishing",
        {
            **figures,
            "goals": {"tiff_4096_s": 0.5, "vector_1024_s": 1.0, "bundle_4096_s": 6.0},
            "bundle_files": len(files),
            "bundle_bytes": sum(map(len, files.values())),
            "bundle_cpu_s_each": {name: round(seconds, 3) for name, seconds in steps.items()},
            "files_read_by_others": read,
            "seconds_are": "CPU of one thread, best of rounds; *_wall_s by the clock, with all else that runs",
        },
    )


def best_of(rounds: int, work: Callable[[], T]) -> tuple[float, float, T]:
    """Return the least CPU seconds and clock seconds of `rounds`, and what the last one made."""
    cpu_s, wall_s = [], []
    for _ in range(rounds):
        began, cpu_began = time.perf_counter(), time.process_time()
        made = work()
        cpu_s.append(time.process_time() - cpu_began)
        wall_s.append(time.perf_counter() - began)
    return min(cpu_s), min(wall_s), made


def vectorise(picture: np.ndarray) -> bytes:
    """From pixels to outlines in six inks, as for what a user's checkpoint painted."""
    found = quantise(picture, 6)
    indices, _ = drop_picture_specks(smooth_edges(found.indices), 4)
    return trace_picture(indices, found.palette).encode()


def draw_unit() -> Fields:
    """Return the fields of four layers of periodic blobs, as camouflage: long edges, more than most patterns have."""
    layers = [np.clip(_blobs(seed, cover) / BAND_PX, -1, 1) for seed, cover in enumerate((0, -1.5, -3, -4))]
    return np.stack(layers).astype(np.float32)


def draw_picture() -> np.ndarray:
    """Return a 1024 px tile of six colours with the grain of a painting."""
    tile = compose_tile(draw_unit(), PALETTE, Repeat(layout="half-drop").normalise(), 1024)
    spots = np.kron(_blobs(9, -5) > 0, np.ones((1024 // GRID, 1024 // GRID), np.bool_))
    tile[spots] = tuple(bytes.fromhex(SIX[5][1:]))
    grain = np.random.default_rng(1).normal(0, 3, tile.shape)
    return np.clip(tile + grain, 0, 255).astype(np.uint8)


def read_by_others(files: dict[str, bytes]) -> int:
    """Return how many files another program opened. Raises CalledProcessError for one that it refused."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            path = Path(folder) / name
            path.write_bytes(data)
            subprocess.run([*READERS[path.suffix], path.name], cwd=folder, check=True, capture_output=True, timeout=120)
    return len(files)


def _blobs(seed: int, cover_px: float) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((GRID, GRID))
    cycles = np.fft.fftfreq(GRID) * GRID
    power = cycles[:, None] ** 2 + cycles[None, :] ** 2
    smooth = np.fft.ifft2(np.fft.fft2(noise) * np.exp(-power / 12) * (power > 0)).real
    slope = np.hypot(np.roll(smooth, -1, 1) - np.roll(smooth, 1, 1), np.roll(smooth, -1, 0) - np.roll(smooth, 1, 0)) / 2
    return np.asarray(smooth / np.maximum(slope, 0.1 * smooth.std()) * GRID_PX / GRID + cover_px)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", type=Path, help="an ICC profile of a printer: the bundle has a CMYK TIFF, too")
    asked = parser.parse_args()
    main(asked.rounds, asked.profile.read_bytes() if asked.profile else b"")
