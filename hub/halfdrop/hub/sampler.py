"""The model at hand: loaded when first needed or warmed in the background, in one thread of its own."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import structlog

from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.patterns import PatternSpec, pattern_key
from halfdrop.contracts.plates import Plates
from halfdrop.hub.saved_work import SamplerState, TakeState, why_unfit
from halfdrop.models.bundle import open_bundle
from halfdrop.models.fields import choose_palette, fields_to_plates, tidy_fields
from halfdrop.models.hex_colours import known_names, read_hex
from halfdrop.models.house.noise import SHAPE
from halfdrop.models.house.schedule import time_steps

if TYPE_CHECKING:
    from halfdrop.hub.pipeline import HousePipeline

log = structlog.get_logger()


class Stopped(Exception):
    """The work was called off while a thread was at it; not an error of the job."""


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """What an earlier try left, and where this one leaves its own. All is called in the sampler's thread."""

    state: SamplerState | None = None
    on_resumed: Callable[[int], None] = lambda _: None
    """Called once if sampling goes on from `state`, with the steps that need not be done again."""

    keep: Callable[[TakeState, int], None] = lambda _, __: None
    """Called after each step, with what copies the state out, and the steps done."""


class Sampler:
    """Draws plates for specs, one at a time. Close it (`with`) to end its thread."""

    def __init__(self, bundle_dir: Path, *, device: Literal["auto", "cpu", "cuda"], threads: int) -> None:
        self._bundle_dir = bundle_dir
        self._device = device
        self._threads = threads
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sampler")
        self._loaded: tuple[HousePipeline, str] | None = None
        self.load_s: float | None = None
        """How long loading took; None before."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def warm(self) -> None:
        """Load everything that the first sampling needs. Whatever is wrong with the model is logged and no more:
        jobs that bring their plates can still be finished."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._load)
        except PermanentError as error:
            log.error("model_unavailable", error=error.detail)
        except Exception:
            log.exception("model_unavailable")

    async def draw(
        self, spec: PatternSpec, *, on_step: Callable[[], None], resumption: "Resumption | None" = None
    ) -> Plates:
        """Return new plates for `spec`; `on_step` is called in the sampler's thread after each step.

        With a `resumption`, sampling goes on from the state in it if that fits, and each step's state is kept there.
        Raises PermanentError(unknown-model) if this worker's bundle is not the one that the spec names. When the
        caller is cancelled, the thread stops at its next step.
        """
        stop = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._executor, self._draw, spec, on_step, stop, resumption or Resumption()
            )
        finally:
            stop.set()

    def _draw(
        self, spec: PatternSpec, on_step: Callable[[], None], stop: threading.Event, resumption: "Resumption"
    ) -> Plates:
        if stop.is_set():  # called off while it waited for the thread
            raise Stopped
        pipeline, digest = self._load()
        if spec.model_digest != digest:
            detail = f"model: got {spec.model_digest[:80]}; this worker has {digest}"
            raise PermanentError(detail, code="unknown-model")
        begin = _fitting_state(resumption.state, spec, pipeline)
        if begin is not None:
            resumption.on_resumed(begin.step)

        def end_step(_: object, index: int, __: float, values: dict[str, Any]) -> dict[str, Any]:
            if stop.is_set():
                raise Stopped
            resumption.keep(partial(_take_state, spec, pipeline, index + 1, values), index + 1)
            on_step()
            return values

        # Exact colours go to the model by the names of others, as at the edge.
        names = known_names(pipeline.tokenizer)
        prompt, substitutions = read_hex(spec.prompt, names)
        negative, _ = read_hex(spec.negative_prompt, names)
        fields, palettes = pipeline(
            [prompt],
            seeds=[spec.seed],
            repeats=[spec.repeat],
            negative_prompts=[negative] if negative else None,
            guidance_scale=spec.guidance_scale,
            num_inference_steps=spec.num_inference_steps,
            callback_on_step_end=end_step,
            **_as_tensors(begin),
        )
        return fields_to_plates(
            tidy_fields(fields[0]),
            choose_palette(palettes[0], spec.palette, substitutions),
            pattern_key=pattern_key(spec),
            model_digest=digest,
        )

    def _load(self) -> "tuple[HousePipeline, str]":
        if self._loaded is None:
            began_s = time.perf_counter()
            bundle = open_bundle(self._bundle_dir)
            import torch  # noqa: PLC0415  seconds: not before something must be sampled
            from diffusers.utils.logging import disable_progress_bar  # noqa: PLC0415

            from halfdrop.hub.pipeline import HousePipeline  # noqa: PLC0415

            disable_progress_bar()
            torch.set_num_threads(self._threads)
            wants_cuda = self._device == "cuda" or (self._device == "auto" and torch.cuda.is_available())
            dtype = torch.bfloat16 if wants_cuda else torch.float32
            pipeline = HousePipeline.from_pretrained(bundle.directory, torch_dtype=dtype)
            pipeline.to("cuda" if wants_cuda else "cpu")
            self._loaded = pipeline, bundle.digest
            self.load_s = time.perf_counter() - began_s
            log.info("model_loaded", bundle=bundle.name, digest=bundle.digest, device=str(pipeline.device))
        return self._loaded


def _fitting_state(state: SamplerState | None, spec: PatternSpec, pipeline: "HousePipeline") -> SamplerState | None:
    """Return `state` if this very worker would have come to it, else None, with a line in the log."""
    if state is None:
        return None
    reason = why_unfit(
        state,
        model_digest=spec.model_digest,
        seed=spec.seed,
        levels=time_steps(spec.num_inference_steps),
        device=pipeline.device.type,
        dtype=str(pipeline.dtype).removeprefix("torch."),
        shape=(1, *SHAPE),
    )
    if reason:
        log.warning("saved_step_ignored", reason=reason)
        return None
    log.info("sampling_resumed", step=state.step, steps=spec.num_inference_steps)
    return state


def _take_state(spec: PatternSpec, pipeline: "HousePipeline", step: int, values: dict[str, Any]) -> SamplerState:
    """Copy the state after `step` out of the device. A step makes new latents and changes none in place."""
    return SamplerState(
        model_digest=spec.model_digest,
        seed=spec.seed,
        step=step,
        levels=time_steps(spec.num_inference_steps),
        device=pipeline.device.type,
        dtype=str(pipeline.dtype).removeprefix("torch."),
        latents=values["latents"].cpu().numpy(),
        palettes=values["palettes"].float().cpu().numpy(),
    )


def _as_tensors(state: SamplerState | None) -> dict[str, Any]:
    """Return the pipeline's arguments that go on from `state`."""
    if state is None:
        return {}
    import torch  # noqa: PLC0415  the model is loaded: it is there

    return {
        "latents": torch.from_numpy(np.array(state.latents)),
        "palettes": torch.from_numpy(np.array(state.palettes)),
        "first_step": state.step,
    }
