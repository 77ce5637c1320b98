"""Muon for the matrices of the transformer blocks: a momentum step whose update is made orthogonal.

After Keller Jordan's Muon (2024): five Newton-Schulz steps of a quintic polynomial stand in for an exact
orthogonalisation. Several processes share the work: each makes every n-th matrix orthogonal, one sum joins them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from halfdrop.models.house.precision import has_bfloat16_units

QUINTIC = (3.4445, -4.775, 2.0315)
NEWTON_SCHULZ_STEPS = 5
MOMENTUM = 0.95
WEIGHT_DECAY = 0.01
UPDATE_SCALE = 0.2
"""Brings the update's size near AdamW's, so that the two learning rates are of one kind."""


def split_parameters(modules: Sequence[nn.Module]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the block matrices that Muon trains, and all other parameters, which AdamW trains."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for module in modules:
        for name, parameter in module.named_parameters():
            is_matrix = parameter.ndim == 2 and name.startswith("blocks.") and "modulation" not in name
            (matrices if is_matrix else others).append(parameter)
    return matrices, others


class Muon:
    """The optimizer's state: one momentum per matrix, equal in every process."""

    def __init__(self, parameters: Sequence[nn.Parameter], rank: int, processes: int) -> None:
        self.parameters = list(parameters)
        self.momenta = [torch.zeros_like(parameter) for parameter in self.parameters]
        by_size = sorted(range(len(self.parameters)), key=lambda index: -self.parameters[index].numel())
        self._own = {index for place, index in enumerate(by_size) if place % processes == rank}
        self._processes = processes
        first = self.parameters[0]
        self._updates = torch.zeros(sum(p.numel() for p in self.parameters), device=first.device)

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move every matrix by its orthogonal update; gradients must already agree between processes."""
        self._updates.zero_()
        slots = torch.split(self._updates, [parameter.numel() for parameter in self.parameters])
        same_shape: dict[tuple[int, int], list[tuple[int, Tensor]]] = {}
        for index, (parameter, momentum) in enumerate(zip(self.parameters, self.momenta, strict=True)):
            assert parameter.grad is not None
            momentum.lerp_(parameter.grad, 1 - MOMENTUM)
            if index in self._own:
                update = parameter.grad.lerp(momentum, MOMENTUM)
                wide = update.T if update.shape[0] > update.shape[1] else update
                same_shape.setdefault((wide.shape[0], wide.shape[1]), []).append((index, wide))
        for group in same_shape.values():
            for (index, _), update in zip(group, orthogonal(torch.stack([wide for _, wide in group])), strict=True):
                is_tall = self.parameters[index].shape[0] > self.parameters[index].shape[1]
                slots[index].copy_((update.T if is_tall else update).reshape(-1))
        if self._processes > 1:
            dist.all_reduce(self._updates)
        for parameter, slot in zip(self.parameters, slots, strict=True):
            parameter.mul_(1 - rate * WEIGHT_DECAY)
            scale = UPDATE_SCALE * math.sqrt(max(parameter.shape))
            parameter.add_(slot.view_as(parameter), alpha=-rate * scale)


def orthogonal(matrices: Tensor) -> Tensor:
    """Return [batch, rows, columns] (rows <= columns) with their singular values brought near 1, in float32."""
    linear, cubic, quintic = QUINTIC
    dtype = torch.bfloat16 if has_bfloat16_units(matrices.device.type) else torch.float32
    current: Tensor = (matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(dtype)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = current @ current.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=cubic, alpha=quintic)
        current = torch.baddbmm(current, polynomial, current, beta=linear)
    return current.float()
