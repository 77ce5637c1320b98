"""What is not imported, and that the refusal says what was got, what is allowed and what to do."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from halfdrop.contracts.errors import PermanentError
from halfdrop.hub.checkpoints import importing
from halfdrop.hub.checkpoints.layout import TEXT_MAX_BYTES, WEIGHTS_MAX_BYTES, Layout, check_layout
from halfdrop.hub.checkpoints.networks import check_networks
from halfdrop.hub.checkpoints.safetensors_header import read_header

UNET = Path("unet", "diffusion_pytorch_model.safetensors")


@pytest.fixture
def source(sd_dir: Path, copy_of: Callable[[Path], Path]) -> Path:
    return copy_of(sd_dir)


def refused(source: Path, *words: str, code: str = "bad-checkpoint") -> None:
    with pytest.raises(PermanentError) as caught:
        check_networks(check_layout(source))
    assert caught.value.code == code, caught.value.detail
    for word in (*words, "got", "allowed"):
        assert word in caught.value.detail, caught.value.detail


def change_json(file: Path, **members: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | members))


def shard(folder: Path) -> list[Path]:
    """Split a component's weights over two files with an index, as diffusers does with large ones."""
    from safetensors.torch import load_file, save_file

    whole = folder / UNET.name
    weights = load_file(whole)
    names = sorted(weights)
    weight_map = {}
    for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), start=1):
        name = f"diffusion_pytorch_model-0000{number}-of-00002.safetensors"
        save_file({tensor: weights[tensor] for tensor in part}, folder / name)
        weight_map |= dict.fromkeys(part, name)
    (folder / f"{UNET.name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    whole.unlink()
    return sorted(folder.glob("*-of-*"))


@pytest.mark.parametrize(("fixture", "family"), [("sd_dir", "sd"), ("sdxl_dir", "sdxl")])
def test_a_whole_checkpoint_is_taken(fixture: str, family: str, request: pytest.FixtureRequest) -> None:
    layout = check_layout(request.getfixturevalue(fixture))
    check_networks(layout)
    assert layout.family.name == family
    assert layout.left_out == ()


def test_shards_are_taken_and_each_of_them_is_checked(source: Path) -> None:
    whole = check_layout(source).tensors["unet"].keys()
    first, second = shard(source / "unet")
    layout = check_layout(source)
    check_networks(layout)
    assert layout.tensors["unet"].keys() == whole
    assert {f"unet/{first.name}", f"unet/{second.name}", f"unet/{UNET.name}.index.json"} <= layout.files.keys()
    second.write_bytes(second.read_bytes()[:-4])
    refused(source, second.name, "truncated")
    second.unlink()
    refused(source, second.name, "a complete checkpoint")


def test_a_shard_outside_the_folder_is_refused(source: Path) -> None:
    shard(source / "unet")
    change_json(
        source / "unet" / f"{UNET.name}.index.json", weight_map={"x": "../vae/diffusion_pytorch_model.safetensors"}
    )
    refused(source, "in the same folder")


def test_half_precision_variants_are_taken_and_lose_their_name(source: Path) -> None:
    (source / UNET).rename(source / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    layout = check_layout(source)
    assert layout.files[UNET.as_posix()].name == "diffusion_pytorch_model.fp16.safetensors"


@pytest.mark.parametrize("keep_bytes", [0, 4, 60, 5000, -1])
def test_truncated_weights_are_refused(source: Path, keep_bytes: int) -> None:
    (source / UNET).write_bytes((source / UNET).read_bytes()[:keep_bytes])
    refused(source, UNET.name, "again")


def test_weights_with_something_after_them_are_refused(source: Path) -> None:
    (source / UNET).write_bytes((source / UNET).read_bytes() + b"\0" * 8)
    refused(source, UNET.name, "8 bytes after the last tensor")


@pytest.mark.parametrize(
    "header",
    [b"not json", b"[]", b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}',
     b'{"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}',
     b'{"a": {"dtype": "PICKLE", "shape": [1], "data_offsets": [0, 8]}}',
     b'{"a": {"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]}}'],
)  # fmt: skip
def test_a_header_that_does_not_add_up_is_refused(header: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 12)
    with pytest.raises(PermanentError, match="whole safetensors file"):
        read_header(file)


def test_an_enormous_header_is_refused_without_reading_it(source: Path) -> None:
    with (source / UNET).open("r+b") as stream:
        stream.write(struct.pack("<Q", 2**40))
    refused(source, "a header of 1,099,511,627,776 bytes")


def test_oversized_weights_are_refused(source: Path) -> None:
    size = WEIGHTS_MAX_BYTES + 2**20
    header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with (source / UNET).open("wb") as stream:  # a file with a hole: it takes no room
        stream.write(struct.pack("<Q", len(header)) + header)
        stream.truncate(8 + len(header) + size)
    refused(source, "the weights", f"up to {WEIGHTS_MAX_BYTES:,}")


def test_an_oversized_vocabulary_is_refused(source: Path) -> None:
    with (source / "tokenizer" / "vocab.json").open("ab") as stream:
        stream.truncate(TEXT_MAX_BYTES + 1)
    refused(source, "tokenizer/vocab.json", f"up to {TEXT_MAX_BYTES:,}")


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "model.ckpt", "extra.PT", "x.pkl"])
def test_pickled_files_are_refused_wherever_they_lie(source: Path, name: str) -> None:
    (source / "unet" / name).write_bytes(b"\x80\x04.")
    refused(source, f"unet/{name}", "run code", "safetensors only", "delete this file")


@pytest.mark.parametrize(
    ("pipeline", "reason"),
    [
        ("StableDiffusion3Pipeline", "absolute positions"),
        ("FluxPipeline", "absolute place"),
        ("PixArtSigmaPipeline", "absolute sine positions"),
        ("SomethingElsePipeline", "SomethingElsePipeline"),
    ],
)
def test_diffusion_transformers_and_strangers_are_refused_with_the_reason(
    source: Path, pipeline: str, reason: str
) -> None:
    change_json(source / "model_index.json", _class_name=pipeline)
    refused(source, pipeline, reason, "StableDiffusionXLPipeline (sdxl)", code="unsupported-checkpoint")


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_component_is_refused(source: Path, component: str) -> None:
    for file in (source / component).iterdir():
        file.unlink()
    refused(source, component, "a complete checkpoint")


def test_a_component_that_is_another_class_is_refused(source: Path) -> None:
    change_json(source / "model_index.json", unet=["builtins", "eval"])
    refused(source, "model_index.json: unet", '["diffusers", "UNet2DConditionModel"]')


def test_a_scheduler_that_the_pipeline_cannot_use_is_refused(source: Path) -> None:
    change_json(source / "model_index.json", scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"])
    refused(source, "FlowMatchEulerDiscreteScheduler", "PNDMScheduler")


@pytest.mark.parametrize("path", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"])
def test_a_configuration_that_is_no_json_is_refused(source: Path, path: str) -> None:
    (source / path).write_text("{")
    refused(source, Path(path).name, "a JSON object")


@pytest.mark.parametrize(
    "members",
    [
        {"layers_per_block": 2},
        {"block_out_channels": [8, 8, 16, 24]},
        {"block_out_channels": "wide"},
        {"sample_size": None},
    ],
)
def test_weights_that_do_not_fit_their_configuration_are_refused(source: Path, members: dict[str, object]) -> None:
    change_json(source / "unet" / "config.json", **members)
    refused(source, "unet")


def test_a_single_file_is_refused_with_what_to_do(source: Path) -> None:
    refused(source / UNET, "a file", "a directory in diffusers' form", "Convert")
    refused(source / "nowhere", "nothing there")


def test_the_autoencoders_old_attention_names_are_understood(source: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = source / "vae" / UNET.name
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(name: str) -> str:
        for new, former in old.items():
            name = name.replace(f".{new}.", f".{former}.") if ".attentions." in name else name
        return name

    weights = load_file(file)
    save_file({rename(name): value for name, value in weights.items()}, file)
    layout: Layout = check_layout(source)
    assert any(".query." in name for name in layout.tensors["vae"])
    check_networks(layout)


def test_drawing_wants_no_more_than_a_hub_has_and_exporting_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "find_spec", lambda name: None if name in ("optimum", "onnx") else object())
    importing.require_libraries()
    with pytest.raises(PermanentError, match=r'optimum, onnx not installed; needed: .*"halfdrop\[checkpoints\]"'):
        importing.require_libraries("optimum", "onnx", extra="checkpoints")
