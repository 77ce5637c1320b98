"""A painted unit that goes on elsewhere, from any step and with any scheduler, ends in the same bits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import structlog
import torch

from halfdrop.hub.checkpoints.drawing import Checkpoint, load_checkpoint
from halfdrop.hub.checkpoints.families import SCHEDULERS
from halfdrop.hub.checkpoints.layout import check_layout
from halfdrop.hub.engine.asks import UnitAsk
from halfdrop.hub.engine.diffusion import CheckpointModel
from halfdrop.hub.engine.unit_state import UnitState
from halfdrop.hub.saved_work import SamplerState, TakeState, decode_saved, encode_saved

# diffusers' schedulers of second order hand NumPy tensors; the values are right.
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning")

ASK = UnitAsk(prompt="red dots", size_px=64, seed=5, num_inference_steps=4, guidance_scale=2.0)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as workers have it
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoint(sd_dir: Path) -> Checkpoint:
    return load_checkpoint(check_layout(sd_dir), "cpu")


@pytest.fixture(params=sorted(SCHEDULERS))
def model(request: pytest.FixtureRequest, checkpoint: Checkpoint) -> CheckpointModel:
    pipeline = checkpoint.pipeline
    pipeline.scheduler = getattr(diffusers, request.param).from_config(pipeline.scheduler.config)
    return CheckpointModel(checkpoint, "roses")


def paint(model: CheckpointModel, saved: SamplerState | None = None) -> tuple[UnitState, dict[int, TakeState | None]]:
    """Return the last state, and what takes out the one after each step."""
    ask = UnitAsk(**{name: getattr(ASK, name) for name in ASK.__slots__} | {"saved": saved})
    model.enter(model.group_of(ask))
    state = model.begin(ask)
    taken: dict[int, TakeState | None] = {}
    while state.step < state.steps:
        [prediction] = model.predict([state])
        model.advance(state, prediction)
        taken[state.step] = model.taker_of(state)
    return state, taken


def read_again(take: TakeState | None) -> SamplerState:
    assert take is not None
    _, state = decode_saved(encode_saved(release="0", pattern_key="k", size_px=64, state=take(), files=None))
    assert state is not None
    return state


def test_a_unit_that_goes_on_from_any_step_ends_in_the_same_bits(model: CheckpointModel) -> None:
    whole, taken = paint(model)
    states = {step: read_again(take) for step, take in taken.items()}  # long after the steps: nothing changed since
    for step, saved in states.items():
        resumed, later = paint(model, saved)
        assert sorted(later) == list(range(step + 1, whole.steps + 1))
        assert np.array_equal(resumed.latents, whole.latents), step
    assert len(encode_saved(release="0", pattern_key="k", size_px=64, state=states[2], files=None)) < 32_768


def test_what_was_saved_of_something_else_is_left_alone_and_logged(checkpoint: Checkpoint) -> None:
    model = CheckpointModel(checkpoint, "roses")
    saved = read_again(paint(model)[1][2])
    others: dict[str, dict[str, Any]] = {
        "seed": {"seed": 6},
        "levels": {"levels": (9.0, 1.0, 0.0)},
        "tensor": {"memory": {"latents": {"tensor": "elsewhere", "dtype": "float32"}, "scheduler": {}}},
        "attributes": {"memory": saved.memory | {"scheduler": {"step": 3}}},
        "scheduler": {"memory": {"latents": saved.memory["latents"]}},
    }
    for name, changes in others.items():
        members = {field: getattr(saved, field) for field in SamplerState.__dataclass_fields__}
        with structlog.testing.capture_logs() as logs:
            state = model.begin(UnitAsk(prompt="red dots", size_px=64, seed=5, num_inference_steps=4,
                                        saved=SamplerState(**members | changes)))  # fmt: skip
        assert state.step == 0, name
        assert [entry["event"] for entry in logs] == ["saved_step_ignored"], name


def test_a_scheduler_that_remembers_what_no_file_can_hold_is_not_saved(checkpoint: Checkpoint) -> None:
    model = CheckpointModel(checkpoint, "roses")
    state = model.begin(ASK)
    state.scheduler.noise_sampler = object()
    with structlog.testing.capture_logs() as logs:
        assert model.taker_of(state) is None
        assert model.taker_of(state) is None
    assert [entry["event"] for entry in logs] == ["steps_not_saved"], "once"
