"""Which layers of the denoiser are INT8: whatever is faster and close enough, by measurement.

Close enough is measured for every export, on the weights that are exported, and comes out the same on every machine,
since the INT8 kernels are exact on all of them (`onnx_graph.PAIR_LIMIT`). Faster is a fact of shapes and processors: it
was measured once for each layer, and `python -m halfdrop.models.house.export_onnx --measure` measures it again.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]  # it ships no types
from numpy.typing import NDArray

from halfdrop.models.house.cell_rows import lattice_inputs, to_rows
from halfdrop.models.house.net import Denoiser
from halfdrop.models.house.noise import seeded_noise
from halfdrop.models.house.onnx_denoiser import build_denoiser
from halfdrop.models.house.onnx_graph import SCOPE_END, Floats, Format, numbers
from halfdrop.models.house.sampling import open_session, session_options
from halfdrop.models.house.schedule import CLEAN_LIMIT, STUDENT_STEPS, time_steps
from halfdrop.models.house.torus import LATTICES

NO_FASTER = ("time_1", "time_2", "condition", "modulation_in", "head_out")
"""Layers that gain nothing: a row for each level, once a drawing, for which rounding takes as long as it saves, and the
last one, whose 64 outputs are few (35 µs in either format) while its rounding is the greatest part of all error."""

TEXT_NO_FASTER = ("to_condition", "to_ink")
"""The like in the text encoder: a row, and five rows for the colours, where rounding could turn a choice."""

ALONE_MIN_DB = 50.0
"""Least PSNR of clean plates when one layer alone is INT8. Most are above 60; one below 50 outweighs the others."""
TOGETHER_MIN_DB = 44.0
"""Least PSNR with all INT8 layers at once: then pictures are 40 dB alike after the steps' own amplification."""

SEEDS = 3
"""Drawings that are compared, each of another lattice, at every level of the student's."""
PROFILED_RUNS = 60

Inputs = dict[str, Floats]


class Sample(NamedTuple):
    """One evaluation of the float32 denoiser."""

    inputs: Inputs
    clean: Floats


class LayerCost(NamedTuple):
    """What `measure` tells of a layer."""

    layer: str
    float32_us: float
    int8_us: float
    alone_db: float
    """Least PSNR when this layer alone is INT8."""
    chosen: Format


def choose_formats(denoiser: Denoiser) -> dict[str, Format]:
    """Return a format for each layer: INT8 if it is faster and close enough, alone and together with the others."""
    samples = draw_samples(denoiser)
    alone = alone_db(denoiser, samples)
    formats: dict[str, Format] = {
        layer: "float32" if layer in NO_FASTER or figure < ALONE_MIN_DB else "int8" for layer, figure in alone.items()
    }
    while "int8" in formats.values() and _psnr_db(_build(denoiser, formats), samples) < TOGETHER_MIN_DB:
        formats[min((layer for layer in formats if formats[layer] == "int8"), key=alone.__getitem__)] = "float32"
    return formats


def measure(denoiser: Denoiser) -> list[LayerCost]:
    """Return what each layer costs in each format on this machine, its own rounding of inputs included."""
    samples, formats = draw_samples(denoiser), choose_formats(denoiser)
    alone = alone_db(denoiser, samples)
    in_float = _profile_us(_build(denoiser, dict.fromkeys(formats, "float32")), samples)
    in_int8 = _profile_us(_build(denoiser, {}), samples)
    return [
        LayerCost(layer, in_float[layer], in_int8[layer], alone[layer], chosen) for layer, chosen in formats.items()
    ]


def draw_samples(denoiser: Denoiser) -> list[Sample]:
    """Return evaluations along whole drawings without a prompt, in float32."""
    session = _open(_build(denoiser, dict.fromkeys(layers_of(denoiser), "float32")))
    condition, samples = numbers(denoiser.unconditional)[None], []
    for seed in range(SEEDS):
        rows = to_rows(seeded_noise(seed))
        for level, next_level in pairwise(time_steps(STUDENT_STEPS)):
            lattice = lattice_inputs(LATTICES[seed * len(LATTICES) // SEEDS])
            inputs = {"z": rows, "t": np.array([level], np.float32), "c": condition, **lattice}
            clean: Floats = session.run(["x"], inputs)[0]
            samples.append(Sample(inputs, clean))
            limited = np.clip(clean, -CLEAN_LIMIT, CLEAN_LIMIT)
            rows = limited + (rows - limited) * np.float32(next_level / level)
    return samples


def alone_db(denoiser: Denoiser, samples: Sequence[Sample]) -> dict[str, float]:
    """Return, for each layer, the least PSNR of the clean plates when it alone is INT8."""
    layers, figures = layers_of(denoiser), {}
    for layer in layers:
        formats: dict[str, Format] = dict.fromkeys(layers, "float32")
        formats[layer] = "int8"
        figures[layer] = _psnr_db(_build(denoiser, formats), samples)
    return figures


def layers_of(denoiser: Denoiser) -> list[str]:
    """Return the names of all layers with weights, those of the telling too."""
    return build_denoiser(denoiser, {}, is_told=False)[1]


def _build(denoiser: Denoiser, formats: Mapping[str, Format]) -> onnx.ModelProto:
    """Return the graph with the telling in it, so that one input's way through all layers is measured."""
    return build_denoiser(denoiser, formats, is_told=False)[0]


def _psnr_db(model: onnx.ModelProto, samples: Sequence[Sample]) -> float:
    """Return the least PSNR over samples; plates go from -1 to 1."""
    session = _open(model)
    return min(psnr_db(session.run(["x"], sample.inputs)[0], sample.clean) for sample in samples)


def psnr_db(plates: NDArray[np.float32], exact: NDArray[np.float32]) -> float:
    """Return how alike plates from -1 to 1 are, at most 120."""
    error = float(((plates - exact) ** 2).mean())
    return 10 * math.log10(4 / max(error, 4e-12))


def _open(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return open_session(model.SerializeToString())


def _profile_us(model: onnx.ModelProto, samples: Sequence[Sample]) -> Mapping[str, float]:
    """Return the time of each layer's nodes together, the median of many runs."""
    with tempfile.TemporaryDirectory() as folder:
        options = session_options()
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        session = open_session(model.SerializeToString(), options)
        for run in range(PROFILED_RUNS):
            session.run(["x"], samples[run % len(samples)].inputs)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    durations_us: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            durations_us[event["name"]].append(event["dur"])
    totals_us: dict[str, float] = defaultdict(float)
    for node, each in durations_us.items():
        totals_us[node.partition(SCOPE_END)[0]] += median(each)
    return totals_us
