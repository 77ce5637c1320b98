"""What a preview model does to an exact unit, imitated: rippled, rounded, blurred, broken, specked; seeded.

Measured on the student's own units against exact ones: edges wander by 1 to 2 grid pixels over 3 to 20 of them, layers
mostly each for itself; corners are rounded, thin lines pinched or broken, here and there is a speck.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from halfdrop.models.house.kinds.fields import BAND_PX, GRID

RIPPLES_PX = ((3.0, 0.35), (7.0, 0.5), (18.0, 0.45))
"""Wavelengths of the edges' wandering, and the most of its standard deviation at each, in grid pixels."""
BLUR_MAX_PX = 1.6
NOISE_MAX = 0.07
"""Of a field's band: 0.4 grid pixels."""
BLOBS = 3
"""Pinches and specks in a layer at most."""
BLOB_RADIUS_PX = (1.2, 3.2)


def degrade(coarse: Tensor, numbers: torch.Generator) -> Tensor:
    """Return exact fields [batch, 4, 64, 64] as a preview might have drawn them, -1 to 1; unused layers stay unused."""
    batch, layers = coarse.shape[:2]
    strength = torch.rand(batch, 1, 1, 1, generator=numbers)
    drawn = _ripple(coarse, strength, numbers)
    drawn = _blur(drawn, strength, numbers)
    level = strength * NOISE_MAX * _uniform(0, 1, (batch, layers, 1, 1), numbers)
    drawn = drawn + level * _smooth_noise(batch * layers, 4.0, numbers).view_as(coarse)
    drawn = drawn + _blobs(batch, layers, numbers)
    is_used = coarse.amax((2, 3), keepdim=True) > -1
    return torch.where(is_used, drawn, coarse).clamp(-1, 1)


def _ripple(fields: Tensor, strength: Tensor, numbers: torch.Generator) -> Tensor:
    """Read every sample from a little beside it, on the torus."""
    batch, layers = fields.shape[:2]
    steps = torch.zeros(batch * layers, 2, GRID, GRID)
    for wavelength, most_px in RIPPLES_PX:
        amount = _uniform(0, most_px, (batch * layers, 1, 1, 1), numbers)
        noise = _smooth_noise(2 * batch * layers, wavelength, numbers).view(-1, 2, GRID, GRID)
        steps += amount * noise
    steps *= strength.expand(-1, layers, -1, -1).reshape(-1, 1, 1, 1)
    margin = 8
    wide = functional.pad(fields.reshape(-1, 1, GRID, GRID), (margin,) * 4, mode="circular")
    places = torch.arange(GRID) + margin + 0.5
    across, down = places + steps[:, 0], places.view(-1, 1) + steps[:, 1]
    grid = torch.stack([across, down], -1) * (2 / (GRID + 2 * margin)) - 1
    moved: Tensor = functional.grid_sample(wide, grid, mode="bicubic", align_corners=False)
    unfolded: Tensor = moved.view_as(fields)
    return unfolded


def _blur(fields: Tensor, strength: Tensor, numbers: torch.Generator) -> Tensor:
    """Round corners: a Gaussian blur of each layer by its own width, then its edges made as steep as before."""
    batch, layers = fields.shape[:2]
    width_px = BLUR_MAX_PX * strength * _uniform(0, 1, (batch, layers, 1, 1), numbers)
    turns = torch.fft.fftfreq(GRID).view(-1, 1) ** 2 + torch.fft.rfftfreq(GRID) ** 2
    blurred: Tensor = torch.fft.irfft2(torch.fft.rfft2(fields) * torch.exp(-2 * (math.pi * width_px) ** 2 * turns))
    restored = 1 + _uniform(-0.1, 0.35, (batch, layers, 1, 1), numbers) * width_px
    steep: Tensor = blurred * restored
    return steep


def _blobs(batch: int, layers: int, numbers: torch.Generator) -> Tensor:
    """Return round bumps and dents: a dent on a thin line breaks it, a high bump is a speck."""
    x = torch.arange(GRID) + 0.5
    total = torch.zeros(batch, layers, GRID, GRID)
    for _ in range(BLOBS):
        shape = (batch, layers, 1, 1)
        height = _uniform(-0.5, 0.5, shape, numbers)
        is_speck = torch.rand(shape, generator=numbers) < 0.12
        height = torch.where(is_speck, height.sign() * 1.3, height)
        height = height * (torch.rand(shape, generator=numbers) < 0.3)
        radius = _uniform(*BLOB_RADIUS_PX, shape, numbers)
        dx, dy = x - _uniform(0, GRID, shape, numbers), x.view(-1, 1) - _uniform(0, GRID, shape, numbers)
        dx, dy = dx - GRID * (dx / GRID).round(), dy - GRID * (dy / GRID).round()
        total += height * torch.exp(-(dx * dx + dy * dy) / (2 * radius * radius))
    return total


def _smooth_noise(count: int, wavelength_px: float, numbers: torch.Generator) -> Tensor:
    """Return [count, 64, 64] periodic Gaussian noise of unit variance that varies over about `wavelength_px`."""
    turns = torch.fft.fftfreq(GRID).view(-1, 1) ** 2 + torch.fft.rfftfreq(GRID) ** 2
    height = torch.exp(-2 * (math.pi * wavelength_px / 4) ** 2 * turns)
    noise = torch.fft.irfft2(torch.fft.rfft2(torch.randn(count, GRID, GRID, generator=numbers)) * height)
    scaled: Tensor = noise / noise.std((1, 2), keepdim=True).clamp(min=1e-6)
    return scaled


def _uniform(low: float, high: float, shape: tuple[int, ...], numbers: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=numbers) * (high - low) + low


def displacement_px(drawn: Tensor, exact: Tensor) -> Tensor:
    """Return how far, in grid pixels, the edges of [batch, 4, grid, grid] fields lie from exact ones: mean, [batch].

    Where two neighbouring samples differ in sign an edge passes between them; the other field, interpolated there,
    is its distance. Both ways, so that an edge that is missing counts as well as one too many; saturates at 6.
    """
    total = torch.zeros(len(drawn))
    count = torch.zeros(len(drawn))
    for one, other in ((drawn, exact), (exact, drawn)):
        for axis in (2, 3):
            a, b = one, one.roll(-1, axis)
            is_edge = (a > 0) != (b > 0)
            share = torch.where(is_edge, a / torch.where(is_edge, a - b, 1.0), 0.0)
            away = torch.lerp(other, other.roll(-1, axis), share).abs() * BAND_PX
            total += (away * is_edge).sum((1, 2, 3))
            count += is_edge.sum((1, 2, 3))
    return total / count.clamp(min=1)
