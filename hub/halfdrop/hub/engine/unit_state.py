"""Where a painted unit stands, and how that is written down between two workers.

Schedulers remember things of many kinds: earlier predictions, counters, samples. What of a scheduler's attributes is no
longer as it was before the first step is its memory: numbers go into the saved record, tensors beside the latents. A
scheduler with anything else among it cannot be saved; its jobs begin anew.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import structlog
import torch
from torch import Tensor

from halfdrop.hub.engine.asks import UnitAsk
from halfdrop.hub.saved_work import SamplerState, TakeState, why_unfit

log = structlog.get_logger()

NOT_MEMORY = frozenset({"_internal_dict"})
"""The configuration, which the model's digest stands for."""


@dataclass(slots=True, kw_only=True)
class UnitState:
    """Where one unit stands."""

    ask: UnitAsk
    step: int
    steps: int
    latents: Tensor
    """[1, C, H / f, W / f]."""

    texts: list[Tensor]
    """[1, 77, width] of each sample: with guidance first what is led away from, then the prompt."""

    added: list[dict[str, Tensor]]
    """Of each sample: SDXL's pooled text and sizes; empty for SD."""

    timestep_condition: Tensor | None
    """Guidance as an input, for networks that were distilled to take it so."""

    scheduler: Any
    scheduler_options: dict[str, Any]
    unused: dict[str, Any]
    """The scheduler's attributes before the first step."""

    generator: torch.Generator
    is_unsaved: bool = field(default=False)
    """It was said in the log that this state cannot be written down."""


def note_attributes(scheduler: Any) -> dict[str, Any]:
    """Return a scheduler's attributes as they are now: a step puts others in their place, or changes a list."""
    return {
        name: list(value) if isinstance(value, list) else value
        for name, value in vars(scheduler).items()
        if name not in NOT_MEMORY
    }


def taker_of(state: UnitState, *, model_digest: str, dtype: str) -> TakeState | None:
    """Return what copies a state as it is now out of the device; None if its scheduler cannot be written down."""
    tensors: dict[str, Tensor] = {}
    try:
        memory: dict[str, Any] = {"latents": _write_down(state.latents, "latents", tensors)}
        memory["scheduler"] = {
            name: _write_down(value, f"scheduler.{name}", tensors)
            for name, value in note_attributes(state.scheduler).items()
            if not _is_same(value, state.unused.get(name, NOT_MEMORY))
        }
    except ValueError as error:
        if not state.is_unsaved:
            state.is_unsaved = True
            log.info("steps_not_saved", scheduler=type(state.scheduler).__name__, reason=str(error))
        return None
    if "generator" in state.scheduler_options:
        tensors["generator"] = state.generator.get_state()
    step, device = state.step, state.latents.device.type

    def take() -> SamplerState:
        return SamplerState(
            model_digest=model_digest,
            seed=state.ask.seed,
            step=step,
            levels=_levels(state),
            device=device,
            dtype=dtype,
            tensors={name: _to_numpy(tensor) for name, tensor in tensors.items()},
            memory=memory,
        )

    return take


def go_on(state: UnitState, saved: SamplerState, *, model_digest: str, dtype: str) -> None:
    """Put a state that was just begun where `saved` stands; leave it as it is, with a line in the log, if that is
    nothing that this model would have come to itself."""
    reason = why_unfit(
        saved,
        model_digest=model_digest,
        seed=state.ask.seed,
        levels=_levels(state),
        device=state.latents.device.type,
        dtype=dtype,
        shape=tuple(state.latents.shape),
        names=("latents", "generator") if "generator" in state.scheduler_options else ("latents",),
    )
    try:
        if reason:
            raise ValueError(reason)
        device = state.latents.device
        latents = _read_back(saved.memory["latents"], saved, device)
        members = {name: _read_back(value, saved, device) for name, value in saved.memory["scheduler"].items()}
        if foreign := [name for name in members if hasattr(type(state.scheduler), name) or name in NOT_MEMORY]:
            raise ValueError(f"attributes: got {foreign}, which are none of a scheduler's memory")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("saved_step_ignored", reason=str(error))
        return
    vars(state.scheduler).update(members)
    state.latents, state.step = latents, saved.step
    if "generator" in state.scheduler_options:
        state.generator.set_state(torch.from_numpy(np.array(saved.tensors["generator"])))
    log.info("sampling_resumed", step=state.step, steps=state.steps)


def _levels(state: UnitState) -> tuple[float, ...]:
    """The scheduler's timesteps, and the end: one more than there are steps."""
    return (*(float(level) for level in state.scheduler.timesteps), 0.0)


def _is_same(value: Any, before: Any) -> bool:
    if value is before:
        return True
    if isinstance(value, Tensor) or isinstance(before, Tensor):
        return isinstance(value, Tensor) and isinstance(before, Tensor) and torch.equal(value, before)
    if isinstance(value, list):
        is_list = isinstance(before, list) and len(value) == len(before)
        return is_list and all(_is_same(*pair) for pair in zip(value, before, strict=True))
    return type(value) is type(before) and bool(np.all(value == before))


def _write_down(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return a value as JSON, a tensor in it by its name in `tensors`. Raises ValueError for what is neither."""
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"tensor": name, "dtype": str(value.dtype).removeprefix("torch.")}
    if isinstance(value, list):
        return [_write_down(each, f"{name}.{place}", tensors) for place, each in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ValueError(f"{name}: got a {type(value).__name__}; allowed: numbers, texts, tensors, and lists of them")


def _read_back(written: Any, saved: SamplerState, device: torch.device) -> Any:
    if isinstance(written, list):
        return [_read_back(each, saved, device) for each in written]
    if not isinstance(written, dict):
        return written
    dtype = getattr(torch, written["dtype"])
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"dtype: got {dtype!r}")
    tensor = torch.from_numpy(np.array(saved.tensors[written["tensor"]])).to(dtype)
    return tensor.to(device) if tensor.ndim else tensor  # a number is at home on every device


def _to_numpy(tensor: Tensor) -> np.ndarray:
    """bfloat16, which numpy does not know, becomes float32: nothing is lost, and it is read back as what it was."""
    plain = tensor.detach().cpu()
    return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
