"""A checkpoint at hand: prompts and seeds become units that repeat on a lattice.

One unit is drawn for each prompt, on the lattice's own torus (`torus`); `tiles.lay_tile` lays it. Importing this module
takes seconds, because it imports torch, diffusers and transformers.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.imported import PAINTED_GUIDANCE, PAINTED_GUIDANCE_MAX, PAINTED_STEPS, PAINTED_STEPS_MAX
from halfdrop.contracts.patterns import SEED_MAX
from halfdrop.contracts.repeats import Repeat
from halfdrop.contracts.unit_sizes import check_unit_size_px, fit_size_px
from halfdrop.hub.checkpoints.layout import Layout, check_layout
from halfdrop.hub.checkpoints.lora import Product, check_choices, merge, read_lora, restore
from halfdrop.hub.checkpoints.lora_choice import LoraChoice
from halfdrop.hub.checkpoints.networks import check_networks, load_network, load_scheduler, load_tokenizer
from halfdrop.hub.checkpoints.torus import lay_on_torus
from halfdrop.models.bundle import open_bundle

Bytes = NDArray[np.uint8]
OnStep = Callable[[int, int], None]
"""Told (steps done, steps in all) after each step; may raise to stop the drawing."""

BATCH_MAX = 16
NUM_INFERENCE_STEPS, STEPS_MAX = PAINTED_STEPS, PAINTED_STEPS_MAX
GUIDANCE_SCALE, GUIDANCE_MAX = PAINTED_GUIDANCE, PAINTED_GUIDANCE_MAX


def open_checkpoint(bundle_dir: Path, device: Literal["auto", "cpu", "cuda"] = "auto") -> "Checkpoint":
    """Return the imported checkpoint in `bundle_dir`, every file of which is checked first.

    Raises PermanentError: bad-bundle when files differ from the manifest, bad-checkpoint or unsupported-checkpoint when
    the bundle is not a checkpoint of a family that can be made to repeat.
    """
    open_bundle(bundle_dir)
    return load_checkpoint(check_layout(bundle_dir), device)


def load_checkpoint(layout: Layout, device: Literal["auto", "cpu", "cuda"] = "auto") -> "Checkpoint":
    """Return a layout's checkpoint, loaded: float32 on a CPU, bfloat16 on a GPU, the autoencoder always float32."""
    check_networks(layout)
    is_cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    dtype = torch.bfloat16 if is_cuda else torch.float32
    parts: dict[str, Any] = {"scheduler": load_scheduler(layout)}
    for component, (_, kind) in layout.family.components.items():
        if kind == "CLIPTokenizer":
            parts[component] = load_tokenizer(layout.files[f"{component}/vocab.json"].parent)
        else:
            parts[component] = load_network(layout, component, torch.float32 if component == "vae" else dtype)
    pipeline = _assemble(layout, parts)
    pipeline.set_progress_bar_config(disable=True)
    return Checkpoint(layout, pipeline.to("cuda" if is_cuda else "cpu"))


def _assemble(layout: Layout, parts: dict[str, Any]) -> Any:
    if layout.family.name == "sdxl":
        return diffusers.StableDiffusionXLPipeline(
            **parts,
            force_zeros_for_empty_prompt=bool(layout.index.get("force_zeros_for_empty_prompt", True)),
            add_watermarker=False,  # a watermark would not repeat
        )
    with warnings.catch_warnings():
        # diffusers puts right what configurations of 2022 got wrong, and says so; there is nothing for us to do.
        warnings.filterwarnings("ignore", message="The configuration file of", category=FutureWarning)
        return diffusers.StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )


class Checkpoint:
    """A loaded checkpoint. Not for several threads at once: laying it on another lattice changes its layers."""

    def __init__(self, layout: Layout, pipeline: Any) -> None:
        self.layout = layout
        self.pipeline = pipeline
        self._bare: list[tuple[nn.Parameter, Tensor]] = []

    @property
    def grain_px(self) -> int:
        """Pixels to one sample at the deepest level of the UNet: 64 for SD 1.5, 32 for SDXL."""
        unet, vae = self.pipeline.unet.config, self.pipeline.vae.config
        return int(2 ** (len(unet.block_out_channels) + len(vae.block_out_channels) - 2))

    @property
    def native_px(self) -> int:
        """The size that the checkpoint was trained for, as it says: 512 for SD 1.5, 1024 for SDXL."""
        return int(self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor)

    def fit_size_px(self, size_px: int, repeat: Repeat) -> int:
        """Return the size that a unit can have on this lattice, nearest to `size_px`."""
        return fit_size_px(size_px, self.grain_px, repeat)

    def apply_loras(self, choices: Sequence[LoraChoice]) -> None:
        """Draw with these LoRAs from now on, and with no others.

        Every file is read and checked first: PermanentError(bad-lora) and InvalidInput leave all as it was.
        """
        self.put_loras(self.read_loras(choices))

    def read_loras(self, choices: Sequence[LoraChoice]) -> list[tuple[list[Product], float]]:
        """Return the LoRAs' products with their weights, checked against these networks. Changes nothing."""
        check_choices(choices)
        networks = {name: getattr(self.pipeline, name) for name in self.layout.configs if name != "vae"}
        return [(read_lora(choice.file, networks), choice.weight) for choice in choices]

    def put_loras(self, read: Sequence[tuple[list[Product], float]]) -> None:
        """Draw with these products from now on, and with no others."""
        self.remove_loras()
        self._bare = merge(read)

    def remove_loras(self) -> None:
        """Draw with the checkpoint's own weights again, exactly as they were."""
        restore(self._bare)
        self._bare = []

    @torch.no_grad()
    def draw(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        repeat: Repeat,
        size_px: int,
        *,
        negative_prompts: Sequence[str] | None = None,
        guidance_scale: float = GUIDANCE_SCALE,
        num_inference_steps: int = NUM_INFERENCE_STEPS,
        on_step: OnStep | None = None,
    ) -> Bytes:
        """Return one unit for each prompt, [n, size, size, 3] sRGB, each from its own seed, whatever is beside it.

        The scheduler is the checkpoint's own. Raises InvalidInput for anything outside its limits, size_px among them:
        the message names the nearest size at which the lattice closes (`fit_size_px`).
        """
        check_draw(prompts, seeds, negative_prompts, guidance_scale, num_inference_steps)
        check_unit_size_px(size_px, self.grain_px, repeat)
        lay_on_torus(self.pipeline.unet, repeat)

        def end_step(_: Any, step: int, __: Any, values: dict[str, Any]) -> dict[str, Any]:
            if on_step is not None:
                on_step(step + 1, self.pipeline.num_timesteps)
            return values

        # On the CPU, and one for each image: the same noise on every device and in every batch.
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        latents = self.pipeline(
            list(prompts),
            negative_prompt=list(negative_prompts) if negative_prompts else None,
            height=size_px,
            width=size_px,
            guidance_scale=guidance_scale,
            num_inference_steps=num_inference_steps,
            generator=generators,
            output_type="latent",
            callback_on_step_end=end_step,
            **self.conditions(),
        ).images
        return self.decode(latents, repeat)

    @torch.no_grad()
    def decode(self, latents: Tensor, repeat: Repeat) -> Bytes:
        """Return the units, [n, H, W, 3] sRGB, of [n, C, H / f, W / f] latents as the UNet leaves them."""
        vae = self.pipeline.vae
        lay_on_torus(vae, repeat)
        offset, factor = _latents_scale(vae)
        wide = latents.to(vae.device, torch.float32) / factor + offset
        # One at a time: the decoder needs far more memory for an image than the UNet does.
        images = torch.cat([vae.decode(each[None]).sample for each in wide])
        levels = (images.clamp(-1, 1) + 1) * 127.5
        return levels.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

    @torch.no_grad()
    def encode(self, units: Bytes, repeat: Repeat) -> Tensor:
        """Return the latents, as the UNet takes them, of [n, H, W, 3] units that repeat on this lattice.

        The mean of the encoder's distribution, not a sample: the same units have the same latents.
        """
        check_unit_size_px(units.shape[1], self.grain_px, repeat)
        check_unit_size_px(units.shape[2], self.grain_px, repeat)
        vae = self.pipeline.vae
        lay_on_torus(vae, repeat)
        offset, factor = _latents_scale(vae)
        images = torch.from_numpy(units).permute(0, 3, 1, 2).to(vae.device, torch.float32) / 127.5 - 1
        means = torch.cat([vae.encode(each[None]).latent_dist.mean for each in images])
        return (means - offset) * factor

    def conditions(self) -> dict[str, Any]:
        """SDXL is told sizes: always those it was trained for, for it draws small pictures badly on purpose."""
        if self.layout.family.name != "sdxl":
            return {}
        return dict.fromkeys(("original_size", "target_size"), (self.native_px, self.native_px))


def check_draw(
    prompts: Sequence[str],
    seeds: Sequence[int],
    negative_prompts: Sequence[str] | None,
    guidance_scale: float,
    num_inference_steps: int,
) -> None:
    """Raise InvalidInput for anything outside the limits of a drawing."""
    if not 1 <= len(prompts) <= BATCH_MAX:
        raise InvalidInput("prompts", got=len(prompts), allowed=f"1 to {BATCH_MAX} prompts")
    if len(seeds) != len(prompts) or not all(0 <= seed <= SEED_MAX for seed in seeds):
        raise InvalidInput("seeds", got=list(seeds), allowed=f"one for each prompt, 0 to {SEED_MAX}")
    if negative_prompts is not None and len(negative_prompts) != len(prompts):
        raise InvalidInput("negative_prompts", got=len(negative_prompts), allowed="one for each prompt, or none")
    if not 0 <= guidance_scale <= GUIDANCE_MAX:
        raise InvalidInput("guidance_scale", got=guidance_scale, allowed=f"0 to {GUIDANCE_MAX}")
    if not 1 <= num_inference_steps <= STEPS_MAX:
        raise InvalidInput("num_inference_steps", got=num_inference_steps, allowed=f"1 to {STEPS_MAX}")


def _latents_scale(vae: Any) -> tuple[Tensor | float, Tensor | float]:
    """Return offset and factor between the autoencoder's latents z and the UNet's: (z - offset) * factor."""
    config, factor = vae.config, vae.config.scaling_factor
    mean, deviation = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is None or deviation is None:
        return 0.0, factor
    shape = (1, -1, 1, 1)
    offset = torch.tensor(mean, device=vae.device).view(shape)
    return offset, factor / torch.tensor(deviation, device=vae.device).view(shape)
