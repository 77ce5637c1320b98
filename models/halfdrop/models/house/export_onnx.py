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
from halfdrop.models.house.onnx_formats import choose_formats, measure
from halfdrop.models.house.onnx_graph import Format
from halfdrop.models.house.onnx_text_encoder import build_text_encoder
from halfdrop.models.house.report import say


def export_text_encoder(text_encoder: TextEncoder, path: Path, float_path: Path | None = None) -> None:
    """Write the graph of `build_text_encoder`, its products in INT8; float_path as below."""
    text_encoder = text_encoder.eval()
    model, layers = build_text_encoder(text_encoder, {})
    _save(model, path)
    if float_path is not None:
        _save(build_text_encoder(text_encoder, dict.fromkeys(layers, "float32"))[0], float_path)


def export_denoiser(
    denoiser: Denoiser, path: Path, float_path: Path | None = None, formats: Mapping[str, Format] | None = None
) -> None:
    """Write the graph of `build_denoiser`.

    float_path: where to leave the float32 graph too, for measuring what INT8 costs. formats: of layers by their names;
    chosen for these weights if left out.
    """
    denoiser = denoiser.eval()
    model, layers = build_denoiser(denoiser, choose_formats(denoiser) if formats is None else formats)
    _save(model, path)
    if float_path is not None:
        _save(build_denoiser(denoiser, dict.fromkeys(layers, "float32"))[0], float_path)


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
        export_text_encoder(text_encoder, chosen.out / "text_encoder.onnx")
        export_denoiser(denoiser, chosen.out / "denoiser.onnx")


if __name__ == "__main__":
    main()
