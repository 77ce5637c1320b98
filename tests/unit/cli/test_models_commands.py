"""`halfdrop models`, run as a person runs it, on a store in a folder of the test's own."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from PIL import Image

from halfdrop.contracts.repeats import Repeat
from halfdrop.deploy.cli import main
from halfdrop.models.bundle import MANIFEST_NAME, OnProgress, file_table, open_bundle, shipped_bundle_dir
from halfdrop.models.store import ModelStore

FILES = {"model_index.json": b"{}", "unet/weights.safetensors": b"weights" * 1000}
FACTS = {
    "name": "roses",
    "version": "2",
    "licence": "CC-BY-4.0",
    "training_data": "Roses of one garden.",
    "kind": "checkpoint",
    "seed": 20261122,
    "gates": {"kind_accuracy": 0.987, "speed": {"step_s": 1.25}, "tiles": [{"layout": "straight"}]},
    "remark": "\x1b[2Jbold",
}


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    stdout: str
    stderr: str


Run = Callable[..., Ended]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HALFDROP_MODELS_DIR", raising=False)

    def run_models(*arguments: str | Path) -> Ended:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["halfdrop", "models", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            main()
        out, err = capsys.readouterr()
        return Ended(int(ending.value.code or 0), out, err)

    return run_models


@pytest.fixture
def roses(tmp_path: Path) -> Path:
    """A small bundle outside the store."""
    directory = tmp_path / "roses"
    for path, content in FILES.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(content)
    (directory / MANIFEST_NAME).write_bytes(msgspec.json.encode({**FACTS, "files": file_table(directory)}))
    return directory


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """Where the commands look when nothing else is said."""
    return ModelStore(tmp_path / "data/models")


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def test_the_shipped_models_are_listed_where_nothing_was_imported(run: Run, tmp_path: Path) -> None:
    listed = run("list")
    assert listed.status == 0
    assert re.search(r"^house-\S+ +[0-9a-f]{12} +\d+\.\d MB +house-preview +Apache-2\.0 +shipped$", listed.stdout, re.M)
    assert list(tmp_path.iterdir()) == [], "looking makes nothing"


def test_an_imported_bundle_is_listed_shown_and_verified(run: Run, roses: Path, store: ModelStore) -> None:
    imported = run("import", roses)
    digest = open_bundle(roses).digest
    assert imported == (0, f"roses-2  {digest[:12]}  0.0 MB  checkpoint  CC-BY-4.0  imported\n", "")
    assert run("import", roses).stdout.endswith("  was here already\n")
    assert run("alias", "roses@canary", "roses").stdout == f"roses@canary  {digest[:12]}  roses-2\n"
    assert re.search(r"^roses-2 .* checkpoint +CC-BY-4\.0 +imported +roses@canary$", run("list").stdout, re.M)
    shown = run("show", "roses@canary").stdout
    for words in (digest, "Roses of one garden.", "step_s", "1.25", "0.987", "20261122", "unet/weights.safetensors"):
        assert words in shown
    assert re.search(r"^  tiles\.1\.layout +straight$", shown, re.M)
    assert "\x1b" not in shown, "a manifest does not move the cursor"
    verified = run("verify", digest[:8])
    assert verified.status == 0
    assert re.search(r"^  ok  [0-9a-f]{12} +7,000 B  unet/weights\.safetensors$", verified.stdout, re.M)
    assert store.find("roses").directory == store.directory / digest


def test_lists_and_manifests_are_json_for_programs(run: Run, roses: Path) -> None:
    run("import", roses)
    listed = json.loads(run("list", "--json").stdout)
    assert [(model["name"], model["is_shipped"]) for model in listed][-1] == ("roses", False)
    assert {"version", "digest", "size_bytes", "kind", "licence", "aliases", "directory"} <= listed[0].keys()
    shown = json.loads(run("show", "roses", "--json").stdout)
    assert shown["manifest"]["gates"] == FACTS["gates"]
    assert shown["summary"] == listed[-1]


def test_the_store_is_where_the_option_or_the_environment_says(
    run: Run, roses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("import", roses, "--models-dir", tmp_path / "elsewhere")
    assert "roses" not in run("list").stdout
    assert "roses-2" in run("list", "--models-dir", tmp_path / "elsewhere").stdout
    monkeypatch.setenv("HALFDROP_MODELS_DIR", str(tmp_path / "elsewhere"))
    assert "roses-2" in run("list").stdout


def test_a_changed_byte_is_found_and_its_file_named(run: Run, roses: Path, store: ModelStore) -> None:
    run("import", roses)
    damaged = store.find("roses").directory
    flip(damaged / "unet/weights.safetensors")
    flip(roses / "model_index.json")
    for reference, name in (("roses", "unet/weights.safetensors"), (f"{roses}", "model_index.json")):
        ended = run("verify", reference)
        assert ended.status == 1
        assert f"{name} is damaged or was changed" in ended.stderr
    everything = run("verify")
    assert everything.status == 1
    assert "onnx/denoiser.onnx" in everything.stdout, "the others are verified all the same"
    assert "unet/weights.safetensors is damaged" in everything.stderr
    assert run("export", "roses", "roses.halfdrop.tar").status == 1
    assert not Path("roses.halfdrop.tar").exists()


def test_every_damaged_model_is_named(run: Run, roses: Path, store: ModelStore) -> None:
    run("import", roses)
    digest = store.find("roses").digest
    (store.directory / digest / "model_index.json").unlink()
    listed, verified = run("list"), run("verify")
    assert listed.status == 0
    assert "model_index.json is missing" in listed.stderr
    assert verified.status == 1
    assert "model_index.json is missing" in verified.stderr
    assert run("remove", digest) == (0, f"removed {digest}\n", "")
    assert run("verify").status == 0


def test_a_model_travels_as_one_file(run: Run, roses: Path, tmp_path: Path) -> None:
    run("import", roses)
    exported = run("export", "roses", "roses.halfdrop.tar")
    assert exported.status == 0
    assert exported.stderr.startswith("roses.halfdrop.tar  0.01 MB")
    other = ("--models-dir", tmp_path / "other")
    assert run("import", "roses.halfdrop.tar", *other).stdout.startswith("roses-2  ")
    run("export", "roses", "again.halfdrop.tar", *other)
    assert Path("again.halfdrop.tar").read_bytes() == Path("roses.halfdrop.tar").read_bytes()


def test_a_damaged_archive_brings_nothing(run: Run, roses: Path, tmp_path: Path) -> None:
    run("import", roses)
    run("export", "roses", "roses.halfdrop.tar")
    data = Path("roses.halfdrop.tar").read_bytes()
    Path("cut.halfdrop.tar").write_bytes(data[:-600])
    ended = run("import", "cut.halfdrop.tar", "--models-dir", tmp_path / "other")
    assert ended.status == 1
    assert ended.stderr.startswith("halfdrop: model archive cut.halfdrop.tar: ends too soon")
    assert "roses" not in run("list", "--models-dir", tmp_path / "other").stdout


def test_aliases_are_set_listed_and_dropped(run: Run, roses: Path) -> None:
    run("import", roses)
    run("alias", "roses@stable", "roses")
    run("alias", "house@stable", "house")
    assert [line.split()[0] for line in run("alias").stdout.splitlines()] == ["house@stable", "roses@stable"]
    refused = run("remove", "roses")
    assert refused.status == 1
    assert "roses@stable" in refused.stderr
    assert run("alias", "--drop", "roses@stable").status == 0
    assert run("remove", "roses").stdout.startswith("removed roses-2 ")
    assert run("remove", "roses").status == 1
    assert run("remove", "house", "--with-aliases").stderr.startswith("halfdrop: house came with this installation")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["show", "tulips"], 1, "no model 'tulips' in data/models; there are: house-"),
        (
            ["import", "nowhere"],
            1,
            "nowhere does not exist; allowed: a bundle's directory, a .halfdrop.tar, a",
        ),
        (["import", "empty"], 2, "path: got 'empty'; allowed: a bundle's directory, a .halfdrop.tar, a"),
        (["import", "model.bin"], 2, "path: got 'model.bin'; allowed: a bundle's directory"),
        (["import", "model.safetensors"], 1, "model.safetensors"),
        (["import", "roses", "--name", "tulips"], 2, "a bundle says itself what it is"),
        (["import", "checkpoint", "--name", "my roses"], 2, "--name: got 'my roses'; allowed: up to 64 letters"),
        (["export", "house", "house.zip"], 2, "a name that ends in .halfdrop.tar"),
        (["export", "house", "no/house.halfdrop.tar"], 2, "in a directory that exists"),
        (["export", "house", "edge", "--int8"], 2, "the house model is in INT8 already"),
        (["export", "house", "house.halfdrop.tar", "--repeat", "brick"], 2, "--int8 beside it"),
        (["alias", "house", "house"], 2, "NAME@LABEL"),
        (["alias", "house@stable"], 2, "NAME@LABEL MODEL, or --drop NAME@LABEL"),
        (["alias", "--drop", "house@old"], 1, "no alias 'house@old' in data/models; there are: none"),
        (["remove", "house"], 1, "came with this installation"),
        (["try", "house", "red dots", "--size", "10"], 2, "size_px: got '10'; allowed: 64 to 8192"),
        (["try", "house", "half-drop"], 2, "something to draw, beside its layout and scale"),
        (["try", "house", "red dots", "--steps", "9"], 2, "num_inference_steps: got '9'; allowed: 1 to 8"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
@pytest.mark.usefixtures("roses")
def test_wrong_input_is_one_line_with_what_is_allowed(
    run: Run, tmp_path: Path, arguments: list[str], status: int, words: str
) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("model.safetensors", "model.bin"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint/model_index.json").write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    ended = run(*arguments)
    assert ended.status == status
    assert words in ended.stderr
    assert ended.stderr.startswith("halfdrop: ")
    assert ended.stderr.count("\n") == 1
    assert ended.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_a_tile_is_drawn_with_the_seed_size_and_repeat_asked_for(run: Run) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        ended = run(
            "try", "house", "white stars on navy", "-o", f"{name}.png", "--seed", seed, "--size", 288, "--repeat", "1/3"
        )
        assert ended.status == 0, ended.stderr
        assert ended.stderr.startswith(f"{name}.png  288 px, 1/3 drop, 3 across, house-")
    first, again, other = (np.asarray(Image.open(f"{name}.png")) for name in "abc")
    assert first.shape == (288, 288, 3)
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 1
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    column, drop = 96, 32
    moved = np.roll(first[:, :column], drop, axis=0)
    assert np.array_equal(moved, first[:, column : 2 * column]), "the drop is exact"


def test_words_that_the_model_does_not_know_are_told_as_an_edge_tells_them(run: Run) -> None:
    ended = run("try", "house", "sunflowers and qwxyz on navy")
    assert ended.status == 0, ended.stderr
    assert "drawn instead: daisies for sunflowers" in ended.stderr
    assert "left out: qwxyz" in ended.stderr


def test_a_tile_is_never_drawn_with_damaged_weights(run: Run, store: ModelStore, tmp_path: Path) -> None:
    house = shipped_bundle_dir()
    for path in open_bundle(house).manifest.files:
        (tmp_path / "copy" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / path).write_bytes((house / path).read_bytes())
    (tmp_path / "copy/model_index.json").write_bytes(b"{}")
    manifest = json.loads((house / MANIFEST_NAME).read_bytes()) | {"name": "mine"}
    manifest["files"] = msgspec.to_builtins(file_table(tmp_path / "copy"))
    (tmp_path / "copy" / MANIFEST_NAME).write_text(json.dumps(manifest))
    assert run("import", "copy").status == 0
    assert run("try", "mine", "red dots on white").status == 0
    Path("tile.png").unlink()
    flip(store.find("mine").directory / "onnx/denoiser.onnx")
    ended = run("try", "mine", "red dots on white")
    assert ended.status == 1
    assert "onnx/denoiser.onnx is damaged or was changed" in ended.stderr
    assert not Path("tile.png").exists()


def test_whole_files_that_are_no_model_are_refused_in_one_line(run: Run, tmp_path: Path) -> None:
    directory = tmp_path / "junk"
    for path, content in (
        ("onnx/denoiser.onnx", b"?"),
        ("onnx/text_encoder.onnx", b"?"),
        ("tokenizer/vocab.json", b"[]"),
    ):
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(content)
    said = {"name": "junk", "version": "1", "licence": "none", "training_data": "none", "files": file_table(directory)}
    (directory / MANIFEST_NAME).write_bytes(msgspec.json.encode(said))
    run("import", directory)
    ended = run("try", "junk", "red dots")
    assert ended.status == 1
    assert "cannot be loaded" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_what_is_not_installed_is_said_and_the_rest_works(
    run: Run, roses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("importing", "exporting", "drawing"):
        monkeypatch.setitem(sys.modules, f"halfdrop.hub.checkpoints.{part}", None)
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint/model_index.json").write_text("{}")
    run("import", roses)
    for arguments in (["import", "checkpoint"], ["export", "roses", "out", "--int8"], ["try", "roses", "red dots"]):
        ended = run(*arguments)
        assert ended.status == 1, arguments
        assert "which is not installed here" in ended.stderr, arguments
    assert "roses-2" in run("list").stdout


def test_the_int8_export_is_asked_for_its_lattice_and_never_writes_over_anything(
    run: Run, roses: Path, store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, Repeat | None]] = []

    def export_int8(bundle_dir: Path, out_dir: Path, *, on_progress: OnProgress, repeat: Repeat | None = None) -> None:
        """The real one takes half a minute; tests/unit/hub runs it."""
        asked.append((bundle_dir, repeat))
        on_progress("export", 1, 1)
        out_dir.mkdir()
        (out_dir / "model.onnx").write_bytes(b"int8")
        said = {**FACTS, "name": "roses-int8", "kind": "checkpoint-edge", "files": file_table(out_dir)}
        (out_dir / MANIFEST_NAME).write_bytes(msgspec.json.encode(said))

    exporting = ModuleType("halfdrop.hub.checkpoints.exporting")
    monkeypatch.setattr(exporting, "export_int8", export_int8, raising=False)
    monkeypatch.setitem(sys.modules, exporting.__name__, exporting)
    run("import", roses)
    exported = run("export", "roses", tmp_path / "edge", "--int8", "--repeat", "1/3 rows")
    assert exported.status == 0, exported.stderr
    assert re.match(r"roses-int8-2  [0-9a-f]{12}  0\.0 MB  checkpoint-edge  CC-BY-4\.0\n", exported.stdout)
    assert asked == [
        (store.find("roses").directory.relative_to(tmp_path), Repeat(layout="drop", drop="1/3", axis="rows"))
    ]
    refused = run("export", "roses", tmp_path / "edge", "--int8")
    assert refused.status == 2
    assert "a directory that does not exist yet" in refused.stderr
    assert len(asked) == 1
    run("import", tmp_path / "edge")
    refused = run("try", "roses-int8", "red dots")
    assert refused.status == 2
    assert "roses-int8-2, a checkpoint-edge" in refused.stderr


def test_progress_is_a_bar_on_a_terminal_and_nothing_in_a_log(tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("halfdrop"), "models", "verify", "house"]
    plain = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "TTY_COMPATIBLE")}
    log = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env=plain)
    bar = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=True, env=plain | {"FORCE_COLOR": "1"}
    )
    assert log.stderr == ""
    assert re.search(r"checking .* of \d+\.\d MB", bar.stderr)
    assert bar.stdout == log.stdout
