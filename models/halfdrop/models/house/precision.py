"""The precision of training's forward passes: bfloat16 where the processor has units for it, float32 elsewhere."""

from __future__ import annotations

import torch


def has_bfloat16_units(device: str) -> bool:
    """Return whether bfloat16 products are quick there.

    A CPU without such units emulates them: measured on AVX2, a training step is then fifteen times slower than in
    float32, and a step of Muon fifty times.
    """
    return device == "cuda" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def mixed_precision(device: str) -> torch.autocast:
    """Return the context for a forward pass."""
    return torch.autocast(device, dtype=torch.bfloat16, enabled=has_bfloat16_units(device))
