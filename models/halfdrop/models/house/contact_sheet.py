"""Contact sheets: what the model draws, good and bad, for people to look at.

`python -m halfdrop.models.house.contact_sheet --out FILE` draws the sheet of docs/prompts-24.md: each of the 24 prompts
once, from one seed, by the INT8 student as an edge runs it, laid two by two.

`python -m halfdrop.models.house.contact_sheet --per-kind --out DIR` draws one sheet for each family of kinds, with the
prompt below each picture. They are the gates' own prompts, none left out: a red frame marks what the judge takes for
another kind, or what has an attribute wrong, and the line below says which.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from halfdrop.contracts.repeats import Repeat
from halfdrop.models.bundle import shipped_bundle_dir
from halfdrop.models.fields import choose_palette, tidy_fields
from halfdrop.models.house.classifier import load_judge
from halfdrop.models.house.gates.asking import SEED
from halfdrop.models.house.gates.findings import Finding, read_bundle
from halfdrop.models.house.kinds.catalogue import KINDS
from halfdrop.models.house.prompts import PROMPTS_24
from halfdrop.models.house.report import say
from halfdrop.models.house.sampling import draw_plates, open_session
from halfdrop.models.house.tokenizer import Tokenizer
from halfdrop.models.renderer import compose_tile

SEED_24 = 24
TILE_PX = 192
COLUMNS = 6
GAP_PX = 4
PER_KIND = 6
KIND_TILE_PX = 144
CAPTION_PX, CAPTION_LINE_PX, CAPTION_LETTERS, CAPTION_LINES = 10, 12, 27, 4
FRAME_PX = 3
WHITE, INK, WRONG = (255, 255, 255), (40, 40, 40), (214, 24, 24)

Picture = NDArray[np.uint8]


def draw_contact_sheet(bundle: Path, path: Path) -> None:
    """Draw the 24 prompts with a bundle and write the sheet as a PNG, row by row in the prompts' order."""
    tokenizer = Tokenizer.load(bundle / "tokenizer" / "vocab.json")
    text_session = open_session(bundle / "onnx" / "text_encoder.onnx")
    denoiser_session = open_session(bundle / "onnx" / "denoiser.onnx")
    rows = -(-len(PROMPTS_24) // COLUMNS)
    step = TILE_PX + GAP_PX
    sheet = np.full((rows * step - GAP_PX, COLUMNS * step - GAP_PX, 3), 255, np.uint8)
    for index, prompt in enumerate(PROMPTS_24):
        fields, palette = draw_plates(text_session, denoiser_session, tokenizer.encode(prompt), SEED_24)
        tile = compose_tile(tidy_fields(fields), choose_palette(palette, ()), Repeat(units=2), TILE_PX)
        top, left = index // COLUMNS * step, index % COLUMNS * step
        sheet[top : top + TILE_PX, left : left + TILE_PX] = tile
    _save(Image.fromarray(sheet), path)


def draw_kind_sheets(bundle: Path, folder: Path, *, per_kind: int = PER_KIND, seed: int = SEED) -> list[Path]:
    """Draw one sheet for each family of kinds into a folder, a row for each kind, and return the files."""
    findings = read_bundle(bundle, load_judge(), per_kind=per_kind, seed=seed, with_list=False, on_progress=say)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for family in dict.fromkeys(family_of(kind) for kind in KINDS):
        rows = [[each for each in findings if each.asked.kind == kind] for kind in KINDS if family_of(kind) == family]
        files.append(folder / f"kinds-{family}.png")
        _save(compose_sheet(rows), files[-1])
    return files


def family_of(kind: str) -> str:
    """Return the family of a kind: the module that draws it ("geometric", "florals", "weaves" and so on)."""
    return KINDS[kind].__module__.rpartition(".")[2]


def compose_sheet(rows: Sequence[Sequence[Finding]]) -> Image.Image:
    """Return a sheet with a row for each list: pictures with their captions, what is wrong framed in red."""
    width = KIND_TILE_PX + 2 * FRAME_PX + GAP_PX
    height = width + CAPTION_LINES * CAPTION_LINE_PX
    sheet = Image.new("RGB", (width * max(map(len, rows)), height * len(rows)), WHITE)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(CAPTION_PX)
    for row, findings in enumerate(rows):
        for column, each in enumerate(findings):
            left, top = column * width, row * height
            if not each.is_right:
                right, bottom = left + width - GAP_PX - 1, top + width - GAP_PX - 1
                pen.rectangle((left, top, right, bottom), fill=WRONG)
            tile = compose_tile(each.drawn.fields, each.drawn.palette, each.asked.repeat, KIND_TILE_PX)
            sheet.paste(Image.fromarray(tile), (left + FRAME_PX, top + FRAME_PX))
            lines = caption_lines(each)
            for number, line in enumerate(lines):
                is_blame = not each.is_right and number == len(lines) - 1
                place = (left, top + width - 2 + number * CAPTION_LINE_PX)
                pen.text(place, line, fill=WRONG if is_blame else INK, font=font)
    return sheet


def caption_lines(finding: Finding) -> list[str]:
    """Return the prompt in short lines, and what is wrong with its picture, if anything, in the last one."""
    blame = [] if finding.kind == finding.asked.kind else [f"looks like {finding.kind}"]
    blame += dict.fromkeys(answer.attribute for answer in finding.answers if not answer.is_right)
    room = CAPTION_LINES - bool(blame)
    lines = textwrap.wrap(finding.asked.prompt, CAPTION_LETTERS, max_lines=room, placeholder=" …")
    return lines + (
        [textwrap.shorten("wrong: " + ", ".join(blame), CAPTION_LETTERS + 4, placeholder=" …")] if blame else []
    )


def _save(sheet: Image.Image, path: Path) -> None:
    # A palette of 256 colours holds every plain colour here and keeps the file small.
    sheet.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=shipped_bundle_dir())
    parser.add_argument("--per-kind", action="store_true", help="one sheet for each family of kinds, into a folder")
    parser.add_argument("--seed", type=int, default=SEED, help="of the prompts of --per-kind")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    if chosen.per_kind:
        for file in draw_kind_sheets(chosen.bundle, chosen.out, seed=chosen.seed):
            say(str(file))
    else:
        draw_contact_sheet(chosen.bundle, chosen.out)


if __name__ == "__main__":
    main()
