"""Networks on the torus of a lattice: what a convolution sees beyond the unit's border is the true neighbour.

In a drop the neighbour to the right hangs lower by a fraction of the unit's height, at whatever resolution a layer
works; so the wrapped border is shifted by that fraction of the layer's own height. Everything else in the networks of
`families` (attention without positions, normalisation over the image, nearest upsampling, 1 × 1 convolutions) commutes
with shifts of the torus as it is. The result has no border anywhere: a seam cannot be told from any other place.

Padding is not saved with a model: `lay_on_torus` follows every load, and precedes every draw on another lattice.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from diffusers.models.downsampling import Downsample2D
from torch import Tensor, nn
from torch.nn import functional

from halfdrop.contracts.repeats import Axis, Repeat
from halfdrop.hub.checkpoints.refusals import UNSUPPORTED, refusal

_FILTERS = {"FirDownsample2D", "FirUpsample2D", "KDownsample2D", "KUpsample2D"}
"""diffusers' filtered resampling, with paddings of their own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Torus:
    """How a unit meets itself. A mirror's unit is drawn on the straight torus; its reflections meet by themselves."""

    shift: Fraction = Fraction(0)
    """How much lower (or further right, for rows) the next neighbour hangs, as a fraction of the unit."""

    axis: Axis = "columns"
    """What is shifted."""

    @classmethod
    def of(cls, repeat: Repeat) -> "Torus":
        """Return the torus of a lattice; how many units a tile holds does not matter to it."""
        normal = repeat.normalise()
        return cls(shift=normal.shift, axis=normal.shifted_axis) if normal.shift else cls()

    def pad(self, images: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
        """Return [..., top + H + bottom, left + W + right]: the images with their true neighbours round them.

        images: [..., H, W]. The shift must be whole at this resolution (`sizes` sees to it).
        """
        if not self.shift:
            return functional.pad(images, (left, right, top, bottom), mode="circular")
        if self.axis == "rows":
            return self._pad_columns(images.transpose(-1, -2), top, bottom, left, right).transpose(-1, -2)
        return self._pad_columns(images, left, right, top, bottom)

    def roll(self, images: Tensor, down: int, across: int) -> Tensor:
        """Return [..., H, W]: the unit after the pattern moved by 0 to H samples down and 0 to W across."""
        height, width = images.shape[-2:]
        return self.pad(images, across, 0, down, 0)[..., :height, :width]

    def _pad_columns(self, images: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
        height, width = images.shape[-2:]
        drop = height * self.shift.numerator // self.shift.denominator
        # What hangs lower by `drop` shows at a given height what the unit has `drop` further up.
        after, before = _lower(images[..., :right], drop), _lower(images[..., width - left :], height - drop)
        wide = torch.cat([before, images, after], -1)
        return torch.cat([wide[..., height - top :, :], wide, wide[..., :bottom, :]], -2)


class TorusConv2d(nn.Conv2d):
    """A convolution that pads with the neighbours on a torus."""

    torus: Torus

    def _conv_forward(self, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        down, across = _padding_px(self)
        padded = self.torus.pad(images, across, across, down, down)
        return functional.conv2d(padded, weight, bias, self.stride, 0, self.dilation, self.groups)


class TorusDownsample2D(Downsample2D):  # type: ignore[misc]  # diffusers is not followed by mypy
    """An autoencoder's downsampling, whose functional padding (right and below, zeros) becomes the neighbours."""

    torus: Torus

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        halved: Tensor = self.conv(self.torus.pad(hidden_states, 0, 1, 0, 1))
        return halved


def lay_on_torus(network: nn.Module, repeat: "Repeat | Torus") -> None:
    """Make every layer of `network` pad with its neighbours on the lattice; again for another lattice, any time.

    Raises PermanentError(unsupported-checkpoint) for a layer that is not known to commute with shifts.
    """
    torus = repeat if isinstance(repeat, Torus) else Torus.of(repeat)
    for name, layer in network.named_modules():
        _check_layer(name, layer)
    for layer in network.modules():
        if type(layer) is nn.Conv2d and any(_padding_px(layer)):
            layer.__class__ = TorusConv2d
        elif type(layer) is Downsample2D and layer.use_conv and layer.padding == 0:
            layer.__class__ = TorusDownsample2D
        if isinstance(layer, TorusConv2d | TorusDownsample2D):
            layer.torus = torus


def _lower(images: Tensor, by: int) -> Tensor:
    """Return periodic columns moved down by `by` samples, 0 to the height."""
    height = images.shape[-2]
    return torch.cat([images[..., height - by :, :], images[..., : height - by, :]], -2)


def _padding_px(layer: nn.Conv2d) -> tuple[int, int]:
    if isinstance(layer.padding, str):  # "same" and "valid": none of the families' networks writes it so
        return (0, 0) if layer.padding == "valid" else (layer.kernel_size[0] // 2, layer.kernel_size[1] // 2)
    down, across = layer.padding
    return down, across


def _check_layer(name: str, layer: nn.Module) -> None:
    """Refuse what mixes places in a way that is not handled: other paddings, filters, transposed convolutions."""
    is_wrong = (
        isinstance(layer, nn.ConvTranspose2d | nn.MaxPool2d | nn.ConstantPad2d | nn.ReplicationPad2d | nn.Upsample)
        or type(layer).__name__ in _FILTERS
        or (isinstance(layer, nn.Conv2d) and type(layer) not in (nn.Conv2d, TorusConv2d))
    )
    if is_wrong:
        raise refusal(
            name,
            got=type(layer).__name__,
            allowed="Conv2d with any padding, and diffusers' plain Downsample2D and Upsample2D",
            advice="Bring a checkpoint with the ordinary blocks of its family",
            code=UNSUPPORTED,
        )
