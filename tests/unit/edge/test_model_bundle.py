"""A bundle is opened whole or not at all, and its digest names exactly its files."""

from pathlib import Path

import msgspec
import pytest

from halfdrop.contracts.errors import PermanentError
from halfdrop.models.bundle import MANIFEST_NAME, SHIPPED_BUNDLE, bundle_digest, file_table, open_bundle


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "denoiser.onnx").write_bytes(b"weights")
    (tmp_path / "vocab.json").write_bytes(b"{}")
    write_manifest(tmp_path)
    return tmp_path


def write_manifest(directory: Path) -> None:
    members = {"name": "house", "version": "1", "licence": "Apache-2.0", "training_data": "drawn", "gates": {"x": 1}}
    (directory / MANIFEST_NAME).write_bytes(msgspec.json.encode({**members, "files": file_table(directory)}))


def test_a_whole_bundle_is_named_by_its_files(directory: Path) -> None:
    bundle = open_bundle(directory)
    assert sorted(bundle.manifest.files) == ["onnx/denoiser.onnx", "vocab.json"]
    assert bundle.digest == bundle_digest(file_table(directory))
    for model in ("house", "house-1", bundle.digest, f"house:{bundle.digest}"):
        assert bundle.answers_to(model), model
    for model in ("", SHIPPED_BUNDLE, "house:", "house:1", f"other:{bundle.digest}", bundle.digest[:12]):
        assert not bundle.answers_to(model), model


def test_other_weights_have_another_digest(directory: Path) -> None:
    before = open_bundle(directory).digest
    (directory / "onnx" / "denoiser.onnx").write_bytes(b"Weights")
    write_manifest(directory)
    assert open_bundle(directory).digest != before


@pytest.mark.parametrize("damage", ["changed", "missing", "extra", "no manifest", "not a manifest"])
def test_a_damaged_bundle_is_refused_with_the_name_of_the_file(directory: Path, damage: str) -> None:
    weights = directory / "onnx" / "denoiser.onnx"
    named = "onnx/denoiser.onnx"
    if damage == "changed":
        weights.write_bytes(b"weighty")
    elif damage == "missing":
        weights.unlink()
    elif damage == "extra":
        (directory / "notes.txt").write_text("left here")
        named = "notes.txt"
    else:
        (directory / MANIFEST_NAME).unlink()
        named = MANIFEST_NAME
        if damage == "not a manifest":
            (directory / MANIFEST_NAME).write_text('{"name": "house"}')
    with pytest.raises(PermanentError, match=named) as caught:
        open_bundle(directory)
    assert caught.value.code == "bad-bundle"
