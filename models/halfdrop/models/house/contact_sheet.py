"""The contact sheet of docs/prompts-24.md: `python -m halfdrop.models.house.contact_sheet --out FILE`.

Each of the 24 prompts once, from one seed, by the INT8 student as an edge runs it, laid two by two.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from halfdrop.contracts.repeats import Repeat
from halfdrop.models.bundle import shipped_bundle_dir
from halfdrop.models.fields import choose_palette, tidy_fields
from halfdrop.models.house.prompts import PROMPTS_24
from halfdrop.models.house.sampling import draw_plates, open_session
from halfdrop.models.house.tokenizer import Tokenizer
from halfdrop.models.renderer import compose_tile

SEED = 24
TILE_PX = 192
COLUMNS = 6
GAP_PX = 4


def draw_contact_sheet(bundle: Path, path: Path) -> None:
    """Draw all prompts with a bundle and write the sheet as a PNG, row by row in the prompts' order."""
    tokenizer = Tokenizer.load(bundle / "tokenizer" / "vocab.json")
    text_session = open_session(bundle / "onnx" / "text_encoder.onnx")
    denoiser_session = open_session(bundle / "onnx" / "denoiser.onnx")
    rows = -(-len(PROMPTS_24) // COLUMNS)
    step = TILE_PX + GAP_PX
    sheet = np.full((rows * step - GAP_PX, COLUMNS * step - GAP_PX, 3), 255, np.uint8)
    for index, prompt in enumerate(PROMPTS_24):
        fields, palette = draw_plates(text_session, denoiser_session, tokenizer.encode(prompt), SEED)
        tile = compose_tile(tidy_fields(fields), choose_palette(palette, ()), Repeat(units=2), TILE_PX)
        top, left = index // COLUMNS * step, index % COLUMNS * step
        sheet[top : top + TILE_PX, left : left + TILE_PX] = tile
    # A palette of 256 colours holds every plain colour here and keeps the file small.
    Image.fromarray(sheet).quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=shipped_bundle_dir())
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    draw_contact_sheet(chosen.bundle, chosen.out)


if __name__ == "__main__":
    main()
