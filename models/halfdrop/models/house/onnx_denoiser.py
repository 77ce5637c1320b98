"""The denoiser as an ONNX graph: the numbers of `net.Denoiser`, for one unit, in few nodes.

What differs from the network is where numbers lie (`cell_rows`): reshapes and shuffles of pixels become a fixed order
of the weights, convolutions products with picked rows, and what a block is told the scale and offset of its norms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx
from torch import nn

from halfdrop.models.house.cell_rows import BORDER, CELL_VALUES, CELLS, NEIGHBOURS, TOKEN_CELLS
from halfdrop.models.house.net import Denoiser, DenoiserBlock, WrappingConv
from halfdrop.models.house.onnx_graph import MICROSOFT, Floats, Format, Graph, numbers
from halfdrop.models.house.torus import HEAD_WIDTH, SIDE, TOKENS

NORM_EPSILON = 1e-5
"""That of torch's layer_norm."""
LEVEL_FEATURES = 64
"""Sines, and as many cosines, of a noise level."""


class _Told(NamedTuple):
    """What a block is told, each a vector: scale (one is none) and shift of a norm, and the gate of what is added."""

    scale_1: str
    shift_1: str
    gate_1: str
    scale_2: str
    shift_2: str
    gate_2: str


def build_denoiser(
    denoiser: Denoiser, formats: Mapping[str, Format], *, is_told: bool = True
) -> tuple[onnx.ModelProto, list[str]]:
    """Return the graph, and the names of its layers with weights in their order.

    Inputs: `z` [256, 64], the noisy rows of cells; `told`, a row of what `add_telling` returns; and of
    `lattice_inputs` ring, cos and sin. Output: `x` [256, 64], the clean rows. formats: as of `Graph`.

    is_told: if false, the telling is part of the graph, and its inputs take the place of `told`: `t` [1], the noise
    level; `c` [1, 256], the condition; and `drop` [1, 4]. An edge has it in the graph of its text encoder, which runs
    once for a drawing and tells for all its levels at once.
    """
    graph, config, tokens = Graph(formats), denoiser.config, TOKENS * TOKENS
    # 1. stem: [256, 64]; four rows of it are a token
    stem = graph.silu(_convolve(graph, "stem", "z", denoiser.stem))
    gathered = graph.reshape(stem, 1, tokens, TOKEN_CELLS * config.stem_width)
    weight = _by_cell(numbers(denoiser.to_tokens.weight).T, config.stem_width)
    entered = graph.linear("to_tokens", gathered, weight, numbers(denoiser.to_tokens.bias))
    state = graph.add("Add", entered, graph.constant(numbers(denoiser.positions)[None], "positions"))
    # 2. what every block is told, and the blocks
    vectors, count = len(_Told._fields) * config.layers + 2, config.width
    whole = "told" if is_told else graph.reshape(add_telling(graph, denoiser, "c"), vectors * count)
    told = graph.split(whole, [count] * vectors, axis=0)
    out_scale, out_shift = told[-2:]
    for index, block in enumerate(denoiser.blocks):
        assert isinstance(block, DenoiserBlock)
        first = index * len(_Told._fields)
        block_told = _Told(*told[first : first + len(_Told._fields)])
        state = _add_block(graph, f"blocks.{index}", state, block, block_told)
    # 3. back to [256, 64], refined beside the stem's own view, and out
    normed = _norm(graph, state, out_scale, out_shift)
    weight = _by_cell(numbers(denoiser.from_tokens.weight), config.stem_width).T
    bias = _by_cell(numbers(denoiser.from_tokens.bias), config.stem_width)
    drawn = graph.reshape(graph.linear("from_tokens", normed, weight, bias), CELLS, config.stem_width)
    both = graph.add("Concat", drawn, stem, axis=1)
    drawn = graph.silu(_convolve(graph, "head_1", both, denoiser.head_1))
    drawn = graph.add("Add", drawn, graph.silu(_convolve(graph, "head_2", drawn, denoiser.head_2)))
    weight = numbers(denoiser.head_out.weight)[:, :, 0, 0].T
    clean = graph.linear("head_out", drawn, weight, numbers(denoiser.head_out.bias))
    inputs: dict[str, Sequence[int | str]] = {
        "z": (CELLS, CELL_VALUES),
        "ring": (4 * SIDE + 4, len(BORDER)),
        "cos": (tokens, HEAD_WIDTH // 2),
        "sin": (tokens, HEAD_WIDTH // 2),
    }
    if is_told:
        inputs["told"] = (vectors * count,)
    else:
        inputs |= {"t": (1,), "c": (1, config.condition_width), "drop": (1, 4)}
    kinds = {name: (int(onnx.TensorProto.FLOAT), shape) for name, shape in inputs.items()}
    return graph.finish(kinds, {"x": (clean, (CELLS, CELL_VALUES))}), graph.layers


def add_telling(graph: Graph, denoiser: Denoiser, condition: str) -> str:
    """Add what the denoiser's norms and gates are told, [levels, vectors × width]: a row for each of the levels `t`.

    Reads `t` [levels] and `drop` [1, 4], which are inputs of the graph, and the condition [1, 256]. A row holds six
    vectors for each block, in the order of `_Told`, and scale and shift of the last norm.
    """
    blocks = [block for block in denoiser.blocks if isinstance(block, DenoiserBlock)]
    turns = 100 * np.exp(-math.log(1e3) * np.arange(LEVEL_FEATURES) / LEVEL_FEATURES)
    angles = graph.add("Mul", graph.reshape("t", -1, 1), graph.constant(turns[None].astype(np.float32)))
    level = graph.add("Concat", graph.add("Cos", angles), graph.add("Sin", angles), axis=1)
    first, _, second = denoiser.time_mlp
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    level = graph.silu(graph.linear("time_1", level, numbers(first.weight).T, numbers(first.bias)))
    level = graph.linear("time_2", level, numbers(second.weight).T, numbers(second.bias))
    prompt = denoiser.condition_in
    entered = graph.linear("condition", condition, numbers(prompt.weight).T, numbers(prompt.bias))
    # Straight from a constant: four numbers are not worth rounding.
    drop = graph.add("MatMul", "drop", graph.constant(numbers(denoiser.drop_in.weight).T, "drop_in"))
    told = graph.silu(graph.add("Add", level, graph.add("Add", entered, drop)))
    narrow = np.concatenate([numbers(block.modulation_in.weight) for block in blocks]).T
    sizes = [denoiser.config.modulation_rank] * len(blocks)
    shares = graph.split(graph.linear("modulation_in", told, narrow, None), sizes, axis=1)
    rows = []
    for index, (share, block) in enumerate(zip(shares, blocks, strict=True)):
        rows.append(_modulate(graph, f"blocks.{index}.modulation", share, block.modulation_out, (1, 0, 1, 1, 0, 1)))
    rows.append(_modulate(graph, "out_modulation", told, denoiser.out_modulation, (1, 0)))
    return graph.add("Concat", *rows, axis=1)


def _modulate(graph: Graph, layer: str, told: str, linear: nn.Linear, ones: Sequence[int]) -> str:
    """Return as many vectors as `ones`, which says what is added to each."""
    bias = numbers(linear.bias) + np.repeat(np.array(ones, np.float32), linear.out_features // len(ones))
    return graph.linear(layer, told, numbers(linear.weight).T, bias)


def _convolve(graph: Graph, layer: str, rows: str, convolution: WrappingConv) -> str:
    """Convolve rows of cells [256, in]: what stands round them is the ring's share of those on the border."""
    border = graph.add("Gather", rows, graph.constant(BORDER, "border"), axis=0)
    padded = graph.add("Concat", rows, graph.add("MatMul", "ring", border), axis=0)
    kernel = numbers(convolution.weight)
    weight = kernel.transpose(2, 3, 1, 0).reshape(-1, len(kernel))
    picked = graph.constant(NEIGHBOURS, "neighbours")
    shape, bias = (CELLS, len(weight)), numbers(convolution.bias)
    return graph.linear_of_rows(layer, padded, picked, shape, weight=weight, bias=bias)


def _add_block(graph: Graph, layer: str, state: str, block: DenoiserBlock, told: _Told) -> str:
    """Return the state [1, 64, width] after one block."""
    heads = block.heads
    normed = _norm(graph, state, told.scale_1, told.shift_1)
    weight, bias = numbers(block.qkv.weight).T, numbers(block.qkv.bias)
    query, key, value = graph.linear_parts(f"{layer}.qkv", normed, weight, bias, 3)
    places = graph.constant(np.arange(TOKENS * TOKENS)[None], "places")
    query, key = (
        graph.add("RotaryEmbedding", each, places, "cos", "sin", domain=MICROSOFT, num_heads=heads)
        for each in (query, key)
    )
    read = graph.add("Attention", query, key, value, q_num_heads=heads, kv_num_heads=heads)
    out = graph.linear(f"{layer}.out", read, numbers(block.out.weight).T, numbers(block.out.bias), told.gate_1)
    state = graph.add("Add", state, out)
    normed = _norm(graph, state, told.scale_2, told.shift_2)
    raised = graph.linear(f"{layer}.up", normed, numbers(block.up.weight).T, numbers(block.up.bias))
    raised = graph.add("Gelu", raised, approximate="tanh")
    down = graph.linear(f"{layer}.down", raised, numbers(block.down.weight).T, numbers(block.down.bias), told.gate_2)
    return graph.add("Add", state, down)


def _norm(graph: Graph, value: str, scale: str, shift: str) -> str:
    """Layer norm with a scale and shift that are no constants. SkipLayerNormalization would also do the sum before
    it, in six times the time."""
    return graph.add("LayerNormalization", value, scale, shift, axis=-1, epsilon=NORM_EPSILON)


def _by_cell(weight: Floats, channels: int) -> Floats:
    """Order the first axis, [channels × 4 cells] as torch's pixel shuffles count, by cell and then by channel."""
    apart = weight.reshape(channels, TOKEN_CELLS, *weight.shape[1:])
    return np.ascontiguousarray(apart.swapaxes(0, 1)).reshape(weight.shape)
