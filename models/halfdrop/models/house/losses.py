"""What training minimises: the distance of the denoiser's clean plates from the true ones, and wrong colours."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from halfdrop.models.house.checkpoint import Networks
from halfdrop.models.house.data import Sayings, Units
from halfdrop.models.house.inks import inks_of
from halfdrop.models.house.net import torus_tensors
from halfdrop.models.house.precision import mixed_precision
from halfdrop.models.house.settings import TrainingSettings
from halfdrop.models.house.torus import LATTICES, torus_of
from halfdrop.models.house.workers import column


def losses(
    networks: Networks,
    units: Units,
    ids: Tensor,
    numbers: torch.Generator,
    settings: TrainingSettings,
    *,
    device: str,
) -> tuple[Tensor, Tensor]:
    """Return the loss of the plates (in velocity's measure) and of the palette's visible colours (in nats)."""
    batch = len(ids)
    level = draw_levels(settings, batch, numbers).to(device)
    noise = torch.randn(units.plates.shape, generator=numbers).to(device)
    is_dropped = (torch.rand(batch, generator=numbers) < settings.drop_chance).to(device)
    plates = units.plates.to(device)
    torus = torus_tensors([torus_of(LATTICES[index]) for index in units.lattices.tolist()], device)
    noised = (1 - column(level)) * plates + column(level) * noise
    with mixed_precision(device):
        condition, scores = networks.text_encoder(ids.to(device))
        nothing = networks.denoiser.unconditional.to(condition.dtype)
        told = torch.where(is_dropped[:, None], nothing, condition)
        clean = networks.denoiser(noised, level, told, torus)
    weight = 1 / level.clamp(min=settings.level_floor) ** 2
    plates_loss = (((clean.float() - plates) ** 2).mean((1, 2, 3)) * weight).mean()
    return plates_loss, _palette_loss(scores, units.palette.to(device), units.is_used.to(device))


def sayings_loss(networks: Networks, sayings: Sayings, device: str) -> Tensor:
    """Return the palette's loss of captions that have no units."""
    with mixed_precision(device):
        _, scores = networks.text_encoder(sayings.ids.to(device))
    return _palette_loss(scores, sayings.palette.to(device), sayings.is_used.to(device))


def _palette_loss(scores: Tensor, wanted: Tensor, is_used: Tensor) -> Tensor:
    surprise = functional.cross_entropy(scores.float().flatten(0, 1), inks_of(wanted).flatten(), reduction="none")
    return (surprise * is_used.flatten()).sum() / is_used.sum()


def draw_levels(settings: TrainingSettings, count: int, numbers: torch.Generator) -> Tensor:
    """Return noise levels [count]: most of them spread over all, the rest near pure noise."""
    spread = torch.sigmoid(torch.randn(count, generator=numbers) + settings.level_mean).clamp(min=0.01)
    noisiest = settings.noisiest_from + (1 - settings.noisiest_from) * torch.rand(count, generator=numbers)
    is_noisiest = torch.rand(count, generator=numbers) < settings.noisiest_share
    return torch.where(is_noisiest, noisiest, spread)
