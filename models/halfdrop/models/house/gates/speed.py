"""What a bundle costs: CPU time of the eager teacher, of a master, and the bytes that are shipped.

All times are this process' CPU time on one thread, so that a busy machine does not count.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from halfdrop.contracts.repeats import Repeat
from halfdrop.models.house.gates.asking import Asked
from halfdrop.models.house.gates.drawing import Drawn
from halfdrop.models.house.net import load_student, torus_tensors
from halfdrop.models.house.sampling_torch import noise_of_seeds, sample_plates
from halfdrop.models.house.tokenizer import Tokenizer
from halfdrop.models.house.torus import lattice_of, torus_of
from halfdrop.models.renderer import compose_tile

TEACHER_STEPS, TEACHER_GUIDANCE = 8, 1.5
"""The steps that the teacher needs, each with a second evaluation for guidance."""
MASTER_PX = 4096
EAGER_SAMPLES, MASTER_SAMPLES = 4, 7
EDGE_PARTS = ("onnx", "tokenizer")
MEGABYTE = 1e6


def eager_plates_ms(bundle: Path, asked: Sequence[Asked]) -> float:
    """Return the CPU time of one prompt's plates by the same net in eager torch, float32, as the teacher samples.

    It has the shipped weights' shapes; whose weights they are does not change the time. Median, in ms.
    """
    text_encoder, denoiser = load_student(bundle)
    tokenizer = Tokenizer.load(bundle / "tokenizer" / "vocab.json")

    spent = []
    for number in range(EAGER_SAMPLES + 1):
        each = asked[number % len(asked)]
        started_s = time.process_time()
        sample_plates(
            text_encoder,
            denoiser,
            torch.tensor([tokenizer.encode(each.text)]),
            noise_of_seeds([number]),
            steps=TEACHER_STEPS,
            guidance=TEACHER_GUIDANCE,
            torus=torus_tensors([torus_of(lattice_of(each.repeat))]),
        )
        spent.append(time.process_time() - started_s)
    return float(np.median(spent[1:])) * 1e3


def master_s(drawn: Sequence[Drawn], units: int) -> float:
    """Return the CPU time from a master's fields to its 4096 px of pixels, straight, `units` across; median, in s.

    One unit across is the hardest: nothing in the tile repeats.
    """
    repeat, spent = Repeat(units=units), []
    for index in range(MASTER_SAMPLES + 1):
        each = drawn[index * len(drawn) // (MASTER_SAMPLES + 1)]
        started_s = time.process_time()
        compose_tile(each.master, each.palette, repeat, MASTER_PX)
        spent.append(time.process_time() - started_s)
    return float(np.median(spent[1:]))


def weights_mb(bundle: Path, others: Sequence[Path] = ()) -> dict[str, float]:
    """Return megabytes (10⁶ bytes): "edge", what an edge loads of the bundle; "all", it and other shipped files."""
    edge = sum(_bytes_below(bundle / part) for part in EDGE_PARTS)
    total = _bytes_below(bundle) + sum(_bytes_below(path) for path in others)
    return {"edge": round(edge / MEGABYTE, 2), "all": round(total / MEGABYTE, 2)}


def _bytes_below(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
