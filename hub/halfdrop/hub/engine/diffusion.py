"""A user's checkpoint in the engine: one unit for each job, by diffusers' own schedulers and networks.

A step is what diffusers' pipelines do in theirs, taken apart so that each job has its own scheduler, place, guidance
and generator. Jobs share a call when lattice, LoRAs and size are the same: the lattice is in the layers' padding, the
LoRAs are in the weights. Sizes are not padded to each other, because on a torus the padding would be the picture.

On a CPU a call is one job's, and threads take calls side by side: nothing is gained by larger calls, and an image is
then the same bit by bit, whatever was beside it. Of a large network each sample is a call, so that both of a guided
job's use a core; of a small one they share a call, because there issuing the work costs as much as doing it.
"""

import copy
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray
from torch import Tensor

from halfdrop.contracts.unit_sizes import check_unit_size_px
from halfdrop.hub.checkpoints.drawing import Checkpoint, check_draw
from halfdrop.hub.checkpoints.lora import Product
from halfdrop.hub.checkpoints.lora_choice import LoraChoice
from halfdrop.hub.checkpoints.torus import Torus, lay_on_torus
from halfdrop.hub.engine.asks import STRAIGHT, UnitAsk
from halfdrop.hub.engine.planning import Group
from halfdrop.hub.engine.rows import ROWS_USEFUL, RowThreads, free_weights, one_by_one
from halfdrop.hub.engine.unit_state import UnitState, go_on, note_attributes, taker_of
from halfdrop.hub.saved_work import TakeState

LORAS_KEPT_BYTES = 512 * 2**20
"""LoRAs that were read and checked are kept so far, so that taking turns between a few costs a sum, not a file."""

LARGE_BYTES = 2**30
"""Weights of a UNet whose samples are calls of their own on a CPU: SD 1.5 has 3.2 GiB in float32."""

SWATCH_PX, SWATCHES, SWATCH_LEVELS = 128, 8, (0, 85, 170, 255)
"""A picture of 8 x 8 patches, in which each level of each channel meets each of the others: what latents are told
colours by."""

Bytes = NDArray[np.uint8]
Colours = NDArray[np.float32]


class CheckpointModel:
    """A checkpoint's networks, asked for one step of several units at a time."""

    finishes_apart = True

    def __init__(self, checkpoint: Checkpoint, digest: str, *, threads: int = 1) -> None:
        self.checkpoint = checkpoint
        self.digest = digest
        self._unet = checkpoint.pipeline.unet
        self._guidance_width: int | None = self._unet.config.time_cond_proj_dim
        self._is_cpu: bool = self._unet.device.type == "cpu"
        self._rows = RowThreads(threads if self._is_cpu else 1)
        networks = [getattr(checkpoint.pipeline, name) for name in checkpoint.layout.configs]
        self._weights_bytes: int = sum(value.nbytes for network in networks for value in network.state_dict().values())
        self._is_large = sum(weights.nbytes for weights in self._unet.parameters()) > LARGE_BYTES
        self._loras: tuple[LoraChoice, ...] = ()
        self._torus: Torus | None = None
        self._read: dict[tuple[Path, int, int], list[Product]] = {}
        self._colours: Colours | None = None

    @property
    def device(self) -> str:
        """ "cpu" or "cuda"."""
        return str(self._unet.device.type)

    @property
    def dtype(self) -> str:
        """What the denoiser computes in: "float32"."""
        return str(self._unet.dtype).removeprefix("torch.")

    @property
    def size_bytes(self) -> int:
        return self._weights_bytes + sum(_products_bytes(products) for products in self._read.values())

    @property
    def rows_useful(self) -> int:
        """On a CPU a guided job for each thread, so that those who came first are done first."""
        return 2 * self._rows.threads if self._is_cpu else ROWS_USEFUL

    def close(self) -> None:
        """End its threads and free its weights and LoRAs."""
        self._rows.close()
        self._read.clear()
        self.checkpoint.remove_loras()
        for name in self.checkpoint.layout.configs:
            free_weights(getattr(self.checkpoint.pipeline, name))

    def group_of(self, ask: UnitAsk) -> Group:
        check_draw([ask.prompt], [ask.seed], [ask.negative_prompt], ask.guidance_scale, ask.num_inference_steps)
        check_unit_size_px(ask.size_px, self.checkpoint.grain_px, ask.repeat)
        side = ask.size_px // self.checkpoint.pipeline.vae_scale_factor
        return Group(
            model=self.digest,
            shape=(self._unet.config.in_channels, side, side),
            dtype=self.dtype,
            form=(Torus.of(ask.repeat), ask.loras),
        )

    def rows_of(self, ask: UnitAsk) -> int:
        return 2 if self._is_guided(ask) else 1

    def enter(self, group: Group) -> None:
        torus, loras = group.form
        if loras != self._loras:
            assert isinstance(loras, tuple)
            self._loras = ()  # what goes wrong from here on leaves the bare checkpoint
            self.checkpoint.put_loras([(self._read_lora(choice), choice.weight) for choice in loras])
            self._loras = loras
        if torus != self._torus:
            assert isinstance(torus, Torus)
            lay_on_torus(self._unet, torus)
            self._torus = torus

    @torch.no_grad()
    def begin(self, ask: UnitAsk) -> UnitState:
        pipeline, device = self.checkpoint.pipeline, self._unet.device
        is_guided = self._is_guided(ask)
        # 1. the prompts, by the pipeline's own method
        texts, added = self._encode(ask, is_guided)
        # 2. a scheduler of the job's own, copied: made from its configuration it would undo what the pipeline put right
        scheduler = copy.deepcopy(pipeline.scheduler)
        scheduler.set_timesteps(ask.num_inference_steps, device=device)
        # 3. noise on the CPU, the same on every device and in every batch
        generator = torch.Generator("cpu").manual_seed(ask.seed)
        shape = (1, *self.group_of(ask).shape)
        noise = randn_tensor(shape, generator=[generator], device=device, dtype=texts[0].dtype)
        condition = None
        if self._guidance_width is not None:
            scale = torch.tensor([ask.guidance_scale - 1])
            condition = pipeline.get_guidance_scale_embedding(scale, embedding_dim=self._guidance_width)
            condition = condition.to(device=device, dtype=noise.dtype)
        state = UnitState(
            ask=ask,
            step=0,
            steps=len(scheduler.timesteps),
            latents=noise * scheduler.init_noise_sigma,
            texts=texts,
            added=added,
            timestep_condition=condition,
            scheduler=scheduler,
            scheduler_options=_own_options(scheduler, generator),
            unused=note_attributes(scheduler),
            generator=generator,
        )
        if ask.saved is not None:
            go_on(state, ask.saved, model_digest=self.digest, dtype=self.dtype)
        return state

    def predict(self, states: Sequence[UnitState]) -> list[Tensor]:
        calls = [[(state, place) for place in range(len(state.texts))] for state in states]
        if self._is_cpu and self._is_large:
            calls = [[row] for rows in calls for row in rows]

        def call(part: slice) -> Tensor:
            chosen = [row for rows in calls[part] for row in rows]
            levels = [state.scheduler.timesteps[state.step] for state, _ in chosen]
            latents = torch.cat(
                [state.scheduler.scale_model_input(state.latents, level)
                 for (state, _), level in zip(chosen, levels, strict=True)]
            )  # fmt: skip
            texts = torch.cat([state.texts[place] for state, place in chosen])
            added = [state.added[place] for state, place in chosen]
            conditions = [state.timestep_condition for state, _ in chosen if state.timestep_condition is not None]
            predicted: Tensor = self._unet(
                latents.to(texts.dtype),
                torch.stack([level.float() for level in levels]).to(latents.device),
                encoder_hidden_states=texts,
                timestep_cond=torch.cat(conditions) if conditions else None,
                added_cond_kwargs={name: torch.cat([each[name] for each in added]) for name in added[0]} or None,
                return_dict=False,
            )[0]
            return predicted

        together_max = 1 if self._is_cpu else len(calls)
        answers = iter(one_by_one(self._rows.run(call, len(calls), together_max=together_max)))
        predictions = []
        for state in states:
            predicted = next(answers)
            if len(state.texts) == 2:
                predicted = predicted + state.ask.guidance_scale * (next(answers) - predicted)
            predictions.append(predicted)
        return predictions

    @torch.no_grad()
    def advance(self, state: UnitState, prediction: Tensor) -> None:
        level = state.scheduler.timesteps[state.step]
        state.latents = state.scheduler.step(
            prediction, level, state.latents, **state.scheduler_options, return_dict=False
        )[0]
        state.step += 1

    def finish(self, state: UnitState) -> Bytes:
        """Return the unit, [size, size, 3] sRGB."""
        [unit] = self.checkpoint.decode(state.latents, state.ask.repeat)
        return np.ascontiguousarray(unit)

    @torch.no_grad()
    def sketch(self, state: UnitState) -> Bytes:
        """Return what the latents show now, [H / f, W / f, 3] sRGB, noise included: a sum for each pixel, where
        decoding would take as long as a step."""
        if self._colours is None:
            self._colours = _fit_colours(self.checkpoint)
        latents = state.latents[0].float().cpu().numpy()
        flat = latents.reshape(len(latents), -1).T / max(1.0, float(latents.std()))
        levels = np.concatenate([flat, np.ones((len(flat), 1), np.float32)], axis=1) @ self._colours
        pixels: Bytes = np.clip(levels, 0, 255).astype(np.uint8)
        return pixels.reshape(*latents.shape[1:], 3)

    def taker_of(self, state: UnitState) -> TakeState | None:
        """Return what copies a state as it is now out of the device; None if its scheduler cannot be written down."""
        return taker_of(state, model_digest=self.digest, dtype=self.dtype)

    def _is_guided(self, ask: UnitAsk) -> bool:
        return ask.guidance_scale > 1 and self._guidance_width is None

    def _encode(self, ask: UnitAsk, is_guided: bool) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        pipeline, device = self.checkpoint.pipeline, self._unet.device
        encoded = pipeline.encode_prompt(
            prompt=ask.prompt,
            device=device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=is_guided,
            negative_prompt=ask.negative_prompt or None,
        )
        samples = (1, 0) if is_guided else (0,)  # the pipeline returns the prompt's first
        texts = [encoded[place] for place in samples]
        if self.checkpoint.layout.family.name != "sdxl":
            return texts, [{}] * len(texts)
        sizes = self.checkpoint.conditions()
        # As the pipeline orders them: original size, the crop's corner, target size.
        numbers = [*sizes["original_size"], 0, 0, *sizes["target_size"]]
        time_ids = torch.tensor([numbers], dtype=texts[0].dtype, device=device)
        return texts, [{"text_embeds": encoded[2 + place].to(device), "time_ids": time_ids} for place in samples]

    def _read_lora(self, choice: LoraChoice) -> list[Product]:
        """Return a LoRA's products, from memory if the file is still the one that was read."""
        try:
            stat = choice.file.stat()
            key = (choice.file, stat.st_size, stat.st_mtime_ns)
        except OSError:
            key = (choice.file, 0, 0)  # reading it says what is wrong
        products = self._read.pop(key, None)
        if products is None:
            [(products, _)] = self.checkpoint.read_loras([choice])
        self._read[key] = products  # the newest last
        while len(self._read) > 1 and sum(map(_products_bytes, self._read.values())) > LORAS_KEPT_BYTES:
            del self._read[next(iter(self._read))]
        return products


def _fit_colours(checkpoint: Checkpoint) -> Colours:
    """Return [C + 1, 3]: levels of sRGB for each latent channel and for 1, fitted to the checkpoint's own encoder.

    An autoencoder's latents are colours to first order, each family's in another way; so it is asked, once.
    """
    side = checkpoint.fit_size_px(SWATCH_PX, STRAIGHT)
    channels = np.stack(np.meshgrid(*[SWATCH_LEVELS] * 3, indexing="ij"), axis=-1).reshape(SWATCHES, SWATCHES, 3)
    patch = side // SWATCHES
    swatches = channels.astype(np.uint8).repeat(patch, axis=0).repeat(patch, axis=1)
    latents = checkpoint.encode(swatches[None], STRAIGHT)[0].float().cpu().numpy()
    by = side // latents.shape[-1]
    seen = swatches.reshape(side // by, by, side // by, by, 3).mean(axis=(1, 3)).reshape(-1, 3)
    flat = np.concatenate([latents.reshape(len(latents), -1).T, np.ones((len(seen), 1), np.float32)], axis=1)
    fitted: Colours = np.linalg.lstsq(flat, seen.astype(np.float32), rcond=None)[0]
    return fitted


def _products_bytes(products: Sequence[Product]) -> int:
    return sum(product.up.nbytes + product.down.nbytes for product in products)


def _own_options(scheduler: Any, generator: torch.Generator) -> dict[str, Any]:
    """Return what the pipelines hand a scheduler beside the prediction: the image's generator, where it takes one."""
    taken = inspect.signature(scheduler.step).parameters
    options: dict[str, Any] = {"eta": 0.0, "generator": [generator]}
    return {name: value for name, value in options.items() if name in taken}
