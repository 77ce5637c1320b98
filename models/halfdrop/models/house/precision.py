"""The precision of training's forward passes: bfloat16 where the processor has units for it, float32 elsewhere."""

from __future__ import annotations

import torch


def mixed_precision(device: str) -> torch.autocast:
    """Return the context for a forward pass.

    A CPU without bfloat16 units emulates them: measured on AVX2, a training step is then fifteen times slower than
    in float32.
    """
    has_units = device == "cuda" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.autocast(device, dtype=torch.bfloat16, enabled=has_units)
