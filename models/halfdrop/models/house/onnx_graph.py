"""A small builder of ONNX graphs, and the one kind of INT8 that the house's graphs use.

The graphs are built node by node, from the operators that ONNX Runtime's CPU provider runs fastest, because an
exporter's graph of the same network has twice as many nodes and reshapes where nothing need move.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor

Floats = NDArray[np.float32]
Format = Literal["int8", "float32"]
"""How a layer's weights are stored and multiplied."""

OPSET, IR_VERSION = 23, 11
MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""

HALVED_FROM = 4096
"""Numbers in a constant from which it is worth a node to keep it in half the bytes."""

SCOPE_END = "/"
"""Stands between a layer's name and that of a node of it."""

PAIR_LIMIT = 127
"""Greatest sum of the magnitudes of two weights next to each other, the two that one instruction adds.

Without VNNI a processor adds both products with 8-bit activations in 16 bits, and saturates beyond 32,767: 255 × 127
stays below. So the fast kernel is exact on every machine, for about half a bit of the weights.
"""


class Graph:
    """Nodes and constants in the making. Values are named by strings; every method adds nodes and returns a name."""

    def __init__(self, formats: Mapping[str, Format]) -> None:
        """Formats: of each layer by its name; INT8 where a layer is not named."""
        self.layers: list[str] = []
        """Layers with weights, in the order they were added."""
        self._formats = formats
        self._scope = ""
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def constant(self, values: NDArray[np.generic] | Sequence[int], name: str = "") -> str:
        """Return the name of a constant; whole numbers of Python become int64.

        The shipped weights are rounded to bfloat16 (`export_bundle`), so large constants in float32 are kept as that
        and widened by a node, which ONNX Runtime does once, when it opens the file: half the bytes, the same numbers.
        """
        name, array = name or f"constant_{len(self._constants)}", np.ascontiguousarray(values)
        if array.dtype == np.float32 and array.size >= HALVED_FROM and not (array.view(np.uint32) & 0xFFFF).any():
            halves = (array.view(np.uint32) >> 16).astype("<u2").tobytes()
            kept = f"{name}.bfloat16"
            self._constants[kept] = helper.make_tensor(kept, onnx.TensorProto.BFLOAT16, array.shape, halves, raw=True)
            return self.add("Cast", kept, to=onnx.TensorProto.FLOAT)
        self._constants[name] = numpy_helper.from_array(array, name)
        return name

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output."""
        return self.add_many(operator, *inputs, outputs=1, domain=domain, **attributes)[0]

    def add_many(self, operator: str, *inputs: str, outputs: int, domain: str = "", **attributes: Any) -> Sequence[str]:
        """Add a node with several outputs."""
        name = f"{self._scope}{operator}_{len(self._nodes)}"
        names = [f"{name}.{place}" for place in range(outputs)]
        self._nodes.append(helper.make_node(operator, inputs, names, name, domain=domain, **attributes))
        return names

    def split(self, value: str, sizes: Sequence[int], axis: int) -> Sequence[str]:
        """Cut a value along an axis."""
        return self.add_many("Split", value, self.constant(sizes), outputs=len(sizes), axis=axis)

    def reshape(self, value: str, *shape: int) -> str:
        """Give a value another shape."""
        return self.add("Reshape", value, self.constant(shape))

    def silu(self, value: str) -> str:
        """x times its logistic."""
        return self.add("QuickGelu", value, domain=MICROSOFT, alpha=1.0)

    def linear(self, layer: str, value: str, weight: Floats, bias: Floats | None, gate: str = "") -> str:
        """Multiply the last axis by weight [in, out], add a bias [out], and scale by a gate [out] that is no constant.

        In INT8 the weights have a scale for each output, and the value is rounded to 8 bits by its own range.
        """
        with self._within(layer):
            if self._formats.get(layer, "int8") == "float32":
                product = self.add("MatMul", value, self.constant(weight, f"{layer}.weight"))
                if bias is not None:
                    product = self.add("Add", product, self.constant(bias, f"{layer}.bias"))
                return self.add("Mul", product, gate) if gate else product
            rounded, scale, zeros = self._rounded(layer, weight)
            offset = "" if bias is None else self.constant(bias, f"{layer}.bias")
            if gate:  # two products of vectors instead of one with every row
                assert offset
                scale, offset = self.add("Mul", gate, scale), self.add("Mul", gate, offset)
            return self.add("DynamicQuantizeMatMul", value, rounded, scale, zeros, offset, domain=MICROSOFT)

    def linear_parts(self, layer: str, value: str, weight: Floats, bias: Floats, parts: int) -> Sequence[str]:
        """Multiply the last axis as `linear` does, in as many products as the outputs are wanted in parts.

        In INT8 the value is rounded once for all of them; to cut one product apart would take longer.
        """
        with self._within(layer):
            if self._formats.get(layer, "int8") == "int8":
                rounded, scale, zero = self.add_many("DynamicQuantizeLinear", value, outputs=3)
            values = []
            for part, (weights, offsets) in enumerate(
                zip(np.split(weight, parts, axis=1), np.split(bias, parts), strict=True)
            ):
                offset = self.constant(offsets, f"{layer}.{part}.bias")
                if self._formats.get(layer, "int8") == "float32":
                    product = self.add("MatMul", value, self.constant(weights, f"{layer}.{part}.weight"))
                    values.append(self.add("Add", product, offset))
                else:
                    whole, scales, zeros = self._rounded(f"{layer}.{part}", weights)
                    inputs = (rounded, whole, scale, scales, zero, zeros, offset)
                    values.append(self.add("MatMulIntegerToFloat", *inputs, domain=MICROSOFT))
            return values

    def linear_of_rows(
        self, layer: str, value: str, rows: str, shape: Sequence[int], *, weight: Floats, bias: Floats
    ) -> str:
        """Multiply rows picked from a value [n, in] and laid side by side; `shape` is what they make together.

        In INT8 the value is rounded before its rows are picked, since a row is picked many times.
        """
        with self._within(layer):
            if self._formats.get(layer, "int8") == "float32":
                picked = self.reshape(self.add("Gather", value, rows, axis=0), *shape)
                product = self.add("MatMul", picked, self.constant(weight, f"{layer}.weight"))
                return self.add("Add", product, self.constant(bias, f"{layer}.bias"))
            rounded, scale, zero = self.add_many("DynamicQuantizeLinear", value, outputs=3)
            picked = self.reshape(self.add("Gather", rounded, rows, axis=0), *shape)
            weights, scales, zeros = self._rounded(layer, weight)
            inputs = (picked, weights, scale, scales, zero, zeros, self.constant(bias, f"{layer}.bias"))
            return self.add("MatMulIntegerToFloat", *inputs, domain=MICROSOFT)

    def finish(
        self,
        inputs: Mapping[str, tuple[int, Sequence[int | str]]],
        outputs: Mapping[str, tuple[str, Sequence[int | str]]],
    ) -> onnx.ModelProto:
        """Return the model. inputs: element type and shape by name. outputs: value and shape by the name to give it."""
        results = []
        for name, (value, shape) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [value], [name], f"output_{name}"))
            results.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
        given = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
        graph = helper.make_graph(self._nodes, "halfdrop", given, results, list(self._constants.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="halfdrop")

    @contextmanager
    def _within(self, layer: str) -> Iterator[None]:
        """Take down a layer, and call the nodes that are added meanwhile by its name, as a profile will."""
        assert layer not in self.layers, layer
        self.layers.append(layer)
        self._scope = layer + SCOPE_END
        yield
        self._scope = ""

    def _rounded(self, layer: str, weight: Floats) -> tuple[str, str, str]:
        rounded, scale = round_weight(weight)
        return (
            self.constant(rounded, f"{layer}.weight"),
            self.constant(scale, f"{layer}.scale"),
            self.constant(np.zeros(len(scale), np.int8), f"{layer}.zero"),
        )


def round_weight(weight: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Return weight [in, out] as whole numbers and the scale [out] that they are to be multiplied by."""
    assert len(weight) % 2 == 0, f"weights are bounded in pairs; got {len(weight)} inputs"
    magnitudes = np.abs(weight).astype(np.float64)
    # Rounding may lift each of a pair by a half.
    scale = np.maximum((magnitudes[::2] + magnitudes[1::2]).max(axis=0) / (PAIR_LIMIT - 1), 1e-12).astype(np.float32)
    return np.rint(weight / scale).astype(np.int8), scale


def numbers(parameter: Tensor | None) -> Floats:
    """Return a parameter as an array."""
    assert parameter is not None
    return parameter.detach().float().cpu().numpy()
