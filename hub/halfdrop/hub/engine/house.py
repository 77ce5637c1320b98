"""The house model in the engine: plates, one unit for each job, on the torus of its own lattice.

Everything that a step needs of a job is in its state, lattice included, so that all jobs of the model are one group.
Units of different lattices, seeds, levels, and with or without a negative prompt share a call.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor

from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.engine.asks import HouseAsk
from halfdrop.hub.engine.planning import Group
from halfdrop.hub.engine.rows import ROWS_USEFUL, RowThreads, free_weights, make_rowwise, one_by_one
from halfdrop.hub.pipeline import HousePipeline, HouseScheduler
from halfdrop.hub.saved_work import SamplerState, why_unfit
from halfdrop.models.hex_colours import Substitution, known_names, read_hex
from halfdrop.models.house.inks import palette_of
from halfdrop.models.house.net import TorusTensors, torus_tensors
from halfdrop.models.house.noise import SHAPE, seeded_noise
from halfdrop.models.house.schedule import time_steps
from halfdrop.models.house.torus import lattice_of, torus_of

log = structlog.get_logger()

LATTICES_MAX = 64
"""Tori kept ready; one takes 90 KB."""

TOGETHER_MAX_CPU = 4
"""Samples in one call of a CPU: as fast as eight, and its activations stay in the cache."""


@dataclass(slots=True, kw_only=True)
class HouseState:
    """Where one unit stands."""

    ask: HouseAsk
    step: int
    steps: int
    latents: Tensor
    """[1, 4, 64, 64], float32; each step makes new ones and changes none in place."""

    palettes: Tensor
    """[1, 5, 3]."""

    condition: Tensor
    negative: Tensor | None
    torus: TorusTensors
    scheduler: HouseScheduler
    substitutions: tuple[Substitution, ...]
    """Exact colours of the prompt, and the names that stand for them."""

    digest: str
    device: str
    dtype: str


class Drawn(NamedTuple):
    """A unit that is done."""

    fields: NDArray[np.float32]
    """[4, 64, 64]."""

    palette: NDArray[np.float32]
    """[5, 3]."""

    substitutions: tuple[Substitution, ...]


class HouseModel:
    """The house pipeline's networks, asked for one step of many units at a time."""

    finishes_apart = False

    def __init__(self, pipeline: HousePipeline, digest: str, *, threads: int = 1) -> None:
        self.pipeline = pipeline
        self.digest = digest
        self._is_cpu = pipeline.device.type == "cpu"
        self._rows = RowThreads(threads if self._is_cpu else 1)
        self._tori: dict[Repeat, TorusTensors] = {}
        networks = (pipeline.text_encoder, pipeline.denoiser)
        if self._is_cpu:
            for network in networks:
                make_rowwise(network)
        self.size_bytes = sum(value.nbytes for network in networks for value in network.state_dict().values())
        self._names = known_names(pipeline.tokenizer)
        self._group = Group(model=digest, shape=SHAPE, dtype=str(pipeline.denoiser.dtype).removeprefix("torch."))

    @property
    def rows_useful(self) -> int:
        return TOGETHER_MAX_CPU * self._rows.threads if self._is_cpu else ROWS_USEFUL

    def close(self) -> None:
        """End its threads and free its weights."""
        self._rows.close()
        for network in (self.pipeline.text_encoder, self.pipeline.denoiser):
            free_weights(network)

    def group_of(self, ask: HouseAsk) -> Group:
        return self._group

    def rows_of(self, ask: HouseAsk) -> int:
        return 2 if ask.negative_prompt else 1

    @torch.no_grad()
    def begin(self, ask: HouseAsk) -> HouseState:
        pipeline, device = self.pipeline, self.pipeline.device
        dtype = pipeline.denoiser.dtype
        saved = self._fitting(ask)
        prompt, substitutions = read_hex(ask.prompt, self._names)
        away, _ = read_hex(ask.negative_prompt, self._names)
        condition, scores = pipeline.text_encoder(self._encode(prompt))
        negative = pipeline.text_encoder(self._encode(away))[0] if away else None
        latents = seeded_noise(ask.seed)[None] if saved is None else np.array(saved.latents)
        palettes = palette_of(scores) if saved is None else torch.from_numpy(np.array(saved.tensors["palettes"]))
        return HouseState(
            ask=ask,
            step=saved.step if saved is not None else 0,
            steps=ask.num_inference_steps,
            latents=torch.from_numpy(latents).to(device),
            palettes=palettes.to(device),
            condition=condition.to(dtype),
            negative=None if negative is None else negative.to(dtype),
            torus=self._torus_of(ask.repeat),
            scheduler=HouseScheduler(
                num_inference_steps=ask.num_inference_steps, clean_limit=pipeline.scheduler.config.clean_limit
            ),
            substitutions=substitutions,
            digest=self.digest,
            device=device.type,
            dtype=self._group.dtype,
        )

    def enter(self, group: Group) -> None:
        """All of the model's jobs are one group."""

    def predict(self, states: Sequence[HouseState]) -> list[Tensor]:
        # 1. a row for each sample: a job's prompt, then what it leads away from
        rows = [(state, condition) for state in states for condition in (state.condition, state.negative)
                if condition is not None]  # fmt: skip

        # 2. clean plates for all rows
        def call(part: slice) -> Tensor:
            chosen = rows[part]
            latents = torch.cat([state.latents for state, _ in chosen])
            levels = torch.tensor([state.scheduler.timesteps[state.step] for state, _ in chosen], device=latents.device)
            conditions = torch.cat([condition for _, condition in chosen])
            torus = _join_tori([state.torus for state, _ in chosen])
            clean: Tensor = self.pipeline.denoiser(latents.to(conditions.dtype), levels, conditions, torus)
            return clean.float()

        together_max = TOGETHER_MAX_CPU if self._is_cpu else len(rows)
        answers = iter(one_by_one(self._rows.run(call, len(rows), together_max=together_max)))

        # 3. and for each job, led away from its negative prompt
        predictions = []
        for state in states:
            clean = next(answers)
            if state.negative is not None:
                away = next(answers)
                clean = away + state.ask.guidance_scale * (clean - away)
            predictions.append(clean)
        return predictions

    @torch.no_grad()
    def advance(self, state: HouseState, prediction: Tensor) -> None:
        state.latents = state.scheduler.step(prediction, state.step, state.latents)
        state.step += 1

    def finish(self, state: HouseState) -> Drawn:
        fields, palette = state.latents[0].cpu().numpy(), state.palettes[0].float().cpu().numpy()
        return Drawn(fields, palette, state.substitutions)

    def _fitting(self, ask: HouseAsk) -> SamplerState | None:
        """Return what was saved if this very model would have come to it, else None, with a line in the log."""
        if ask.saved is None:
            return None
        reason = why_unfit(
            ask.saved,
            model_digest=self.digest,
            seed=ask.seed,
            levels=time_steps(ask.num_inference_steps),
            device=self.pipeline.device.type,
            dtype=self._group.dtype,
            shape=(1, *SHAPE),
            names=("latents", "palettes"),
        )
        if reason:
            log.warning("saved_step_ignored", reason=reason)
            return None
        log.info("sampling_resumed", step=ask.saved.step, steps=ask.num_inference_steps)
        return ask.saved

    def _encode(self, prompt: str) -> Tensor:
        ids = torch.tensor([self.pipeline.tokenizer.encode(prompt)], dtype=torch.long)
        return ids.to(self.pipeline.device)

    def _torus_of(self, repeat: Repeat) -> TorusTensors:
        found = self._tori.get(repeat)
        if found is None:
            while len(self._tori) >= LATTICES_MAX:
                del self._tori[next(iter(self._tori))]
            found = self._tori[repeat] = torus_tensors([torus_of(lattice_of(repeat))], self.pipeline.device)
        return found


def _join_tori(tori: Sequence[TorusTensors]) -> TorusTensors:
    """Return the tori of a call: one for all where they are the same."""
    if all(torus is tori[0] for torus in tori):
        return tori[0]
    return TorusTensors(*(torch.cat(parts) for parts in zip(*tori, strict=True)))
