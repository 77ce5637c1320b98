"""How good a bundle is: its INT8 files, used as an edge uses them, against units that no training has seen.

The judge forgives melted shapes, so shapes are measured too: each drawn unit is laid over exact ones of the same
kind and attributes, and the best overlap counts. Organic kinds have no exact likeness and are left out of that.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from halfdrop.models.house.captions import caption
from halfdrop.models.house.classifier import Classifier, recognised
from halfdrop.models.house.kinds.catalogue import ALL_OVERS, FREE_FORMS, KIND_NAMES, draw
from halfdrop.models.house.kinds.drawing import Traits, seeded_words
from halfdrop.models.house.net import load_student
from halfdrop.models.house.sampling import draw_plates, open_session
from halfdrop.models.house.sampling_torch import compose, noise_of_seeds, sample_plates
from halfdrop.models.house.schedule import STUDENT_STEPS
from halfdrop.models.house.tokenizer import Tokenizer

SEED = 4242
"""The evaluation's units: held out from the training's and the judge's, which have seeds of their own."""
EXEMPLARS = 160
"""Exact units of each kind that a drawn one is laid over."""
IMAGE_PX = 192
PRESENT_SHARE = 0.002
"""A layer is there when more than this share of the unit is inside it."""

Figures = dict[str, float | str | dict[str, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """The units asked for: captions, and what they should give."""

    kinds: Tensor
    plates: Tensor
    traits: list[Traits]
    texts: list[str]
    palette: Tensor
    is_used: Tensor


def evaluate(bundle: Path, judge: Classifier, per_kind: int = 6, seed: int = SEED) -> Figures:
    """Return a bundle's figures; about half a minute for six prompts of each kind on one core.

    Choices of the recipe were made by looking at these figures: for an unbiased reading give a seed of your own.
    """
    asked = ask(per_kind, seed)
    tokenizer = Tokenizer.load(bundle / "tokenizer" / "vocab.json")
    ids = [tokenizer.encode(text) for text in asked.texts]
    plates, palette, cpu_ms = _draw_int8(bundle, ids)
    is_right = recognised(judge, plates, asked.kinds).float()
    by_kind = {name: is_right[asked.kinds == index].mean().item() for index, name in enumerate(KIND_NAMES)}
    worst = min(by_kind, key=lambda name: by_kind[name])
    is_there = (plates > 0).float().mean((2, 3)) > PRESENT_SHARE
    error = ((palette - asked.palette).abs().mean(2) * asked.is_used).sum() / asked.is_used.sum()
    drawn_overlaps, exact_overlaps = _overlaps(asked, plates)
    psnr = _psnr_db(bundle, ids, plates, palette)
    is_all_over = torch.tensor([name in ALL_OVERS for name in KIND_NAMES])[asked.kinds]
    return {
        "prompts": float(len(asked.texts)),
        "kind_accuracy": round(is_right.mean().item(), 4),
        "kind_accuracy_worst": round(by_kind[worst], 3),
        "kind_worst": worst,
        "kind_accuracy_of_data": round(recognised(judge, asked.plates, asked.kinds).float().mean().item(), 4),
        "layers_right": round((is_there == (asked.is_used[:, 1:] > 0)).float().mean().item(), 4),
        "palette_mae_255": round(error.item() * 255, 3),
        "shape_overlap_p50": round(float(np.median(drawn_overlaps)), 4),
        "shape_overlap_p10": round(float(np.quantile(drawn_overlaps, 0.1)), 4),
        "shape_overlap_of_data_p50": round(float(np.median(exact_overlaps)), 4),
        "int8_psnr_db": round(float(np.median(psnr)), 2),
        "int8_psnr_db_p5": round(float(np.quantile(psnr, 0.05)), 2),
        "seam_ratio_p95": _seam_p95(plates[is_all_over], asked.palette[is_all_over]),
        "seam_ratio_of_data_p95": _seam_p95(asked.plates[is_all_over], asked.palette[is_all_over]),
        "preview_plates_cpu_ms_p50": round(float(np.median(cpu_ms)), 2),
        "kind_accuracy_by_kind": {name: round(value, 2) for name, value in by_kind.items()},
    }


def ask(per_kind: int, seed: int = SEED) -> Asked:
    """Return `per_kind` captioned units of each kind, the same on every call with one seed."""
    numbers, words = torch.Generator().manual_seed(seed), seeded_words(seed)
    plates: list[Tensor] = []
    traits: list[Traits] = []
    for kind in KIND_NAMES:
        drawn, said = draw(kind, per_kind, numbers, words)
        plates.append(drawn)
        traits += said
    captions = [caption(each, words) for each in traits]
    return Asked(
        kinds=torch.arange(len(KIND_NAMES)).repeat_interleave(per_kind),
        plates=torch.cat(plates),
        traits=traits,
        texts=[each.text for each in captions],
        palette=torch.tensor([each.palette for each in captions]),
        is_used=torch.tensor([each.is_used for each in captions]).float(),
    )


def _draw_int8(bundle: Path, ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, list[float]]:
    """Return plates and palettes of all prompts, seeded by their place, and the CPU time of each in ms."""
    text_session = open_session(bundle / "onnx" / "text_encoder.onnx")
    denoiser_session = open_session(bundle / "onnx" / "denoiser.onnx")
    fields: list[NDArray[np.float32]] = []
    palettes: list[NDArray[np.float32]] = []
    cpu_ms = []
    for seed, row in enumerate(ids):
        started_s = time.process_time()
        drawn, palette = draw_plates(text_session, denoiser_session, row, seed)
        cpu_ms.append((time.process_time() - started_s) * 1e3)
        fields.append(drawn)
        palettes.append(palette)
    return torch.from_numpy(np.stack(fields)), torch.from_numpy(np.stack(palettes)), cpu_ms


def _overlaps(asked: Asked, plates: Tensor) -> tuple[list[float], list[float]]:
    """Return the best overlap of each drawn unit with exact ones, and of each held-out exact one, 0 to 1."""
    numbers, words = torch.Generator().manual_seed(SEED + 1), seeded_words(SEED + 1)
    drawn: list[float] = []
    exact: list[float] = []
    for index, kind in enumerate(KIND_NAMES):
        if kind in FREE_FORMS:
            continue
        exemplars, traits = draw(kind, EXEMPLARS, numbers, words)
        looks = [_look(each) for each in traits]
        for place in (asked.kinds == index).nonzero().flatten().tolist():
            same = exemplars[torch.tensor([look == _look(asked.traits[place]) for look in looks])]
            used = asked.is_used[place, 1:] > 0
            if len(same):
                drawn.append(_best_overlap(plates[place, used], same[:, used]))
                exact.append(_best_overlap(asked.plates[place, used], same[:, used]))
    return drawn, exact


def _look(traits: Traits) -> tuple[object, ...]:
    """Return what decides a unit's shape, whatever it is called; '5-pointed' is a star's default."""
    adjectives = tuple(word for word in traits.adjectives if word != "5-pointed")
    return adjectives, len(traits.body), tuple(detail.layer for detail in traits.details)


def _best_overlap(plates: Tensor, exemplars: Tensor) -> float:
    """Return intersection over union, averaged over layers, with the exemplar that it is greatest for."""
    inside, exact = plates > 0, exemplars > 0
    both = (inside & exact).sum((2, 3)).float()
    either = (inside | exact).sum((2, 3)).float().clamp(min=1)
    return float((both / either).mean(1).max())


def _psnr_db(bundle: Path, ids: Sequence[Sequence[int]], plates: Tensor, palette: Tensor) -> list[float]:
    """Return how near each INT8 picture is to the float32 student's from the same noise."""
    text_encoder, denoiser = load_student(bundle)
    figures = []
    for start in range(0, len(ids), 46):
        part = slice(start, start + 46)
        noise = noise_of_seeds(range(start, min(start + 46, len(ids))))
        exact, colours = sample_plates(text_encoder, denoiser, torch.tensor(ids[part]), noise, steps=STUDENT_STEPS)
        first, second = compose(exact, colours, IMAGE_PX), compose(plates[part], palette[part], IMAGE_PX)
        error = ((first - second) ** 2).mean((1, 2, 3)).clamp(min=1e-9)
        figures += (-10 * torch.log10(error)).tolist()
    return figures


def _seam_p95(plates: Tensor, palette: Tensor) -> float:
    """Return the mean step across the wrapped edges over that inside; the 95th percentile of all units."""
    images = compose(plates, palette, IMAGE_PX)
    ratios = []
    for axis in (2, 3):
        steps = (images.roll(-1, axis) - images).abs()
        inside = steps.narrow(axis, 0, IMAGE_PX - 1).mean((1, 2, 3))
        across = steps.narrow(axis, IMAGE_PX - 1, 1).mean((1, 2, 3))
        ratios.append(across / inside.clamp(min=1e-4))
    return round(float(torch.cat(ratios).quantile(0.95)), 3)
