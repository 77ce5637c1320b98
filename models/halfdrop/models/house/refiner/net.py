"""The refiner's network: coarse fields and a prompt to fine fields, in one deterministic pass.

The fine fields are the coarse ones, enlarged as the renderer would enlarge them, plus a correction. Every layer with
ink is corrected by itself, by the same weights, with the other layers in view: what an edge should be does not depend
on the place of its layer in the stack, and an unused layer costs nothing. Convolutions over cells of 2 by 2 samples,
some of them reaching far, straighten edges and sharpen corners as the prompt's words ask for. Everything is relative
to the torus: rolling the coarse fields by a cell rolls the fine ones by as much, and no place of the unit is special.
Few weights, used at every cell, are what minutes of one core can teach.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from halfdrop.models.lattice import sample_weights

INTERPOLATION = 2
"""Samples that bicubic interpolation needs beyond the unit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RefinerConfig:
    """Sizes of the refiner; all of them are written to its config.json."""

    vocabulary_size: int
    layers: int = 4
    coarse_grid: int = 64
    fine_grid: int = 128
    word_width: int = 64
    cell: int = 2
    """Samples along each side of a cell."""
    width: int = 32
    """Channels of a cell."""
    dilations: tuple[int, ...] = (1, 2, 4, 8, 1)
    """Reach of each block's convolution, in cells; together they see 32 samples far, which is round the unit."""
    strength: float = 1.0
    """Share of the correction that is made, 0 to 1; training uses 1, an export may be more careful."""


class RefinerNet(nn.Module):
    """Coarse fields [batch, 4, 64, 64] in -1 to 1 and token numbers [batch, 32] to fine fields [batch, 4, 128, 128].

    The result is not clamped: what lies beyond -1 and 1 says only that no edge is near.
    """

    enlarging: Tensor
    orders: Tensor

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.config = config
        told, width = config.word_width, config.width
        drawn = config.cell * config.fine_grid // config.coarse_grid
        self.words = nn.Embedding(config.vocabulary_size, told, padding_idx=0)
        self.places = nn.Embedding(config.layers, told)
        self.told = nn.Sequential(nn.Linear(told, told), nn.SiLU(), nn.Linear(told, told), nn.SiLU())
        self.stem = WrappingConv(config.cell**2 * config.layers, width)
        self.blocks = nn.ModuleList([ConvBlock(width, dilation, told) for dilation in config.dilations])
        self.head = WrappingConv(width, drawn * drawn)
        _silence(self.head)
        stack = range(config.layers)
        orders = [[layer, *(other for other in stack if other != layer)] for layer in stack]
        self.register_buffer("orders", torch.tensor(orders), persistent=False)
        self.register_buffer("enlarging", enlarging_matrix(config.coarse_grid, config.fine_grid), persistent=False)

    def forward(self, coarse: Tensor, ids: Tensor) -> Tensor:
        (unit, layer), drawn = self.draw_inked(coarse, ids)
        return enlarge(coarse, self.enlarging).index_put((unit, layer), drawn.to(coarse.dtype))

    def draw_inked(self, coarse: Tensor, ids: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Return where the layers with ink are (units, layers; [n] each), and those layers, fine: [n, 128, 128]."""
        # 1. a stack for each layer with ink: itself, then the others from the bottom up
        unit, layer = (coarse.amax((2, 3)) > 0).nonzero(as_tuple=True)
        stacks = functional.pixel_unshuffle(coarse[unit[:, None], self.orders[layer]], self.config.cell)
        # 2. the prompt: a sum of words, whatever their order
        told = self.told(self.words(ids).sum(1)[unit] + self.places(layer))
        # 3. every cell in view of those around it
        cells = self.stem(stacks)
        for block in self.blocks:
            cells = block(cells, told)
        # 4. the correction at 4 by 4 fine samples for each cell
        drawn = self.config.cell * self.config.fine_grid // self.config.coarse_grid
        correction = functional.pixel_shuffle(self.head(functional.silu(cells)), drawn)[:, 0]
        return (unit, layer), enlarge(coarse[unit, layer], self.enlarging) + self.config.strength * correction.float()


class ConvBlock(nn.Module):
    """A convolution over cells, scaled and shifted by the prompt, added to what was there."""

    def __init__(self, width: int, dilation: int, told: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(told, 2 * width)
        self.spread = WrappingConv(width, width, dilation)
        self.mix = nn.Conv2d(width, width, 1)
        _silence(self.modulation)
        nn.init.normal_(self.mix.weight, std=0.02)

    def forward(self, cells: Tensor, told: Tensor) -> Tensor:
        scale, shift = self.modulation(told)[..., None, None].chunk(2, 1)
        written: Tensor = self.mix(functional.silu(self.spread(cells) * (1 + scale) + shift))
        return cells + written


class WrappingConv(nn.Conv2d):
    """A 3 by 3 convolution on the torus. It pads by slices: no exporter or loader can lose the wrapping."""

    def __init__(self, channels_in: int, channels_out: int, dilation: int = 1) -> None:
        super().__init__(channels_in, channels_out, 3, dilation=dilation)

    def forward(self, cells: Tensor) -> Tensor:
        reach = self.dilation[0]
        cells = torch.cat([cells[..., -reach:], cells, cells[..., :reach]], -1)
        cells = torch.cat([cells[..., -reach:, :], cells, cells[..., :reach, :]], -2)
        return functional.conv2d(cells, self.weight, self.bias, dilation=self.dilation)


def enlarging_matrix(coarse_grid: int, fine_grid: int) -> Tensor:
    """Return [fine, coarse]: the renderer's bicubic interpolation at the fine grid's places, on the torus."""
    places = (np.arange(fine_grid) + 0.5) * coarse_grid / fine_grid
    wide = sample_weights(places, INTERPOLATION, coarse_grid)
    weights = wide[:, INTERPOLATION:-INTERPOLATION].copy()
    weights[:, -INTERPOLATION:] += wide[:, :INTERPOLATION]
    weights[:, :INTERPOLATION] += wide[:, -INTERPOLATION:]
    return torch.from_numpy(weights).float()


def enlarge(coarse: Tensor, matrix: Tensor) -> Tensor:
    """Return [..., fine, fine] fields interpolated from [..., coarse, coarse]; see `enlarging_matrix`."""
    return matrix @ coarse @ matrix.T


def _silence(layer: nn.Conv2d | nn.Linear) -> None:
    """Let a layer say nothing at first: what it adds to is then right from the start."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


def refiner_config_json(config: RefinerConfig) -> str:
    """Return the config as it stands in a bundle."""
    return json.dumps({"_class_name": "RefinerNet", **asdict(config)}, indent=2) + "\n"


def load_refiner_net(folder: Path) -> RefinerNet:
    """Read config.json and model.safetensors of `folder`, in float32 and evaluation mode.

    Raises FileNotFoundError for an incomplete folder and RuntimeError for weights of another shape.
    """
    sizes: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    values = {name: value for name, value in sizes.items() if not name.startswith("_")}
    net = RefinerNet(RefinerConfig(**values | {"dilations": tuple(values["dilations"])}))
    net.load_state_dict({name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()})
    return net.eval()
