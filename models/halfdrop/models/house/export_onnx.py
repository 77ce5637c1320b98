"""The student as ONNX files for the edge, in INT8: `python -m halfdrop.models.house.export_onnx --measure`.

The command prints what each layer costs in either format on this machine and how far INT8 takes the plates from
float32; `onnx_formats` says how the choice is made.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import onnx

from halfdrop.models.bundle import shipped_bundle_dir
from halfdrop.models.house.net import Denoiser, TextEncoder, load_student
from halfdrop.models.house.onnx_denoiser import build_denoiser
from halfdrop.models.house.onnx_formats import TEXT_NO_FASTER, choose_formats, measure
from halfdrop.models.house.onnx_graph import Format
from halfdrop.models.house.onnx_text_encoder import build_text_encoder
from halfdrop.models.house.report import say

TEXT_ENCODER_FILE, DENOISER_FILE = "text_encoder.onnx", "denoiser.onnx"


def export_networks(
    text_encoder: TextEncoder, denoiser: Denoiser, folder: Path, formats: Mapping[str, Format] | None = None
) -> None:
    """Write the graphs of `build_text_encoder` and `build_denoiser` to a folder that is there.

    formats: of the denoiser's layers by their names, and of the text encoder's; chosen for these weights if left out.
    """
    text_encoder, denoiser = text_encoder.eval(), denoiser.eval()
    if formats is None:
        formats = {**dict.fromkeys(TEXT_NO_FASTER, "float32"), **choose_formats(denoiser)}
    _save(build_text_encoder(text_encoder, formats, denoiser)[0], folder / TEXT_ENCODER_FILE)
    _save(build_denoiser(denoiser, formats)[0], folder / DENOISER_FILE)


def _save(model: onnx.ModelProto, path: Path) -> None:
    onnx.checker.check_model(model)
    onnx.save(model, path)


def main() -> None:
    """Read the command line, and export or measure a bundle's student."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=shipped_bundle_dir(), help="whose safetensors are read")
    parser.add_argument("--measure", action="store_true", help="print each layer's cost instead of writing files")
    parser.add_argument("--out", type=Path, help="folder to write text_encoder.onnx and denoiser.onnx to")
    chosen = parser.parse_args()
    if not chosen.measure and chosen.out is None:
        parser.error("nothing to do: give --measure, or --out and a folder")
    text_encoder, denoiser = load_student(chosen.bundle)
    if chosen.measure:
        say(f"{'layer':22} {'float32 µs':>10} {'INT8 µs':>10} {'alone dB':>10}  chosen")
        for cost in measure(denoiser):
            say(f"{cost.layer:22} {cost.float32_us:10.0f} {cost.int8_us:10.0f} {cost.alone_db:10.1f}  {cost.chosen}")
    if chosen.out is not None:
        chosen.out.mkdir(parents=True, exist_ok=True)
        export_networks(text_encoder, denoiser, chosen.out)


if __name__ == "__main__":
    main()
