"""Sampling in torch, and a plain way to look at the outcome: for training's own use."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from halfdrop.models.house.inks import palette_of
from halfdrop.models.house.kinds.fields import BAND_PX, GRID, PLATES
from halfdrop.models.house.net import Denoiser, TextEncoder, TorusTensors
from halfdrop.models.house.noise import seeded_noise
from halfdrop.models.house.schedule import CLEAN_LIMIT, time_steps


def noise_of_seeds(seeds: Sequence[int]) -> Tensor:
    """Return the noise [seeds, 4, 64, 64] of several seeds."""
    return torch.from_numpy(np.stack([seeded_noise(seed) for seed in seeds]))


@torch.no_grad()
def sample_plates(
    text_encoder: TextEncoder,
    denoiser: Denoiser,
    ids: Tensor,
    noise: Tensor,
    *,
    steps: int,
    guidance: float = 1.0,
    torus: TorusTensors | None = None,
) -> tuple[Tensor, Tensor]:
    """Return plates [batch, 4, 64, 64] in [-1, 1] and palettes [batch, 5, 3] for token numbers [batch, 32].

    Guidance 1 is a single pass a step: a student's way, whose guidance is its own. torus: of the units' lattices; the
    straight one if left out.
    """
    condition, scores = text_encoder(ids)
    levels = time_steps(steps)
    plates = noise
    for level, next_level in pairwise(levels):
        levels_now = torch.full((len(plates),), level)
        clean = predict_clean(denoiser, plates, levels_now, condition, guidance=guidance, torus=torus)
        if next_level == 0:
            plates = clean
        else:
            clean = clean.clamp(-CLEAN_LIMIT, CLEAN_LIMIT)
            plates = clean + (plates - clean) * (next_level / level)
    return plates.clamp(-1, 1), palette_of(scores)


def predict_clean(
    denoiser: Denoiser,
    plates: Tensor,
    level: Tensor,
    condition: Tensor,
    *,
    guidance: float,
    torus: TorusTensors | None = None,
) -> Tensor:
    """Return the denoiser's clean plates, drawn away from those of no prompt where guidance is not 1."""
    if guidance == 1.0:
        clean: Tensor = denoiser(plates, level, condition, torus)
        return clean.float()
    nothing = denoiser.unconditional.to(condition.dtype).expand_as(condition)
    if torus is not None and len(torus.ring) > 1:
        torus = TorusTensors(*(torch.cat([part, part]) for part in torus))
    both = denoiser(torch.cat([plates, plates]), torch.cat([level, level]), torch.cat([condition, nothing]), torus)
    with_prompt, without = both.float().chunk(2)
    away: Tensor = without + guidance * (with_prompt - without)
    return away


def compose(plates: Tensor, palette: Tensor, size_px: int) -> Tensor:
    """Return images [batch, 3, size, size], 0 to 1: each field enlarged, thresholded softly, printed in order."""
    ratio, border = size_px / GRID, 4
    padded = functional.pad(plates, (border,) * 4, mode="circular")
    enlarged = functional.interpolate(padded, scale_factor=ratio, mode="bicubic", align_corners=False)
    start = round(border * ratio)
    enlarged = enlarged[..., start : start + size_px, start : start + size_px]
    coverage = (enlarged * (BAND_PX * ratio) + 0.5).clamp(0, 1)
    image = palette[:, 0, :, None, None].expand(-1, -1, size_px, size_px)
    for layer in range(PLATES):
        image = image + (palette[:, layer + 1, :, None, None] - image) * coverage[:, layer : layer + 1]
    return image


def save_sheet(plates: Tensor, palette: Tensor, path: Path, unit_px: int = 64, repeats: int = 2) -> None:
    """Write a contact sheet, eight units across, each laid `repeats` by `repeats`."""
    from PIL import Image  # noqa: PLC0415 - a training machine may have torch, numpy and safetensors alone

    images = compose(plates, palette, unit_px).tile(1, 1, repeats, repeats)
    images = functional.pad(images, (2, 2, 2, 2))
    columns = 8
    rows = [torch.cat(list(images[start : start + columns]), 2) for start in range(0, len(images), columns)]
    widest = max(row.shape[2] for row in rows)
    sheet = torch.cat([functional.pad(row, (0, widest - row.shape[2])) for row in rows], 1)
    pixels = (sheet.clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(path)
