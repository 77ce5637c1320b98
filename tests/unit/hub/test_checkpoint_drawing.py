"""Drawing with a checkpoint: what decides an image, and what does not."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.checkpoints.drawing import BATCH_MAX, Checkpoint, load_checkpoint
from halfdrop.hub.checkpoints.layout import check_layout

HALF_DROP = Repeat(layout="half-drop")


@pytest.fixture(scope="module", params=["sd_dir", "sdxl_dir"])
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    return load_checkpoint(check_layout(request.getfixturevalue(request.param)), "cpu")


def draw(checkpoint: Checkpoint, prompts: list[str], seeds: list[int], **options: object) -> np.ndarray:
    return checkpoint.draw(prompts, seeds, HALF_DROP, 128, **{"num_inference_steps": 2, **options})  # type: ignore[arg-type]


def test_an_image_is_the_same_whatever_batch_it_is_in(checkpoint: Checkpoint) -> None:
    (alone,) = draw(checkpoint, ["blue stars"], [4])
    for prompts, seeds, place in ((["red dots", "blue stars"], [3, 4], 1), (["blue stars", "x", "y"], [4, 9, 4], 0)):
        batch = draw(checkpoint, prompts, seeds)
        assert np.abs(batch[place].astype(int) - alone).max() <= 1
        assert np.abs(batch[1 - place].astype(int) - alone).mean() > 1


def test_half_precision_as_on_a_gpu_draws_the_same_picture(sd_dir: Path) -> None:
    checkpoint = load_checkpoint(check_layout(sd_dir), "cpu")
    exact = draw(checkpoint, ["blue stars"], [4])
    for part in ("unet", "text_encoder"):
        getattr(checkpoint.pipeline, part).to(torch.bfloat16)
    assert np.corrcoef(exact.ravel(), draw(checkpoint, ["blue stars"], [4]).ravel())[0, 1] > 0.98


@pytest.mark.parametrize("scheduler", ["EulerAncestralDiscreteScheduler", "DDPMScheduler", "LCMScheduler"])
def test_schedulers_that_add_noise_take_it_from_the_images_own_generator(
    sd_dir: Path, copy_of: Callable[[Path], Path], scheduler: str
) -> None:
    source = copy_of(sd_dir)
    index = json.loads((source / "model_index.json").read_text())
    (source / "model_index.json").write_text(json.dumps(index | {"scheduler": ["diffusers", scheduler]}))
    checkpoint = load_checkpoint(check_layout(source), "cpu")
    assert type(checkpoint.pipeline.scheduler).__name__ == scheduler
    (alone,) = draw(checkpoint, ["blue stars"], [4], num_inference_steps=3)
    batch = draw(checkpoint, ["red dots", "blue stars"], [3, 4], num_inference_steps=3)
    assert np.abs(batch[1].astype(int) - alone).max() <= 1
    (again,) = draw(checkpoint, ["blue stars"], [4], num_inference_steps=3)
    np.testing.assert_array_equal(alone, again)


@pytest.mark.parametrize(
    "changes",
    [{"seeds": [5]}, {"prompts": ["red dots"]}, {"negative_prompts": ["noise"]}, {"guidance_scale": 2.0},
     {"num_inference_steps": 3}],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_everything_that_is_asked_for_matters(checkpoint: Checkpoint, changes: dict[str, object]) -> None:
    asked: dict[str, object] = {"prompts": ["blue stars"], "seeds": [4]}
    before, after = draw(checkpoint, **asked), draw(checkpoint, **(asked | changes))  # type: ignore[arg-type]
    assert np.abs(before.astype(int) - after).max() > 0


def test_each_step_is_told_and_may_stop_the_drawing(checkpoint: Checkpoint) -> None:
    class Stopped(Exception):
        pass

    told: list[tuple[int, int]] = []

    def on_step(done: int, total: int) -> None:
        told.append((done, total))
        if done == 2:
            raise Stopped

    with pytest.raises(Stopped):
        draw(checkpoint, ["dots"], [1], num_inference_steps=4, on_step=on_step)
    assert [done for done, _ in told] == [1, 2]
    draw(checkpoint, ["dots"], [1], num_inference_steps=4, on_step=lambda *step: told.append(step))
    assert told[-1][0] == told[-1][1] >= 4


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"prompts": []}, "prompts"),
        ({"prompts": ["x"] * (BATCH_MAX + 1), "seeds": [0] * (BATCH_MAX + 1)}, "prompts"),
        ({"seeds": [1, 2]}, "seeds"),
        ({"seeds": [-1]}, "seeds"),
        ({"negative_prompts": ["a", "b"]}, "negative_prompts"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
    ],
)
def test_what_is_outside_its_limits_is_refused_by_name(
    checkpoint: Checkpoint, changes: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        draw(checkpoint, **({"prompts": ["x"], "seeds": [1]} | changes))  # type: ignore[arg-type]
    assert caught.value.field == field
