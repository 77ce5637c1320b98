"""A bundle at work: every prompt drawn once by its INT8 files, as an edge draws it, and finished as a hub does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from halfdrop.contracts.plates import SAMPLE_SCALE
from halfdrop.contracts.repeats import Repeat
from halfdrop.models.fields import Fields, choose_palette, tidy_fields
from halfdrop.models.hex_colours import Substitution, known_names, read_hex, spell_hex
from halfdrop.models.house.gates.asking import Asked
from halfdrop.models.house.net import load_student, torus_tensors
from halfdrop.models.house.reading import read_words
from halfdrop.models.house.sampling import draw_plates, open_session
from halfdrop.models.house.sampling_torch import noise_of_seeds, sample_plates
from halfdrop.models.house.schedule import STUDENT_STEPS
from halfdrop.models.house.tokenizer import Tokenizer
from halfdrop.models.house.torus import lattice_of, torus_of

Refine = Callable[[Fields, str, Repeat], Fields]
"""A preview's fields [4, 64, 64], its prompt and its lattice to the master's, [4, N, N]."""

BATCH = 24


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """One prompt's unit."""

    fields: Fields
    """[4, 64, 64] as the edge stores them: tidied and rounded to 16 bits."""
    palette: tuple[str, ...]
    master: Fields
    """[4, N, N]: refined where there is a refiner, else the fields themselves."""
    cpu_ms: float
    """Prompt to plates, on this thread."""
    raw: NDArray[np.float32]
    """[4, 64, 64], untidied: what is held against float32."""

    @property
    def is_refined(self) -> bool:
        return self.master is not self.fields


def draw_asked(
    bundle: Path, asked: Sequence[Asked], refine: Refine | None, on_drawn: Callable[[int], None]
) -> list[Drawn]:
    """Return every prompt's unit; a prompt's seed is its place."""
    text_session = open_session(bundle / "onnx" / "text_encoder.onnx")
    denoiser_session = open_session(bundle / "onnx" / "denoiser.onnx")
    tokenizer = Tokenizer.load(bundle / "tokenizer" / "vocab.json")
    names = known_names(tokenizer)
    drawn = []
    for seed, each in enumerate(asked):
        started_s = time.process_time()
        prompt, substitutions = read_prompt(each.text, tokenizer, names)
        raw, palette = draw_plates(text_session, denoiser_session, tokenizer.encode(prompt), seed, repeat=each.repeat)
        cpu_ms = (time.process_time() - started_s) * 1e3
        fields = np.rint(np.clip(tidy_fields(raw), -1, 1) * SAMPLE_SCALE).astype(np.float32) / np.float32(SAMPLE_SCALE)
        drawn.append(
            Drawn(
                fields=fields,
                palette=choose_palette(palette, (), substitutions),
                master=refine(fields, prompt, each.repeat) if refine else fields,
                cpu_ms=cpu_ms,
                raw=raw,
            )
        )
        on_drawn(seed + 1)
    return drawn


def draw_float32(bundle: Path, asked: Sequence[Asked]) -> list[tuple[Fields, tuple[str, ...]]]:
    """Return fields and palettes of the same prompts and seeds by the float32 student, untidied."""
    text_encoder, denoiser = load_student(bundle)
    tokenizer = Tokenizer.load(bundle / "tokenizer" / "vocab.json")
    names = known_names(tokenizer)
    drawn: list[tuple[Fields, tuple[str, ...]]] = []
    for start in range(0, len(asked), BATCH):
        part = asked[start : start + BATCH]
        prompts = [read_prompt(each.text, tokenizer, names) for each in part]
        torus = torus_tensors([torus_of(lattice_of(each.repeat)) for each in part])
        noise = noise_of_seeds(range(start, start + len(part)))
        ids = torch.tensor([tokenizer.encode(prompt) for prompt, _ in prompts])
        plates, colours = sample_plates(text_encoder, denoiser, ids, noise, steps=STUDENT_STEPS, torus=torus)
        for fields, palette, (_, substitutions) in zip(plates.numpy(), colours.numpy(), prompts, strict=True):
            drawn.append((fields, choose_palette(palette, (), substitutions)))
    return drawn


def read_prompt(text: str, tokenizer: Tokenizer, names: Sequence[str]) -> tuple[str, tuple[Substitution, ...]]:
    """Return a prompt in words that the model knows, and what stands for its exact colours, as an edge reads it.

    names: of the colours that the model knows.
    """
    return read_hex(read_words(spell_hex(text), tokenizer).prompt, names)
