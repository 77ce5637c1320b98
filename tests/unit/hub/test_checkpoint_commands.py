"""`halfdrop models` with a user's checkpoint: brought into the store, shown, drawn with, and refused whole."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from halfdrop.deploy.cli import main
from halfdrop.models.bundle import open_bundle
from halfdrop.models.store import ModelStore

Run = Callable[..., tuple[int, str, str]]
CopyOf = Callable[[Path], Path]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)

    def run_models(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["halfdrop", "models", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            main()
        out, err = capsys.readouterr()
        return int(ending.value.code or 0), out, err

    return run_models


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "data/models")


def test_a_checkpoint_is_imported_under_its_name_and_draws_an_exact_half_drop(
    run: Run, store: ModelStore, sd_dir: Path
) -> None:
    status, out, err = run(
        "import", sd_dir, "--name", "my-sd", "--version", "1.5", "--licence", "CreativeML Open RAIL-M"
    )
    assert status == 0, err
    assert out.startswith("my-sd-1.5  ")
    assert out.endswith("checkpoint  CreativeML Open RAIL-M  imported\n")
    bundle = store.find("my-sd")
    assert open_bundle(bundle.directory).manifest.kind == "checkpoint"
    assert [path.name for path in store.directory.iterdir() if path.name != ".lock"] == [bundle.digest]
    assert json.loads(run("show", "my-sd", "--json")[1])["manifest"]["tried"]["step_s"] > 0

    status, _, err = run("try", "my-sd", "red flowers, half-drop", "--steps", 1, "--seed", 5)
    assert status == 0, err
    assert err.startswith("tile.png  256 px, half-drop, 2 across, my-sd-1.5, drawn in ")
    tile = np.asarray(Image.open("tile.png"))
    assert tile.std() > 1
    assert np.array_equal(np.roll(tile[:, :128], 64, axis=0), tile[:, 128:])

    Path("tile.png").unlink()
    for option, value, words in (
        ("--palette", "#102030", "nothing for a checkpoint"),
        ("--steps", "999", "num_inference_steps"),
        ("--guidance", "99", "guidance_scale"),
    ):
        status, _, err = run("try", "my-sd", "red flowers", option, value)
        assert status == 2, option
        assert words in err
    assert not Path("tile.png").exists()


def test_a_checkpoint_is_named_after_its_folder_when_nothing_is_said(
    run: Run, store: ModelStore, sd_dir: Path, tmp_path: Path
) -> None:
    named = tmp_path / "Roses & Tulips!"
    named.mkdir()
    for part in sd_dir.iterdir():
        (named / part.name).symlink_to(part)
    assert run("import", named)[0] == 0
    bundle = store.find("Roses-Tulips")
    assert (bundle.version, bundle.manifest.licence) == ("1", "unknown")


def test_a_refused_checkpoint_leaves_nothing_in_the_store(
    run: Run, store: ModelStore, sd_dir: Path, copy_of: CopyOf
) -> None:
    damaged = copy_of(sd_dir)
    weights = damaged / "unet/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    status, out, err = run("import", damaged)
    assert (status, out) == (1, "")
    assert "diffusion_pytorch_model.safetensors: got" in err
    assert err.count("\n") == 1
    assert [path.name for path in store.directory.iterdir()] == [".lock"]


def test_a_directory_that_is_no_model_is_refused_with_what_may_be_brought(run: Run, sd_dir: Path) -> None:
    for named in ([], ["--name", "mine"]):
        status, _, err = run("import", sd_dir / "unet", *named)
        assert status == 2
        assert f"path: got '{sd_dir / 'unet'}'; allowed: a bundle's directory" in err
