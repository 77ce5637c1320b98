"""Exporting a checkpoint to INT8: the gates pass on what it should be, and refuse what it should not."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.checkpoints.exporting import export_int8
from halfdrop.hub.checkpoints.importing import import_checkpoint
from halfdrop.hub.checkpoints.onnx_gates import Drawn, judge
from halfdrop.models.bundle import MANIFEST_NAME, open_bundle

pytestmark = pytest.mark.timeout(600)
"""An export takes ten seconds of a core, tiny as the networks are: it traces every layer. Cores may be shared."""


def drawn(levels: np.ndarray) -> Drawn:
    return Drawn(unit=levels.astype(np.uint8), step_s=0.1)


def test_the_gates_say_what_failed() -> None:
    noise = np.random.default_rng(1)
    picture = noise.integers(40, 200, (64, 64, 3))
    grain, ruin = noise.integers(-3, 4, picture.shape), noise.integers(-40, 40, picture.shape)
    assert not judge(drawn(picture), drawn(picture), drawn(picture + grain), Repeat()).failure()
    assert (
        "float32 against the checkpoint"
        in judge(drawn(picture), drawn(picture + grain), drawn(picture), Repeat()).failure()
    )
    assert "INT8 against float32" in judge(drawn(picture), drawn(picture), drawn(picture + ruin), Repeat()).failure()
    even = 100 + noise.integers(0, 2, (64, 64, 3))
    ramp = even + np.linspace(-6, 6, 64).astype(int)[:, None, None]  # hardly another picture, but it does not close
    assert "seams" in judge(drawn(even), drawn(even), drawn(ramp), Repeat()).failure()


@pytest.mark.parametrize(
    ("fixture", "repeat"), [("sd_dir", None), ("sdxl_dir", Repeat(layout="half-drop"))], ids=["straight", "half-drop"]
)
def test_an_export_draws_what_the_checkpoint_draws(
    fixture: str, repeat: Repeat | None, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    import_checkpoint(
        request.getfixturevalue(fixture), tmp_path / "mine", name="mine", version="2", licence="?",
        on_progress=lambda *_: None,
    )  # fmt: skip
    stages: list[str] = []
    export_int8(tmp_path / "mine", tmp_path / "edge", on_progress=lambda stage, *_: stages.append(stage), repeat=repeat)
    bundle = open_bundle(tmp_path / "edge")
    assert (bundle.name, bundle.version, bundle.manifest.kind) == ("mine-int8", "2", "checkpoint-edge")
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "edge"}
    manifest = json.loads((tmp_path / "edge" / MANIFEST_NAME).read_bytes())
    assert manifest["exported_from"] == open_bundle(tmp_path / "mine").digest
    assert manifest["repeat"]["layout"] == ("half-drop" if repeat else "straight")
    assert manifest["precision"]["unet"] == "int8"
    assert manifest["precision"]["vae_decoder"] == "float32"
    gates = manifest["gates"]
    assert gates["onnx_psnr_db"] >= 45
    assert gates["int8_psnr_db"] >= 25
    assert gates["seam_ratio_int8"] <= 1.05
    assert gates["int8_step_s"] > 0
    operators = {node.op_type for node in onnx.load(tmp_path / "edge" / "unet" / "model.onnx").graph.node}
    assert {"MatMulInteger", "Conv"} <= operators
    assert list(dict.fromkeys(stages)) == ["load", "export", "quantize", "measure", "write"]
