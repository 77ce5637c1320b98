"""The student as ONNX files for the edge, in INT8.

Only the products with weights become INT8 (dynamic, per channel): they are nine tenths of the time, and a transformer
of this kind keeps above 40 dB. Convolutions stay float32: dynamic INT8 makes them slower.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from onnxruntime.quantization import (  # type: ignore[import-untyped]  # it ships no types
    QuantType,
    quantize_dynamic,
)
from torch import nn

from halfdrop.models.house.net import Denoiser, TextEncoder

OPSET = 20
BATCH_MAX = 64
INT8_OPERATORS = ["MatMul", "Gemm"]


def export_text_encoder(text_encoder: TextEncoder, path: Path, float_path: Path | None = None) -> None:
    """Write `ids` [batch, 32] int64 to `c` [batch, 256] and `palette` [batch, 5, 3]; float_path as below."""
    ids = torch.tensor([[2, 3] + [0] * (text_encoder.config.length - 2)] * 2)
    batch = torch.export.Dim("batch", min=1, max=BATCH_MAX)
    with tempfile.TemporaryDirectory() as folder:
        exported, bare = Path(folder) / "exported.onnx", float_path or Path(folder) / "bare.onnx"
        _export(
            text_encoder,
            (ids,),
            exported,
            input_names=["ids"],
            output_names=["c", "palette"],
            shapes={"ids": {0: batch}},
        )
        _without_shapes(exported, bare)
        _quantize(bare, path)


def export_denoiser(denoiser: Denoiser, path: Path, float_path: Path | None = None) -> None:
    """Write `z` [batch, 4, 64, 64], `t` [batch] and `c` [batch, 256] to the clean `x`, in INT8.

    float_path: where to leave the float32 model too, for measuring what INT8 costs.
    """
    config = denoiser.config
    shape = (2, config.plates, config.grid, config.grid)
    inputs = (torch.randn(shape), torch.tensor([0.7, 0.3]), torch.randn(2, config.condition_width))
    batch = torch.export.Dim("batch", min=1, max=BATCH_MAX)
    shapes = {"plates": {0: batch}, "level": {0: batch}, "condition": {0: batch}}
    with tempfile.TemporaryDirectory() as folder:
        exported, bare = Path(folder) / "exported.onnx", float_path or Path(folder) / "bare.onnx"
        _export(denoiser, inputs, exported, input_names=["z", "t", "c"], output_names=["x"], shapes=shapes)
        _without_shapes(exported, bare)
        _quantize(bare, path)


def _quantize(source: Path, target: Path) -> None:
    quantize_dynamic(source, target, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=INT8_OPERATORS)


def _export(
    module: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    path: Path,
    *,
    input_names: list[str],
    output_names: list[str],
    shapes: Mapping[str, Mapping[int, object]],
) -> None:
    torch.onnx.export(
        module.eval(),
        inputs,
        str(path),
        input_names=input_names,
        output_names=output_names,
        dynamo=True,
        opset_version=OPSET,
        external_data=False,
        dynamic_shapes={name: dict(axes) for name, axes in shapes.items()},
        verbose=False,
    )


def _without_shapes(source: Path, target: Path) -> None:
    """Copy a model without its recorded inner shapes: the exporter's are in the way of the quantizer."""
    model = onnx.load(source)
    del model.graph.value_info[:]
    # Doc strings and metadata hold the exporter's stack traces: paths of the machine, and half the file.
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    onnx.save(model, target)
