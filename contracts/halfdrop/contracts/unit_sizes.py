"""Which sizes a unit of a user's checkpoint may have: those at which its lattice closes exactly at every resolution
inside the networks.

A unit of S pixels is S / f samples in the autoencoder's latents and half as many at each further level of the UNet. The
drop must be a whole number of samples at the deepest level, so S is a multiple of f × 2^levels × the denominator.
"""

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.patterns import SIZE_MAX_PX
from halfdrop.contracts.repeats import Repeat

UNIT_MAX_PX = 2048
"""Self-attention at the latents of 2048 px takes 65,536 tokens; more is not what such networks were trained for."""


def size_step_px(grain_px: int, repeat: Repeat) -> int:
    """Return what a unit's side must be a multiple of. grain_px: pixels to a sample at the deepest level."""
    return grain_px * repeat.normalise().shift.denominator


def fit_size_px(size_px: int, grain_px: int, repeat: Repeat) -> int:
    """Return the allowed size that is nearest to `size_px`; the larger of two."""
    step = size_step_px(grain_px, repeat)
    return min(max(step, (2 * size_px + step) // (2 * step) * step), UNIT_MAX_PX // step * step)


def check_unit_size_px(size_px: int, grain_px: int, repeat: Repeat) -> None:
    """Raise InvalidInput, naming the nearest size that is allowed, if a unit of `size_px` does not close."""
    step = size_step_px(grain_px, repeat)
    if size_px % step or not step <= size_px <= UNIT_MAX_PX:
        nearest = fit_size_px(size_px, grain_px, repeat)
        allowed = f"a multiple of {step} from {step} to {UNIT_MAX_PX // step * step} for this repeat, such as {nearest}"
        raise InvalidInput("size_px", got=size_px, allowed=allowed)


def check_tile_px(size_px: int, grain_px: int, repeat: Repeat) -> int:
    """Return the unit's size in a tile of `size_px`. Raises InvalidInput, naming the nearest tile that can be drawn:
    its units are whole pixels, and pixels of a checkpoint's picture are moved, never scaled."""
    units, step = repeat.normalise().units, size_step_px(grain_px, repeat)
    largest_px = largest_tile_px(grain_px, repeat)
    if size_px % (units * step) or not units * step <= size_px <= largest_px:
        nearest = min(fit_tile_px(size_px, grain_px, repeat), largest_px)
        allowed = (
            f"with this model, {units} units across: a multiple of {units * step} from {units * step} to {largest_px}, "
            f"such as {nearest}; what is drawn is never enlarged"
        )
        raise InvalidInput("size_px", got=size_px, allowed=allowed)
    return size_px // units


def largest_tile_px(grain_px: int, repeat: Repeat) -> int:
    """Return the largest tile that can be drawn."""
    units, step = repeat.normalise().units, size_step_px(grain_px, repeat)
    return min(UNIT_MAX_PX // step * step * units, SIZE_MAX_PX // (units * step) * units * step)


def fit_tile_px(size_px: int, grain_px: int, repeat: Repeat) -> int:
    """Return the tile that can be drawn, nearest to `size_px`."""
    units = repeat.normalise().units
    return fit_size_px(round(size_px / units), grain_px, repeat) * units
