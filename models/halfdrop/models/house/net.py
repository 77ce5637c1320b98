"""The two networks of the house model: a text encoder and a denoiser of plates.

The text encoder turns 32 tokens into one condition vector (what to draw) and five colours (how to print it).
The denoiser is a small diffusion transformer that predicts the clean plates: a convolutional stem and head that
wrap round the torus of the unit's lattice, and between them 64 tokens (patches of 8 by 8) with rotary positions of the
same torus. A learned position beside the rotary one anchors the unit: motifs stand in its middle.

Needs torch and safetensors alone, so that it also trains on a machine that has nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from halfdrop.models.house.inks import CHOICES
from halfdrop.models.house.torus import HEAD_WIDTH, SIDE, STRAIGHT, TOKENS, Torus, torus_of


@dataclass(frozen=True, kw_only=True, slots=True)
class TextEncoderConfig:
    """Sizes of the text encoder; all of them are written to its config.json."""

    vocabulary_size: int
    length: int = 32
    width: int = 128
    layers: int = 2
    heads: int = 4
    condition_width: int = 256
    structure_registers: int = 4
    """Learned tokens whose states become the condition vector."""
    palette_registers: int = 5
    """Learned tokens whose states become the colours: ground and layers 1 to 4."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DenoiserConfig:
    """Sizes of the denoiser; all of them are written to its config.json."""

    plates: int = 4
    grid: int = 64
    patch: int = 8
    width: int = 256
    layers: int = 6
    heads: int = 8
    mlp_ratio: int = 3
    stem_width: int = 64
    condition_width: int = 256
    modulation_rank: int = 96
    """Width between the condition and each block's scales and shifts: keeps the shipped weights small."""


class TorusTensors(NamedTuple):
    """`Torus` in torch, with a first dimension for the batch, or of 1 where all units share a lattice."""

    ring: Tensor
    """[batch, 68, 256]."""
    cos: Tensor
    """[batch, 1, 64, 32]; the 1 is for the heads."""
    sin: Tensor
    drop: Tensor
    """[batch, 4]."""


def torus_tensors(tori: Sequence[Torus], device: str | torch.device = "cpu") -> TorusTensors:
    """Return the tori of a batch of units, or a single one for all of them."""
    ring, cos, sin, drop = (torch.from_numpy(np.stack(part)).to(device) for part in zip(*tori, strict=True))
    return TorusTensors(ring=ring, cos=cos[:, None], sin=sin[:, None], drop=drop)


class TextEncoder(nn.Module):
    """Token numbers [batch, 32] to a condition [batch, 256] and scores [batch, 5, 103] of what each colour may be.

    `inks.palette_of` makes a palette of the scores.
    """

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        registers = config.structure_registers + config.palette_registers
        self.words = nn.Embedding(config.vocabulary_size, config.width, padding_idx=0)
        self.positions = nn.Parameter(torch.randn(config.length, config.width) * 0.02)
        self.registers = nn.Parameter(torch.randn(registers, config.width) * 0.3)
        self.blocks = nn.ModuleList([TextBlock(config.width, config.heads) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(config.width)
        self.to_condition = nn.Linear(config.structure_registers * config.width, config.condition_width)
        self.word_sum = nn.Embedding(config.vocabulary_size, config.condition_width, padding_idx=0)
        nn.init.zeros_(self.word_sum.weight)
        self.to_ink = nn.Linear(config.width, CHOICES)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        batch, registers = ids.shape[0], self.registers.shape[0]
        tokens = torch.cat([self.registers.expand(batch, -1, -1), self.words(ids) + self.positions], 1)
        always = torch.ones(batch, registers, dtype=torch.bool, device=ids.device)
        mask = torch.cat([always, ids.ne(0)], 1)[:, None, None]
        for block in self.blocks:
            tokens = block(tokens, mask)
        tokens = self.norm(tokens)
        structure = self.config.structure_registers
        # Most of a unit's structure is in its words, whatever their order: a plain sum tells the denoiser of them long
        # before the blocks have learnt to.
        condition = self.to_condition(tokens[:, :structure].flatten(1)) + self.word_sum(ids).sum(1)
        return condition, self.to_ink(tokens[:, structure:registers])


class TextBlock(nn.Module):
    """One pre-norm transformer block; mask [batch, 1, 1, tokens] is true where a token may be read."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        query, key, value = _split_heads(self.qkv(self.norm_1(tokens)), self.heads)
        read = _attend(query, key, value, mask)
        tokens = tokens + self.out(read.transpose(1, 2).flatten(2))
        hidden: Tensor = functional.gelu(self.up(self.norm_2(tokens)), approximate="tanh")
        written: Tensor = tokens + self.down(hidden)
        return written


class Denoiser(nn.Module):
    """Noisy plates [batch, 4, 64, 64], noise level [batch] (1: all noise), condition [batch, 256] to clean plates.

    `torus` is that of the lattice the unit is drawn for; the straight one where none is given. `unconditional` is the
    condition of no prompt at all; it takes a caption's place in a tenth of training.
    """

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        stem, width, tokens = config.stem_width, config.width, config.grid // config.patch
        assert (tokens, config.grid // 4, width // config.heads) == (TOKENS, SIDE, HEAD_WIDTH), "what the torus is for"
        self.stem = WrappingConv(16 * config.plates, stem)
        self.to_tokens = nn.Linear(4 * stem, width)
        self.positions = nn.Parameter(torch.randn(tokens * tokens, width) * 0.02)
        self.time_mlp = nn.Sequential(nn.Linear(128, width), nn.SiLU(), nn.Linear(width, width))
        self.condition_in = nn.Linear(config.condition_width, width)
        self.drop_in = nn.Linear(4, width, bias=False)
        self.unconditional = nn.Parameter(torch.randn(config.condition_width) * 0.3)
        self.blocks = nn.ModuleList([DenoiserBlock(config) for _ in range(config.layers)])
        self.out_modulation = nn.Linear(width, 2 * width)
        self.from_tokens = nn.Linear(width, 4 * stem)
        self.head_1, self.head_2 = WrappingConv(2 * stem, stem), WrappingConv(stem, stem)
        self.head_out = nn.Conv2d(stem, 16 * config.plates, 1)
        nn.init.zeros_(self.drop_in.weight)
        for layer in (self.head_out, self.out_modulation):
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, plates: Tensor, level: Tensor, condition: Tensor, torus: TorusTensors | None = None) -> Tensor:
        batch, side = plates.shape[0], self.config.grid // self.config.patch
        torus = torus or torus_tensors([torus_of(STRAIGHT)], plates.device)
        ring, cos, sin = (part.to(plates.dtype) for part in torus[:3])
        # 1. stem: [batch, 64, 16, 16], then a token for each 2 by 2 of it
        stem = functional.silu(self.stem(functional.pixel_unshuffle(plates, 4), ring))
        tokens = self.to_tokens(functional.pixel_unshuffle(stem, 2).flatten(2).transpose(1, 2)) + self.positions
        # 2. what every block is told: the noise level, the prompt and the drop
        told = self.time_mlp(_level_features(level).to(tokens.dtype)) + self.condition_in(condition)
        told = functional.silu(told + self.drop_in(torus.drop.to(tokens.dtype)))
        for block in self.blocks:
            tokens = block(tokens, told, cos, sin)
        # 3. back to [batch, 64, 16, 16], refined beside the stem's own view, and out to pixels
        scale, shift = self.out_modulation(told)[:, None].chunk(2, -1)
        tokens = self.from_tokens(functional.layer_norm(tokens, tokens.shape[-1:]) * (1 + scale) + shift)
        drawn = functional.pixel_shuffle(tokens.transpose(1, 2).reshape(batch, -1, side, side), 2)
        drawn = functional.silu(self.head_1(torch.cat([drawn, stem], 1), ring))
        drawn = drawn + functional.silu(self.head_2(drawn, ring))
        return functional.pixel_shuffle(self.head_out(drawn), 4)


class DenoiserBlock(nn.Module):
    """Attention and MLP over the unit's tokens, both scaled and shifted by what the block is told."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up = nn.Linear(width, config.mlp_ratio * width)
        self.down = nn.Linear(config.mlp_ratio * width, width)
        self.modulation_in = nn.Linear(width, config.modulation_rank, bias=False)
        self.modulation_out = nn.Linear(config.modulation_rank, 6 * width)
        nn.init.zeros_(self.modulation_out.weight)
        nn.init.zeros_(self.modulation_out.bias)

    def forward(self, tokens: Tensor, told: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        modulation = self.modulation_out(self.modulation_in(told))[:, None]
        scale_1, shift_1, gate_1, scale_2, shift_2, gate_2 = modulation.chunk(6, -1)
        normed = functional.layer_norm(tokens, tokens.shape[-1:]) * (1 + scale_1) + shift_1
        query, key, value = _split_heads(self.qkv(normed), self.heads)
        read = _attend(_rotate(query, cos, sin), _rotate(key, cos, sin), value)
        tokens = tokens + (1 + gate_1) * self.out(read.transpose(1, 2).flatten(2))
        normed = functional.layer_norm(tokens, tokens.shape[-1:]) * (1 + scale_2) + shift_2
        written = self.down(functional.gelu(self.up(normed), approximate="tanh"))
        gated: Tensor = tokens + (1 + gate_2) * written
        return gated


class WrappingConv(nn.Conv2d):
    """A 3 by 3 convolution on a lattice's torus: `ring` [batch or 1, 68, 256] says what stands round the 16 by 16
    cells. It pads by itself: no exporter or loader can lose the wrapping."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 3)

    def forward(self, cells: Tensor, ring: Tensor) -> Tensor:  # type: ignore[override]  # it has a ring more
        around = (cells.flatten(2) @ ring.transpose(1, 2)).to(cells.dtype)
        above, left, right, below = torch.split(around, [SIDE + 2, SIDE, SIDE, SIDE + 2], 2)
        middle = torch.cat([left[..., None], cells, right[..., None]], 3)
        padded = torch.cat([above[:, :, None], middle, below[:, :, None]], 2)
        return functional.conv2d(padded, self.weight, self.bias)


def _split_heads(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values, each [batch, heads, tokens, width of a head]."""
    batch, tokens, width = qkv.shape
    query, key, value = qkv.view(batch, tokens, 3, heads, width // 3 // heads).permute(2, 0, 3, 1, 4)
    return query, key, value


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return what each token reads. Written out: torch's fused attention is three times slower on a CPU here,
    because its backward pass is not made for 64 tokens."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    read: Tensor = scores.softmax(-1).to(value.dtype) @ value
    return read


def _rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = heads.shape[-1] // 2
    return heads * cos + torch.cat([-heads[..., half:], heads[..., :half]], -1) * sin


def _level_features(level: Tensor, width: int = 128) -> Tensor:
    """Return sines and cosines [batch, width] of a noise level."""
    half = width // 2
    frequencies = torch.exp(-math.log(1e3) * torch.arange(half, device=level.device) / half)
    angles = level[:, None].float() * 100 * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1)


def parameter_count(*modules: nn.Module) -> int:
    """Return how many numbers the modules were trained to."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def config_json(config: TextEncoderConfig | DenoiserConfig, class_name: str) -> str:
    """Return a config as diffusers writes it: the class's name, then its sizes."""
    return json.dumps({"_class_name": class_name, **asdict(config)}, indent=2) + "\n"


def load_student(bundle: Path) -> tuple[TextEncoder, Denoiser]:
    """Read the shipped student from a bundle's directory, in float32 and evaluation mode.

    Raises FileNotFoundError for an incomplete bundle and RuntimeError for weights of another shape.
    """
    text_encoder = TextEncoder(TextEncoderConfig(**_read_config(bundle / "text_encoder")))
    denoiser = Denoiser(DenoiserConfig(**_read_config(bundle / "denoiser")))
    _load_weights(text_encoder, bundle / "text_encoder" / "model.safetensors")
    _load_weights(denoiser, bundle / "denoiser" / "diffusion_pytorch_model.safetensors")
    return text_encoder, denoiser


def _read_config(folder: Path) -> dict[str, Any]:
    sizes = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return {name: value for name, value in sizes.items() if not name.startswith("_")}


def _load_weights(module: nn.Module, path: Path) -> None:
    module.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    module.eval()
