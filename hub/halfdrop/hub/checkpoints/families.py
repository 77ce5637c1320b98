"""The families of checkpoints that can be made to repeat, and why the others cannot.

A network can be drawn on a lattice's torus when everything in it commutes with shifts: convolutions (once their padding
wraps), normalisation over the whole image, and attention *without* positions. The UNet families are of that kind.
Diffusion transformers tell every token its absolute place on a rectangle, so there is no torus to put them on.
"""

from dataclasses import dataclass
from typing import Literal

from halfdrop.hub.checkpoints.refusals import UNSUPPORTED, refusal, shown

FamilyName = Literal["sd", "sdxl"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One layout of directories."""

    name: FamilyName
    pipeline: str
    """What model_index.json calls it."""

    components: dict[str, tuple[str, str]]
    """Folder to (library, class), models and tokenizers; the scheduler has a list of its own."""


_UNET = ("diffusers", "UNet2DConditionModel")
_VAE = ("diffusers", "AutoencoderKL")
_TOKENIZER = ("transformers", "CLIPTokenizer")
_TEXT_ENCODER = ("transformers", "CLIPTextModel")

FAMILIES = (
    Family(
        name="sd",
        pipeline="StableDiffusionPipeline",
        components={"unet": _UNET, "vae": _VAE, "text_encoder": _TEXT_ENCODER, "tokenizer": _TOKENIZER},
    ),
    Family(
        name="sdxl",
        pipeline="StableDiffusionXLPipeline",
        components={
            "unet": _UNET,
            "vae": _VAE,
            "text_encoder": _TEXT_ENCODER,
            "text_encoder_2": ("transformers", "CLIPTextModelWithProjection"),
            "tokenizer": _TOKENIZER,
            "tokenizer_2": _TOKENIZER,
        },
    ),
)

SCHEDULERS = frozenset(
    {
        "DDIMScheduler",
        "DDPMScheduler",
        "DEISMultistepScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler",
        "KDPM2DiscreteScheduler",
        "LCMScheduler",
        "PNDMScheduler",
        "TCDScheduler",
        "UniPCMultistepScheduler",
    }
)
"""Those that both pipelines run, with no package beyond ours, and that take all their noise from the generators given:
DPMSolverSDE draws its own from torchsde, LMSDiscrete integrates with scipy, flow matching does not run there."""

_TRANSFORMERS = {
    "StableDiffusion3Pipeline": "its transformer adds a table of absolute positions to every patch",
    "FluxPipeline": "its transformer rotates every token by its absolute place, at frequencies that do not close",
    "PixArtAlphaPipeline": "its transformer adds absolute sine positions to every patch",
    "PixArtSigmaPipeline": "its transformer adds absolute sine positions to every patch",
    "HunyuanDiTPipeline": "its transformer rotates every token by its absolute place",
    "LuminaPipeline": "its transformer rotates every token by its absolute place",
    "AuraFlowPipeline": "its transformer adds a learnt table of absolute positions to every patch",
    "SanaPipeline": "its autoencoder and transformer are not of a kind that was proven to wrap here",
}
"""Diffusion transformers by pipeline, and what in each of them is tied to a rectangle."""


def find_family(pipeline: object) -> Family:
    """Return the family whose pipeline model_index.json names. Raises PermanentError(unsupported-checkpoint)."""
    for family in FAMILIES:
        if pipeline == family.pipeline:
            return family
    reason = _TRANSFORMERS.get(str(pipeline))
    raise refusal(
        "model_index.json",
        got=f"{shown(pipeline)}, which cannot be laid on a torus: {reason}" if reason else shown(pipeline),
        allowed=" or ".join(f"{family.pipeline} ({family.name})" for family in FAMILIES),
        advice="Bring a checkpoint of one of these families",
        code=UNSUPPORTED,
    )
