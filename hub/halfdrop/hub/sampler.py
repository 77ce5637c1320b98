"""Plates or painted units for specs: jobs for the engine, and what comes of them.

Models are loaded when first needed or warmed: the house's, and those that users imported.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, cast

import numpy as np
import structlog
from msgspec import UNSET
from numpy.typing import NDArray

from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.jobs import JobClass
from halfdrop.contracts.patterns import PatternSpec, pattern_key
from halfdrop.contracts.plates import Plates
from halfdrop.hub.checkpoints.importing import require_libraries
from halfdrop.hub.checkpoints.lora_choice import LoraChoice
from halfdrop.hub.engine.asks import HouseAsk, UnitAsk
from halfdrop.hub.engine.limits import Limits
from halfdrop.hub.engine.pool import Loadable, ModelPool
from halfdrop.hub.engine.running import Engine
from halfdrop.hub.engine.seams import Order
from halfdrop.hub.imported import ImportedModels
from halfdrop.hub.saved_work import SamplerState, TakeState
from halfdrop.models.bundle import Bundle, open_bundle, peek_bundle
from halfdrop.models.fields import choose_palette, fields_to_plates, tidy_fields
from halfdrop.models.house.schedule import time_steps

if TYPE_CHECKING:
    from halfdrop.hub.engine.diffusion import CheckpointModel
    from halfdrop.hub.engine.house import Drawn, HouseModel, HouseState
    from halfdrop.hub.engine.unit_state import UnitState

log = structlog.get_logger()

Bytes = NDArray[np.uint8]

MODELS_BYTES = 6 * 2**30
ROWS_MAX, ROWS_MAX_CUDA = 8, 32
"""Samples in a round: on a CPU more gain nothing and delay whoever comes; on a GPU memory ends it sooner, which is
learnt."""


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """What an earlier try left, and where this one leaves its own. All is called in the engine's thread."""

    state: SamplerState | None = None
    on_resumed: Callable[[int], None] = lambda _: None
    """Called once if sampling goes on from `state`, with the steps that need not be done again."""

    keep: Callable[[TakeState, int], None] = lambda _, __: None
    """Called after each step, with what copies the state out, and the steps done."""


@dataclass(frozen=True, kw_only=True)
class Painted:
    """What a user's checkpoint painted."""

    unit: Bytes
    """[side, side, 3] sRGB."""

    device: str
    """"cpu" or "cuda"."""

    dtype: str


class Sampler:
    """Draws plates for specs, as many at once as are asked for. Close it (`with`) to end its threads."""

    def __init__(
        self,
        bundle_dir: Path,
        *,
        device: Literal["auto", "cpu", "cuda"],
        threads: int,
        models_bytes: int = MODELS_BYTES,
        precision: Literal["auto", "float32", "bfloat16"] = "auto",
        models_dir: Path | None = None,
    ) -> None:
        """models_dir: the store of users' models; None: there are none."""
        self._bundle_dir = bundle_dir
        self._device = device
        self._threads = threads
        self._precision = precision
        self._house: str | None = None
        self.imported = ImportedModels(models_dir, budget_bytes=models_bytes)
        self.pool = ModelPool(self._find_loadable, budget_bytes=models_bytes)
        self.limits = Limits(ROWS_MAX)
        self.engine = Engine(self.pool, self.limits)
        self.pool.on_change = self.engine.wake

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.__exit__()
        self.pool.__exit__()

    @property
    def load_s(self) -> float | None:
        """How long loading the house model took; None before."""
        return self.pool.counters.load_seconds.get("house")

    async def warm(self) -> None:
        """Load everything that the first sampling needs. Whatever is wrong with the model is logged and no more:
        jobs that bring their plates can still be finished."""
        try:
            digest = await asyncio.to_thread(self._house_digest)
            await asyncio.wrap_future(self.pool.preload(digest))
        except PermanentError as error:
            log.error("model_unavailable", error=error.detail)
        except Exception:
            log.exception("model_unavailable")

    async def draw(
        self,
        spec: PatternSpec,
        *,
        on_step: Callable[[], None],
        resumption: "Resumption | None" = None,
        job_class: JobClass = "standard",
    ) -> Plates:
        """Return new plates for `spec`; `on_step` is called in the engine's thread after each step.

        With a `resumption`, sampling goes on from the state in it if that fits, and each step's state is kept there.
        Raises PermanentError(unknown-model) if this worker's bundle is not the one that the spec names. When the
        caller is cancelled, the job leaves at its next step.
        """
        resumption = resumption or Resumption()
        digest = await asyncio.to_thread(self._house_digest)
        if spec.model_digest != digest:
            detail = f"model: got {spec.model_digest[:80]}; this worker has {digest}"
            raise PermanentError(detail, code="unknown-model")
        ask = HouseAsk(
            prompt=spec.prompt,
            negative_prompt=spec.negative_prompt,
            seed=spec.seed,
            repeat=spec.repeat,
            guidance_scale=spec.guidance_scale,
            num_inference_steps=spec.num_inference_steps,
            saved=resumption.state,
        )

        def begin(state: "HouseState") -> None:
            if state.step:
                resumption.on_resumed(state.step)

        def end_step(state: "HouseState") -> None:
            resumption.keep(_taker_of(state), state.step)
            on_step()

        order = Order(model=digest, ask=ask, job_class=job_class, on_begin=begin, on_step=end_step)
        drawn: Drawn = await self.engine.run(order)
        return await asyncio.to_thread(_as_plates, spec, drawn)

    async def paint(
        self,
        spec: PatternSpec,
        unit_px: int,
        *,
        on_step: Callable[[], None] = lambda: None,
        on_sketch: Callable[[Callable[[], Bytes], int], None] = lambda _, __: None,
        resumption: "Resumption | None" = None,
        job_class: JobClass = "standard",
    ) -> Painted:
        """Return the unit that an imported checkpoint paints for `spec`.

        on_step is called in the engine's thread after each step; before it on_sketch, with what makes a small picture
        of the unit so far, to be called at once, and the steps done. With a `resumption`, painting goes on from the
        state in it if that fits, and each step's state is kept there, if its scheduler's memory can be written down.
        Raises PermanentError(unknown-model), InvalidInput for what the model cannot draw. When the caller is cancelled,
        the job leaves at its next step.
        """
        resumption = resumption or Resumption()
        digest = spec.model_digest
        if self.imported.find(digest) is None:
            await asyncio.to_thread(self.imported.look)  # imported a moment ago, perhaps
        uses = () if spec.loras is UNSET else spec.loras
        ask = UnitAsk(
            prompt=spec.prompt,
            size_px=unit_px,
            seed=spec.seed,
            negative_prompt=spec.negative_prompt,
            repeat=spec.repeat,
            guidance_scale=spec.guidance_scale,
            num_inference_steps=spec.num_inference_steps,
            loras=tuple(LoraChoice(file=self.imported.lora_file(use.digest), weight=use.weight) for use in uses),
            saved=resumption.state,
        )
        drawn_by: list[CheckpointModel] = []

        def begin(state: "UnitState") -> None:
            drawn_by.append(cast("CheckpointModel", self.pool.find(digest)))
            if state.step:
                resumption.on_resumed(state.step)

        def end_step(state: "UnitState") -> None:
            take = drawn_by[0].taker_of(state)
            if take is not None:
                resumption.keep(take, state.step)
            on_sketch(lambda: drawn_by[0].sketch(state), state.step)
            on_step()

        order = Order(model=digest, ask=ask, job_class=job_class, on_begin=begin, on_step=end_step)
        unit: Bytes = await self.engine.run(order)
        return Painted(unit=unit, device=drawn_by[0].device, dtype=drawn_by[0].dtype)

    def _house_digest(self) -> str:
        if self._house is None:
            self._house = peek_bundle(self._bundle_dir).digest
        return self._house

    def _find_loadable(self, digest: str) -> Loadable:
        """Return what would load a model. Raises PermanentError(unknown-model) for one that is nowhere here."""
        if self.imported.find(digest) is not None:
            imported = self.imported.bundle(digest)
            load = partial(self._load_checkpoint, imported)
            return Loadable(digest=digest, name=imported.name, size_bytes=imported.size_bytes, load=load)
        if digest != self._house:
            self.imported.bundle(digest)
        bundle = peek_bundle(self._bundle_dir)
        return Loadable(digest=digest, name="house", size_bytes=2 * bundle.size_bytes, load=self._load_house)

    def _load_house(self) -> "HouseModel":
        """Check and load the bundle. In the pool's thread."""
        bundle = open_bundle(self._bundle_dir)
        import torch  # noqa: PLC0415  seconds: not before something must be sampled

        from halfdrop.hub.engine.house import HouseModel  # noqa: PLC0415
        from halfdrop.hub.pipeline import HousePipeline  # noqa: PLC0415

        wants_cuda = self._prepare_torch()
        is_half = self._precision == "bfloat16" or (self._precision == "auto" and wants_cuda)
        dtype = torch.bfloat16 if is_half else torch.float32
        pipeline = HousePipeline.from_pretrained(bundle.directory, torch_dtype=dtype)
        pipeline.to("cuda" if wants_cuda else "cpu")
        return HouseModel(pipeline, bundle.digest, threads=self._threads)

    def _load_checkpoint(self, bundle: Bundle) -> "CheckpointModel":
        """Check and load a user's model. In the pool's thread."""
        require_libraries()
        from halfdrop.hub.checkpoints.drawing import open_checkpoint  # noqa: PLC0415  torch: seconds
        from halfdrop.hub.engine.diffusion import CheckpointModel  # noqa: PLC0415

        wants_cuda = self._prepare_torch()
        checkpoint = open_checkpoint(bundle.directory, "cuda" if wants_cuda else "cpu")
        return CheckpointModel(checkpoint, bundle.digest, threads=self._threads)

    def _prepare_torch(self) -> bool:
        """Set torch up as all models here want it, and return whether they draw on a GPU."""
        import torch  # noqa: PLC0415  seconds
        from diffusers.utils.logging import disable_progress_bar  # noqa: PLC0415

        disable_progress_bar()
        # One for each of the engine's own threads: torch's would spin while they wait for each other.
        torch.set_num_threads(1)
        wants_cuda = self._device == "cuda" or (self._device == "auto" and torch.cuda.is_available())
        if wants_cuda:
            self.limits.rows_max = ROWS_MAX_CUDA
        return wants_cuda


def _taker_of(state: "HouseState") -> TakeState:
    """Return what copies a state as it is now out of the device: a step makes new latents and changes none in place."""
    latents, palettes, step = state.latents, state.palettes, state.step

    def take() -> SamplerState:
        return SamplerState(
            model_digest=state.digest,
            seed=state.ask.seed,
            step=step,
            levels=time_steps(state.steps),
            device=state.device,
            dtype=state.dtype,
            tensors={"latents": latents.cpu().numpy(), "palettes": palettes.float().cpu().numpy()},
        )

    return take


def _as_plates(spec: PatternSpec, drawn: "Drawn") -> Plates:
    return fields_to_plates(
        tidy_fields(drawn.fields),
        choose_palette(drawn.palette, spec.palette, drawn.substitutions),
        pattern_key=pattern_key(spec),
        model_digest=spec.model_digest,
    )
