"""Refine a preview's plates with the shipped refiner: hub and training code, for it imports torch.

Symmetries that a layer nearly has are made exact (`refiner.symmetry`), then the network draws every layer on a grid
twice as fine (`refiner.net`). A refiner must never draw another picture: every layer of its result is held against
the preview's. One that departs from it by more than edges may move is thrown away, and the preview's own layer,
enlarged, stands in its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from halfdrop.contracts.plates import BAND_PX, GRID_PX, LAYERS, SAMPLE_SCALE
from halfdrop.contracts.repeats import Axis, Repeat
from halfdrop.models.bundle import Bundle, open_bundle
from halfdrop.models.fields import Fields
from halfdrop.models.house.refiner.net import RefinerNet, enlarging_matrix, load_refiner_net
from halfdrop.models.house.refiner.symmetry import symmetrise
from halfdrop.models.house.tokenizer import Tokenizer
from halfdrop.models.lattice import extend_unit, fit_to_lattice, runs_on

NET_FOLDER = "refiner"
VOCABULARY_PATH = Path("tokenizer", "vocab.json")

STRAIGHT = Repeat()

STRAY_PX = 1.5
"""An edge may be moved this far, in grid pixels, without question: the student's own mistakes are as large."""

STRAY_SHARE = 0.006
"""Share of the unit that may change sides farther than STRAY_PX from the preview's edges: a thin line made whole again
changes less, another picture changes ten times as much."""

BORDER_PX, BLEND_PX = 8, 6
"""Beside a dropped border the unit is refined from a window that has the border in its middle: wholly up to the first
width, in grid pixels, then blending over the second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refined:
    """What became of a unit."""

    fields: Fields
    """[4, 128, 128], -1 to 1."""
    kept: tuple[int, ...]
    """Layers that were left as the preview drew them, because the refiner strayed; 0 is the first above the ground."""
    refined: tuple[int, ...]
    """Layers with ink that were refined."""


class Refiner:
    """A loaded refiner. Not for two threads at a time."""

    def __init__(self, bundle: Bundle, net: RefinerNet, tokenizer: Tokenizer) -> None:
        self.bundle = bundle
        self._net = net
        self._tokenizer = tokenizer
        self._enlarging = enlarging_matrix(net.config.coarse_grid, net.config.fine_grid).numpy()

    def to(self, device: str) -> Refiner:
        """Move the network to a device ("cpu", "cuda") and return this refiner."""
        self._net.to(device)
        return self

    def refine(self, fields: Fields, prompt: str, repeat: Repeat = STRAIGHT) -> Fields:
        """Return what files are made of: the same composition on the finer grid, [4, 128, 128] in -1 to 1.

        Where no layer was refined it is the fields themselves: merely enlarged, a unit can be laid otherwise. See
        `refine_layers`.
        """
        refined = self.refine_layers(fields, prompt, repeat)
        return refined.fields if refined.refined else fields

    def refine_layers(self, fields: Fields, prompt: str, repeat: Repeat = STRAIGHT) -> Refined:
        """Refine [4, 64, 64] fields in -1 to 1 and say which layers were.

        repeat: the lattice that the unit will be laid on; fields that close on its torus are refined across its
        borders, and a unit that would be laid otherwise once refined is kept. prompt: what was drawn, without the
        words for layout and scale. Results are rounded to 16 bits, so that the last bits of another processor's sums
        do not show.
        """
        assert fields.shape == (LAYERS, GRID_PX, GRID_PX), fields.shape
        lattice = repeat.normalise()
        preview = self.enlarge(fields)
        drawn = np.clip(self._draw(_symmetric(fields, lattice), prompt, lattice), -1, 1)
        used = tuple(layer for layer in range(LAYERS) if fields[layer].max() > 0)
        kept = tuple(layer for layer in used if stray_share(drawn[layer], preview[layer]) > STRAY_SHARE)
        for layer in set(range(LAYERS)) - set(used) | set(kept):
            drawn[layer] = preview[layer]
        if not _is_laid_alike(fields, drawn, lattice):
            drawn, kept = preview.copy(), used
        rounded = (np.rint(drawn * SAMPLE_SCALE) / SAMPLE_SCALE).astype(np.float32)
        return Refined(fields=rounded, kept=kept, refined=tuple(layer for layer in used if layer not in kept))

    def enlarge(self, fields: Fields) -> Fields:
        """Return [4, 64, 64] fields on the finer grid, interpolated as the renderer would: what is refined upon."""
        enlarged: Fields = self._enlarging @ fields @ self._enlarging.T
        np.clip(enlarged, -1, 1, out=enlarged)
        return enlarged

    def _draw(self, fields: Fields, prompt: str, lattice: Repeat) -> Fields:
        if not _closes_on_drop(fields, lattice):
            [unit] = self._run(fields[None], prompt)
            return np.asarray(unit)
        # In turn, half a unit to the left, the unit as it is, half a unit to the right; for rows, above and below.
        wide = extend_unit(fields, lattice, GRID_PX // 2)
        wide = wide.swapaxes(-1, -2) if lattice.shifted_axis == "rows" else wide
        rows = slice(GRID_PX // 2, -GRID_PX // 2)
        windows = np.stack([wide[:, rows, start : start + GRID_PX] for start in (0, GRID_PX // 2, GRID_PX)])
        if lattice.shifted_axis == "rows":
            windows = windows.swapaxes(-1, -2)
        return _join(self._run(windows, prompt), lattice.shifted_axis)

    @torch.inference_mode()
    def _run(self, windows: Fields, prompt: str) -> Fields:
        device = next(self._net.parameters()).device
        ids = torch.tensor([self._tokenizer.encode(prompt)], device=device).expand(len(windows), -1)
        coarse = torch.from_numpy(np.ascontiguousarray(windows)).to(device)
        drawn: Fields = self._net(coarse, ids).float().cpu().numpy()
        return drawn


def open_refiner(bundle_dir: Path) -> Refiner:
    """Load the refiner in `bundle_dir`, on the CPU in float32.

    Raises PermanentError(bad-bundle) when the bundle is not whole, FileNotFoundError when it is no refiner's.
    """
    bundle = open_bundle(bundle_dir)
    tokenizer = Tokenizer.load(bundle.directory / VOCABULARY_PATH)
    return Refiner(bundle, load_refiner_net(bundle.directory / NET_FOLDER), tokenizer)


def _symmetric(fields: Fields, lattice: Repeat) -> Fields:
    """Return fields with the symmetries they nearly have made exact; those of another torus than the straight one are
    left alone, for their neighbours are not where the unit's own border is."""
    if _closes_on_drop(fields, lattice):
        return fields
    made: Fields = symmetrise(torch.from_numpy(fields)[None])[0].numpy()
    return made


def _closes_on_drop(fields: Fields, lattice: Repeat) -> bool:
    upright = fields.swapaxes(-1, -2) if lattice.shifted_axis == "rows" else fields
    return lattice.shift != 0 and runs_on(upright, lattice.shift)


def _is_laid_alike(preview: Fields, drawn: Fields, lattice: Repeat) -> bool:
    """Return whether the renderer would lay both on the same lattice and leave both unslanted."""
    one, other = fit_to_lattice(preview, lattice), fit_to_lattice(drawn, lattice)
    return one.repeat == other.repeat and one.fields is preview and other.fields is drawn


def stray_share(drawn: Fields, preview: Fields) -> float:
    """Return the share of the unit, 0 to 1, on the other side of an edge than in the preview, and far from any.

    Both: one layer, [128, 128]. Far is more than STRAY_PX by either of them.
    """
    changes_side = (drawn > 0) != (preview > 0)
    is_far = np.minimum(np.abs(preview), 1) * BAND_PX > STRAY_PX
    return float((changes_side & is_far).mean())


def _join(windows: NDArray[np.float32], axis: Axis) -> Fields:
    """Return one unit from three refined windows, each half a unit after the one before: [3, 4, 128, 128]."""
    if axis == "rows":
        return np.ascontiguousarray(_join(windows.swapaxes(-1, -2), "columns").swapaxes(-1, -2))
    before, unit, after = windows
    grid = unit.shape[-1]
    half = grid // 2
    places_px = (np.arange(half) + 0.5) * GRID_PX / grid
    weight = np.clip((BORDER_PX + BLEND_PX - places_px) / BLEND_PX, 0, 1).astype(np.float32)
    left = unit[..., :half] + weight * (before[..., half:] - unit[..., :half])
    right = unit[..., half:] + weight[::-1] * (after[..., :half] - unit[..., half:])
    return np.concatenate([left, right], axis=-1)
