"""Small bundles, made as the real ones are: files and a manifest that names them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest

from halfdrop.models.bundle import MANIFEST_NAME, file_table

FILES = {"model_index.json": b"{}", "onnx/denoiser.onnx": b"weights " * 100, "tokenizer/vocab.json": b"[]"}

MakeBundle = Callable[..., Path]


@pytest.fixture
def make_bundle(tmp_path: Path) -> MakeBundle:
    def make(name: str = "small", *, files: Mapping[str, bytes] = FILES, **members: object) -> Path:
        directory = tmp_path / f"bundle-{name}-{len(list(tmp_path.iterdir()))}"
        for path, content in files.items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_bytes(content)
        said = {"name": name, "version": "1", "licence": "Apache-2.0", "training_data": "drawn", **members}
        manifest = {**said, "files": file_table(directory)}
        (directory / MANIFEST_NAME).write_bytes(msgspec.json.encode(manifest))
        return directory

    return make
