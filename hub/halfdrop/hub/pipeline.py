"""The house model as a diffusers pipeline: a prompt and a seed become plates, in four numbered steps.

The networks are those that were trained (`halfdrop.models.house.net`); the classes here only teach them to be saved
and loaded in diffusers' directory form, which is also the form of the shipped bundle. Importing this module takes
seconds, because it imports torch and diffusers: import it where sampling is really needed.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers import ConfigMixin, DiffusionPipeline, ModelMixin, SchedulerMixin
from diffusers.configuration_utils import register_to_config
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Module

from halfdrop.contracts.repeats import Repeat
from halfdrop.models.house.inks import palette_of
from halfdrop.models.house.net import Denoiser, DenoiserConfig, TextEncoder, TextEncoderConfig, torus_tensors
from halfdrop.models.house.noise import seeded_noise
from halfdrop.models.house.schedule import CLEAN_LIMIT, STUDENT_STEPS, time_steps
from halfdrop.models.house.tokenizer import Tokenizer
from halfdrop.models.house.torus import lattice_of, torus_of

TEXT_WEIGHTS_NAME = "model.safetensors"
VOCABULARY_PATH = Path("tokenizer", "vocab.json")

StepCallback = Callable[["HousePipeline", int, float, dict[str, Tensor]], dict[str, Tensor]]
"""diffusers' callback_on_step_end: (pipeline, step, timestep, {"latents": …, "palettes": …}) to the values to go on
with. The palettes are shown, not taken back: they are chosen before the first step."""


class HouseTextEncoder(TextEncoder, ModelMixin, ConfigMixin):  # type: ignore[misc]
    """The text encoder, saved as transformers would save one: config.json and model.safetensors."""

    config_name = "config.json"

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        *,
        vocabulary_size: int,
        length: int = 32,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        condition_width: int = 256,
        structure_registers: int = 4,
        palette_registers: int = 5,
    ) -> None:
        super().__init__(
            TextEncoderConfig(
                vocabulary_size=vocabulary_size,
                length=length,
                width=width,
                layers=layers,
                heads=heads,
                condition_width=condition_width,
                structure_registers=structure_registers,
                palette_registers=palette_registers,
            )
        )

    @property
    def config(self) -> Any:
        return self._internal_dict

    @config.setter
    def config(self, _: TextEncoderConfig) -> None:
        """The network keeps its sizes under this name; diffusers has registered the same ones already."""

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, torch_dtype: torch.dtype | None = None, **_: object) -> Self:
        model: Self = cls.from_config(cls.load_config(folder))
        model.load_state_dict(load_file(Path(folder) / TEXT_WEIGHTS_NAME))
        # torch's own `to`: the one of diffusers warns that it keeps nothing in float32, and there is nothing to keep.
        Module.to(model, torch_dtype or torch.float32)
        return model.eval()

    def save_pretrained(self, folder: str | Path, **_: object) -> None:
        ConfigMixin.save_config(self, folder)
        save_file({name: value.contiguous() for name, value in self.state_dict().items()},
                  Path(folder) / TEXT_WEIGHTS_NAME)  # fmt: skip


class HouseDenoiser(Denoiser, ModelMixin, ConfigMixin):  # type: ignore[misc]
    """The denoiser of plates, saved as diffusers saves any model."""

    config_name = "config.json"

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        *,
        plates: int = 4,
        grid: int = 64,
        patch: int = 8,
        width: int = 256,
        layers: int = 6,
        heads: int = 8,
        mlp_ratio: int = 3,
        stem_width: int = 64,
        condition_width: int = 256,
        modulation_rank: int = 96,
    ) -> None:
        super().__init__(
            DenoiserConfig(
                plates=plates,
                grid=grid,
                patch=patch,
                width=width,
                layers=layers,
                heads=heads,
                mlp_ratio=mlp_ratio,
                stem_width=stem_width,
                condition_width=condition_width,
                modulation_rank=modulation_rank,
            )
        )

    @property
    def config(self) -> Any:
        return self._internal_dict

    @config.setter
    def config(self, _: DenoiserConfig) -> None:
        """The network keeps its sizes under this name; diffusers has registered the same ones already."""


class HouseScheduler(SchedulerMixin, ConfigMixin):  # type: ignore[misc]
    """Walks from noise to clean plates with a network that predicts the clean plates (x0) at each level."""

    order = 1

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, *, num_inference_steps: int = STUDENT_STEPS, clean_limit: float = CLEAN_LIMIT) -> None:
        self.set_timesteps(num_inference_steps)

    def set_timesteps(self, num_inference_steps: int) -> None:
        """Fix the levels: `timesteps` holds those to evaluate, from 1 (noise) downwards."""
        self.levels = time_steps(num_inference_steps)
        self.timesteps = self.levels[:-1]

    def step(self, clean: Tensor, index: int, latents: Tensor) -> Tensor:
        """Return the latents at the next level, given the clean plates predicted from `latents` at level `index`."""
        level, following = self.levels[index], self.levels[index + 1]
        if following == 0:
            return clean.clamp(-1, 1)
        clean = clean.clamp(-self.config.clean_limit, self.config.clean_limit)
        return clean + (latents - clean) * (following / level)


class HousePipeline(DiffusionPipeline):  # type: ignore[misc]
    """Prompts and seeds to plates: fields [B, 4, 64, 64] in -1 to 1, palettes [B, 5, 3] in 0 to 1."""

    def __init__(self, text_encoder: HouseTextEncoder, denoiser: HouseDenoiser, scheduler: HouseScheduler) -> None:
        super().__init__()
        self.register_modules(text_encoder=text_encoder, denoiser=denoiser, scheduler=scheduler)
        self.tokenizer = Tokenizer({})

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, torch_dtype: torch.dtype | None = None, **_: object) -> Self:
        """Load the bundle in `folder`, tokenizer included; float32 unless told otherwise. Nothing is fetched.

        Each part has its own folder, whatever model_index.json says of classes: training may not import this module,
        so it cannot name them.
        """
        folder = Path(folder)
        levels = HouseScheduler.load_config(folder / "scheduler")
        pipeline = cls(
            text_encoder=HouseTextEncoder.from_pretrained(folder / "text_encoder", torch_dtype=torch_dtype),
            denoiser=HouseDenoiser.from_pretrained(
                folder / "denoiser", torch_dtype=torch_dtype or torch.float32, low_cpu_mem_usage=False
            ),
            scheduler=HouseScheduler(
                num_inference_steps=levels["num_inference_steps"], clean_limit=levels["clean_limit"]
            ),
        )
        pipeline.tokenizer = Tokenizer.load(folder / VOCABULARY_PATH)
        return pipeline

    def save_pretrained(self, folder: str | Path, **options: Any) -> None:
        super().save_pretrained(folder, **options)
        (Path(folder) / VOCABULARY_PATH).parent.mkdir(exist_ok=True)
        self.tokenizer.save(Path(folder) / VOCABULARY_PATH)

    @torch.no_grad()
    def __call__(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        repeats: Sequence[Repeat] | None = None,
        negative_prompts: Sequence[str] | None = None,
        guidance_scale: float = 0.0,
        num_inference_steps: int = STUDENT_STEPS,
        callback_on_step_end: StepCallback | None = None,
        latents: Tensor | None = None,
        palettes: Tensor | None = None,
        first_step: int = 0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw one unit for each prompt, on the torus of its repeat's lattice (straight where none are given).

        Each starts from its own seed's noise, so that a batch changes no image. To go on with what was interrupted,
        give the latents and palettes that the callback saw, and how many steps were done by then (`first_step`).
        """
        device, dtype = self._execution_device, self.denoiser.dtype
        torus = torus_tensors([torus_of(lattice_of(repeat)) for repeat in repeats or [Repeat()]], device)

        # 1. the prompts: a condition for the structure, a palette for the print
        condition, scores = self.text_encoder(self._encode(prompts).to(device))
        negative = None
        if negative_prompts is not None:
            negative, _ = self.text_encoder(self._encode(negative_prompts).to(device))
        palettes = palette_of(scores) if palettes is None else palettes.to(device)

        # 2. noise, from the same generator as at the edge, unless some of it is gone already
        if latents is None:
            latents = torch.from_numpy(np.stack([seeded_noise(seed) for seed in seeds]))
        latents = latents.to(device)

        # 3. from noise to clean plates; the latents stay in float32, the network has its own precision
        self.scheduler.set_timesteps(num_inference_steps)
        for index, level in list(enumerate(self.scheduler.timesteps))[first_step:]:
            levels = torch.full((len(seeds),), level, device=device)
            clean = self.denoiser(latents.to(dtype), levels, condition.to(dtype), torus).float()
            if negative is not None:
                away = self.denoiser(latents.to(dtype), levels, negative.to(dtype), torus).float()
                clean = away + guidance_scale * (clean - away)
            latents = self.scheduler.step(clean, index, latents)
            if callback_on_step_end is not None:
                latents = callback_on_step_end(self, index, level, {"latents": latents, "palettes": palettes})[
                    "latents"
                ]

        # 4. out of torch
        return latents.cpu().numpy(), palettes.cpu().numpy()

    def _encode(self, prompts: Sequence[str]) -> Tensor:
        return torch.tensor([self.tokenizer.encode(prompt) for prompt in prompts], dtype=torch.long)
