"""A checkpoint tried before it is accepted: does it draw, does it really have no border, what does it cost.

The gate is exact: the UNet and the autoencoder, given a pattern moved over the lattice's torus, must return what they
returned before, moved likewise. A network that knows where the unit's border is cannot do that. The seam ratio of the
drawn tiles is reported beside it, but decides nothing: one picture may have a strong line of its own on the border.
"""

import resource
import time
from collections.abc import Callable

import msgspec
import torch
from torch import Tensor

from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.checkpoints.drawing import Checkpoint
from halfdrop.hub.checkpoints.refusals import UNSUPPORTED, refusal
from halfdrop.hub.checkpoints.tiles import lay_tile
from halfdrop.hub.checkpoints.torus import Torus, lay_on_torus
from halfdrop.models.pixel_seams import border_step_ratio

TRIAL_REPEATS = (Repeat(), Repeat(layout="half-drop"))
TRIAL_PROMPT = "red flowers on a white ground"
TRIAL_STEPS = 4
SHIFT_ERROR_MAX = 1e-3
"""Largest difference, in standard deviations of the output. Float32 gives 1e-5; zeros as padding 0.1 and more."""

CONTRAST_MIN = 0.5
"""Standard deviation, in levels of 255, under which a picture is blank: networks that overflow give one colour."""


class DrawnTile(msgspec.Struct, frozen=True, kw_only=True):
    """What one lattice gave."""

    layout: str
    unit_px: int
    num_inference_steps: int
    seam_ratio: float
    """Of the tile, against the true neighbours; up to about 1.0 no border shows."""

    shift_error: float
    """Largest change under a move over the torus, in standard deviations; 0 in exact arithmetic."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured; it goes into the manifest."""

    device: str
    step_s: float
    """One denoising step of one unit with guidance, at `unit_px`; median of the trial's steps."""

    peak_rss_bytes: int
    """Most memory that this process has held until the trial's end."""

    tiles: tuple[DrawnTile, ...]


def try_checkpoint(checkpoint: Checkpoint, on_step: Callable[[int, int], None]) -> Trial:
    """Return the trial of a checkpoint; `on_step` is told (steps done, steps in all) and may raise to stop.

    Raises PermanentError(unsupported-checkpoint) if it draws nothing, or if a border can be told from any other place.
    """
    size_px = checkpoint.fit_size_px(checkpoint.native_px // 2, TRIAL_REPEATS[-1])
    total = TRIAL_STEPS * len(TRIAL_REPEATS)
    steps_s: list[float] = []
    tiles: list[DrawnTile] = []
    for repeat in TRIAL_REPEATS:
        done = len(tiles) * TRIAL_STEPS
        started_s = time.perf_counter()

        def end_step(step: int, steps: int, done: int = done) -> None:
            nonlocal started_s
            now_s = time.perf_counter()
            steps_s.append(now_s - started_s)
            started_s = now_s
            on_step(done + step * TRIAL_STEPS // steps, total)

        tiles.append(_try_repeat(checkpoint, repeat, size_px, end_step))
    return Trial(
        device=str(checkpoint.pipeline.device),
        step_s=round(sorted(steps_s)[len(steps_s) // 2], 4),
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        tiles=tuple(tiles),
    )


def _try_repeat(checkpoint: Checkpoint, repeat: Repeat, size_px: int, on_step: Callable[[int, int], None]) -> DrawnTile:
    if (error := shift_error(checkpoint, repeat)) > SHIFT_ERROR_MAX:
        raise refusal(
            f"its networks on the {repeat.layout} torus",
            got=f"a change of {error:.3g} standard deviations when the pattern is moved",
            allowed=f"up to {SHIFT_ERROR_MAX:g}",
            advice="Some layer knows where the border is; bring a checkpoint with its family's ordinary layers",
            code=UNSUPPORTED,
        )
    (unit,) = checkpoint.draw([TRIAL_PROMPT], [0], repeat, size_px, num_inference_steps=TRIAL_STEPS, on_step=on_step)
    if unit.std() < CONTRAST_MIN:
        raise refusal(
            f"its drawing of {TRIAL_PROMPT!r}",
            got="one colour all over",
            allowed="a picture",
            advice="Its weights overflow or belong to another family; see if other tools draw with it",
            code=UNSUPPORTED,
        )
    return DrawnTile(
        layout=repeat.layout,
        unit_px=size_px,
        num_inference_steps=TRIAL_STEPS,
        seam_ratio=round(border_step_ratio(lay_tile(unit, repeat), repeat), 3),
        shift_error=error,
    )


@torch.no_grad()
def shift_error(checkpoint: Checkpoint, repeat: Repeat) -> float:
    """Return how much the networks' answers change, but for the move, when a pattern is moved over the torus.

    The pattern is noise on the smallest unit that closes. The UNet is moved by samples of its deepest level, decoder
    and encoder by single samples of the latents: those are the moves that strided layers commute with at all.
    """
    torus, unet, vae = Torus.of(repeat), checkpoint.pipeline.unet, checkpoint.pipeline.vae
    lay_on_torus(unet, repeat)
    lay_on_torus(vae, repeat)
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    side = checkpoint.fit_size_px(2 * checkpoint.grain_px, repeat) // factor
    grain = checkpoint.grain_px // factor
    noise = torch.Generator("cpu").manual_seed(0)
    latents = torch.randn(1, unet.config.in_channels, side, side, generator=noise).to(unet.device, unet.dtype)
    text = torch.randn(1, 77, unet.config.cross_attention_dim, generator=noise).to(unet.device, unet.dtype)
    added = _added_conditions(unet, checkpoint)

    def denoise(moved: Tensor) -> Tensor:
        answer: Tensor = unet(moved, 500, text, added_cond_kwargs=added).sample
        return answer

    clean, move = latents.float(), (grain, side - grain)
    image = vae.decode(clean).sample
    errors = [
        _difference(denoise(torus.roll(latents, *move)), torus.roll(denoise(latents), *move)),
        _difference(vae.decode(torus.roll(clean, 1, 3)).sample, torus.roll(image, factor, 3 * factor)),
        _difference(
            vae.encode(torus.roll(image, factor, 3 * factor)).latent_dist.mean,
            torus.roll(vae.encode(image).latent_dist.mean, 1, 3),
        ),
    ]
    return max(errors)


def _difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.std().clamp(min=1e-12))


def _added_conditions(unet: torch.nn.Module, checkpoint: Checkpoint) -> dict[str, Tensor] | None:
    """SDXL's pooled text and sizes; any will do."""
    if checkpoint.layout.family.name != "sdxl":
        return None
    width = checkpoint.pipeline.text_encoder_2.config.projection_dim
    like = next(unet.parameters())
    native = float(checkpoint.native_px)
    sizes = torch.tensor([[native, native, 0, 0, native, native]])
    return {"text_embeds": torch.ones(1, width).to(like), "time_ids": sizes.to(like)}
