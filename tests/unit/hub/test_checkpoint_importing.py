"""Importing a checkpoint: a bundle that opens, or nothing at all."""

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.checkpoints.drawing import open_checkpoint
from halfdrop.hub.checkpoints.importing import import_checkpoint
from halfdrop.models.bundle import MANIFEST_NAME, open_bundle

CopyOf = Callable[[Path], Path]
Told = list[tuple[str, int, int]]


def bring(source: Path, bundle_dir: Path, told: Told | None = None) -> None:
    def on_progress(stage: str, done: int, total: int) -> None:
        if told is not None:
            told.append((stage, done, total))

    import_checkpoint(
        source, bundle_dir, name="mine", version="1", licence="CreativeML Open RAIL-M", on_progress=on_progress
    )


@pytest.fixture(scope="module")
def imported(sd_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle; its directory was there before, and empty."""
    folder = tmp_path_factory.mktemp("imported")
    bring(sd_dir, folder)
    return folder


@pytest.mark.parametrize(("fixture", "family"), [("sd_dir", "sd"), ("sdxl_dir", "sdxl")])
def test_an_imported_checkpoint_is_a_bundle_with_what_was_measured(
    fixture: str, family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    told: Told = []
    bring(request.getfixturevalue(fixture), tmp_path / "mine-1", told)
    bundle = open_bundle(tmp_path / "mine-1")
    assert (bundle.name, bundle.version, bundle.manifest.licence) == ("mine", "1", "CreativeML Open RAIL-M")
    assert {"model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"} <= set(
        bundle.manifest.files
    )
    manifest = json.loads((tmp_path / "mine-1" / MANIFEST_NAME).read_bytes())
    assert manifest["family"] == family
    tried = manifest["tried"]
    assert tried["step_s"] > 0
    assert tried["peak_rss_bytes"] > 50e6
    assert [tile["layout"] for tile in tried["tiles"]] == ["straight", "half-drop"]
    assert all(tile["seam_ratio"] <= 1.05 and tile["shift_error"] < 1e-3 for tile in tried["tiles"])
    assert list(dict.fromkeys(stage for stage, _, _ in told)) == ["check", "copy", "try", "write"]
    for stage in ("check", "copy", "try", "write"):
        done = [(place, total) for name, place, total in told if name == stage]
        assert done == sorted(done)
        assert done[-1][0] == done[-1][1] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine-1"]


def test_what_was_imported_draws(imported: Path) -> None:
    units = open_checkpoint(imported, "cpu").draw(["dots"], [1], Repeat(), 64, num_inference_steps=1)
    assert units.shape == (1, 64, 64, 3)
    assert units.dtype == np.uint8


def test_a_damaged_bundle_is_refused(imported: Path, copy_of: CopyOf) -> None:
    bundle_dir = copy_of(imported)
    file = bundle_dir / "vae" / "diffusion_pytorch_model.safetensors"
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)
    with pytest.raises(PermanentError) as caught:
        open_checkpoint(bundle_dir, "cpu")
    assert caught.value.code == "bad-bundle"


def test_a_checkpoint_that_draws_nothing_leaves_nothing(sd_dir: Path, copy_of: CopyOf, tmp_path: Path) -> None:
    source = copy_of(sd_dir)
    file = source / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["conv_out.weight"] = torch.full_like(weights["conv_out.weight"], torch.inf)
    save_file(weights, file)
    (tmp_path / "bundles" / "mine").mkdir(parents=True)
    with pytest.raises(PermanentError) as caught:
        bring(source, tmp_path / "bundles" / "mine")
    assert caught.value.code == "unsupported-checkpoint"
    assert list((tmp_path / "bundles").rglob("*")) == [tmp_path / "bundles" / "mine"]


def test_an_import_that_is_stopped_leaves_nothing(sd_dir: Path, tmp_path: Path) -> None:
    def stop(stage: str, _: int, __: int) -> None:
        if stage == "try":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_checkpoint(sd_dir, tmp_path / "mine", name="mine", version="1", licence="?", on_progress=stop)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_overwritten(sd_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(PermanentError) as caught:
        bring(sd_dir, tmp_path)
    assert caught.value.code == "bundle-exists"
    assert (tmp_path / "kept.txt").read_text() == "mine"


def test_components_that_drawing_does_not_need_stay_behind(sd_dir: Path, copy_of: CopyOf, tmp_path: Path) -> None:
    source = copy_of(sd_dir)
    (source / "safety_checker").mkdir()
    (source / "safety_checker" / "model.safetensors").write_bytes(b"large")
    (source / "README.md").write_text("card")
    index = msgspec.json.decode((source / "model_index.json").read_bytes())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (source / "model_index.json").write_bytes(msgspec.json.encode(index))
    bring(source, tmp_path / "mine")
    manifest = json.loads((tmp_path / "mine" / MANIFEST_NAME).read_bytes())
    assert manifest["left_out"] == ["safety_checker"]
    assert not [path for path in manifest["files"] if path.startswith("safety_checker")]
    assert "README.md" in manifest["files"]
    assert json.loads((tmp_path / "mine" / "model_index.json").read_bytes())["safety_checker"] == [None, None]
