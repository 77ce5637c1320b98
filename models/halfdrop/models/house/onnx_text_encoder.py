"""The text encoder as an ONNX graph: the numbers of `net.TextEncoder`, for one prompt without its padding, and of
what the denoiser makes of them before it looks at plates.

Padding is what no token may read, so it is left away before the graph instead of being masked inside: a prompt of eight
words is a quarter of the work of 32 tokens. The last block reads all tokens but writes the registers alone, since
nothing comes after it that asks for the words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from torch import nn

from halfdrop.models.house.inks import FULL_INK_SLOT, GROUND_SLOT, INKS, OVERPRINT
from halfdrop.models.house.net import Denoiser, TextBlock, TextEncoder
from halfdrop.models.house.onnx_denoiser import add_telling
from halfdrop.models.house.onnx_graph import Format, Graph, numbers


def build_text_encoder(
    text_encoder: TextEncoder, formats: Mapping[str, Format], denoiser: Denoiser | None = None
) -> tuple[onnx.ModelProto, list[str]]:
    """Return the graph, and the names of its layers with weights in their order.

    Input: `ids` [1, tokens] int64, at most 32 of them, none of them padding. Outputs: `c` [1, 256] and `palette`
    [1, 5, 3]. With a denoiser also what that is told by the prompt: inputs `t` [levels] and `drop` [1, 4], output
    `told`, see `add_telling`. formats: as of `Graph`, of both networks' layers.
    """
    graph, config = Graph(formats), text_encoder.config
    registers = config.structure_registers + config.palette_registers
    words = graph.add("Gather", graph.constant(numbers(text_encoder.words.weight), "words"), "ids", axis=0)
    length = graph.add("Shape", "ids", start=1)
    all_positions = graph.constant(numbers(text_encoder.positions), "positions")
    positions = graph.add("Slice", all_positions, graph.constant([0]), length)
    placed = graph.add("Add", words, positions)
    tokens = graph.add("Concat", graph.constant(numbers(text_encoder.registers)[None], "registers"), placed, axis=1)
    last = len(text_encoder.blocks) - 1
    for index, block in enumerate(text_encoder.blocks):
        assert isinstance(block, TextBlock)
        tokens = _add_block(graph, f"text.{index}", tokens, block, registers if index == last else 0)
    structure, colours = graph.split(
        _norm(graph, tokens, text_encoder.norm), [config.structure_registers, config.palette_registers], axis=1
    )
    flat = graph.reshape(structure, 1, config.structure_registers * config.width)
    to_condition, to_ink = text_encoder.to_condition, text_encoder.to_ink
    condition = graph.linear("to_condition", flat, numbers(to_condition.weight).T, numbers(to_condition.bias))
    sums = graph.add("Gather", graph.constant(numbers(text_encoder.word_sum.weight), "word_sum"), "ids", axis=0)
    condition = graph.add("Add", condition, graph.add("ReduceSum", sums, graph.constant([1]), keepdims=0))
    scores = graph.linear("to_ink", colours, numbers(to_ink.weight).T, numbers(to_ink.bias))
    palette = _add_palette(graph, scores), (1, config.palette_registers, 3)
    outputs: dict[str, tuple[str, Sequence[int | str]]] = {
        "c": (condition, (1, config.condition_width)),
        "palette": palette,
    }
    inputs: dict[str, tuple[int, Sequence[int | str]]] = {"ids": (int(onnx.TensorProto.INT64), (1, "tokens"))}
    if denoiser is not None:
        inputs |= {"t": (int(onnx.TensorProto.FLOAT), ("levels",)), "drop": (int(onnx.TensorProto.FLOAT), (1, 4))}
        width = (6 * denoiser.config.layers + 2) * denoiser.config.width
        outputs["told"] = add_telling(graph, denoiser, condition), ("levels", width)
    return graph.finish(inputs, outputs), graph.layers


def _add_palette(graph: Graph, scores: str) -> str:
    """Return what `inks.palette_of` makes of the scores."""
    choice = graph.add("ArgMax", scores, axis=2, keepdims=0)
    # An overprint has no ink of its own: the last one stands there until it is replaced.
    inks = graph.constant(np.concatenate([INKS, INKS[-1:]]), "inks")
    palette = graph.add("Gather", inks, choice, axis=0)
    ends = graph.add("Gather", palette, graph.constant([GROUND_SLOT, FULL_INK_SLOT]), axis=1)
    overprint = graph.add("ReduceMean", ends, graph.constant([1]), keepdims=1)
    is_overprint = graph.add("Equal", graph.constant([OVERPRINT]), graph.add("Unsqueeze", choice, graph.constant([2])))
    return graph.add("Where", is_overprint, overprint, palette)


def _add_block(graph: Graph, layer: str, tokens: str, block: TextBlock, kept: int) -> str:
    """Return the tokens [1, n, width] after one block; only the first `kept` of them where that is not 0."""
    width, heads = block.out.in_features, block.heads
    qkv = graph.linear(
        f"{layer}.qkv", _norm(graph, tokens, block.norm_1), numbers(block.qkv.weight).T, numbers(block.qkv.bias)
    )
    query, key, value = graph.split(qkv, [width, width, width], axis=2)
    if kept:
        query, tokens = (_first(graph, each, kept) for each in (query, tokens))
    read = graph.add("Attention", query, key, value, q_num_heads=heads, kv_num_heads=heads)
    out = graph.linear(f"{layer}.out", read, numbers(block.out.weight).T, numbers(block.out.bias))
    tokens = graph.add("Add", tokens, out)
    normed = _norm(graph, tokens, block.norm_2)
    raised = graph.linear(f"{layer}.up", normed, numbers(block.up.weight).T, numbers(block.up.bias))
    raised = graph.add("Gelu", raised, approximate="tanh")
    down = graph.linear(f"{layer}.down", raised, numbers(block.down.weight).T, numbers(block.down.bias))
    return graph.add("Add", tokens, down)


def _first(graph: Graph, tokens: str, count: int) -> str:
    return graph.add("Slice", tokens, graph.constant([0]), graph.constant([count]), graph.constant([1]))


def _norm(graph: Graph, tokens: str, norm: nn.LayerNorm) -> str:
    scale, shift = graph.constant(numbers(norm.weight)), graph.constant(numbers(norm.bias))
    return graph.add("LayerNormalization", tokens, scale, shift, axis=-1, epsilon=norm.eps)
