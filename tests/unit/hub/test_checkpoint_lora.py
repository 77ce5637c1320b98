"""LoRA files on a checkpoint: on, off, wrong."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.lora_conversion_utils import _maybe_map_sgm_blocks_to_diffusers
from safetensors.torch import load_file, save_file
from torch import Tensor

from halfdrop.contracts.errors import InvalidInput, PermanentError
from halfdrop.contracts.imported import LORAS_MAX
from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.checkpoints.drawing import Checkpoint, load_checkpoint
from halfdrop.hub.checkpoints.layout import check_layout
from halfdrop.hub.checkpoints.lora import METADATA_NAME
from halfdrop.hub.checkpoints.lora_choice import LoraChoice
from halfdrop.hub.checkpoints.lora_names import flat_names, parse_name
from halfdrop.hub.checkpoints.trial import SHIFT_ERROR_MAX, shift_error

TO_Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
TO_OUT = "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0"
CONV = "up_blocks.1.resnets.0.conv1"
FC1 = "text_model.encoder.layers.1.mlp.fc1"
RANK = 3


@pytest.fixture(scope="module")
def loaded(sd_dir: Path) -> Checkpoint:
    return load_checkpoint(check_layout(sd_dir), "cpu")


@pytest.fixture
def checkpoint(loaded: Checkpoint) -> Iterator[Checkpoint]:
    yield loaded
    loaded.remove_loras()


def layer(checkpoint: Checkpoint, component: str, path: str) -> Tensor:
    weight: Tensor = getattr(checkpoint.pipeline, component).get_submodule(path).weight
    return weight


def pair(weight: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Down and up of a product for a weight."""
    noise = torch.Generator().manual_seed(seed)
    down = torch.randn(RANK, *weight.shape[1:], generator=noise)
    up = torch.randn(weight.shape[0], RANK, *([1] * (weight.ndim - 2)), generator=noise)
    return down, up


def product(weight: Tensor, seed: int) -> Tensor:
    down, up = pair(weight, seed)
    return torch.einsum("or,ri->oi", up.flatten(1), down.flatten(1)).view(weight.shape)


def draw(checkpoint: Checkpoint) -> np.ndarray:
    return checkpoint.draw(["leaves"], [1], Repeat(), 64, num_inference_steps=1)


Places = tuple[tuple[str, str], ...]
PLACES: Places = (("unet", TO_Q), ("unet", TO_OUT), ("unet", CONV), ("text_encoder", FC1))


def kohya(
    checkpoint: Checkpoint, file: Path, *, alpha: float = RANK, places: tuple[tuple[str, str], ...] = PLACES
) -> Path:
    tensors = {}
    for seed, (component, path) in enumerate(places):
        down, up = pair(layer(checkpoint, component, path), seed)
        name = {"unet": "lora_unet_", "text_encoder": "lora_te_"}[component] + path.replace(".", "_")
        tensors |= {
            f"{name}.lora_down.weight": down,
            f"{name}.lora_up.weight": up,
            f"{name}.alpha": torch.tensor(alpha),
        }
    save_file(tensors, file)
    return file


def diffusers_form(checkpoint: Checkpoint, file: Path, *, style: str) -> Path:
    tensors = {}
    for seed, (component, path) in enumerate(PLACES):
        down, up = pair(layer(checkpoint, component, path), seed)
        if style == "peft":
            names = (f"{component}.{path}.lora_A.weight", f"{component}.{path}.lora_B.weight")
        elif ".attn" in path:
            block, attention = path.removesuffix(".0").rsplit(".", 1)
            names = (f"unet.{block}.processor.{attention}_lora.down.weight",
                     f"unet.{block}.processor.{attention}_lora.up.weight")  # fmt: skip
        elif component == "unet":
            names = (f"unet.{path}.lora.down.weight", f"unet.{path}.lora.up.weight")
        else:
            names = tuple(f"{component}.{path}.lora_linear_layer.{side}.weight" for side in ("down", "up"))
        tensors |= dict(zip(names, (down, up), strict=True))
    save_file(tensors, file)
    return file


def written(style: str) -> Callable[[Checkpoint, Path], Path]:
    if style == "kohya":
        return kohya
    return lambda checkpoint, file: diffusers_form(checkpoint, file, style=style)


@pytest.mark.parametrize("style", ["kohya", "peft", "processors"])
def test_a_lora_in_any_form_adds_its_products_to_its_layers(checkpoint: Checkpoint, style: str, tmp_path: Path) -> None:
    file = written(style)(checkpoint, tmp_path / "style.safetensors")
    before = {place: layer(checkpoint, *place).clone() for place in PLACES}
    plain = draw(checkpoint)
    checkpoint.apply_loras([LoraChoice(file=file, weight=0.5)])
    for seed, place in enumerate(PLACES):
        torch.testing.assert_close(layer(checkpoint, *place), before[place] + 0.5 * product(before[place], seed))
    assert np.abs(draw(checkpoint).astype(int) - plain).max() > 1


def test_taking_it_off_restores_the_checkpoint_exactly(checkpoint: Checkpoint, sd_dir: Path, tmp_path: Path) -> None:
    plain = draw(checkpoint)
    weights = {name: value.clone() for name, value in checkpoint.pipeline.unet.state_dict().items()}
    first = kohya(checkpoint, tmp_path / "a.safetensors")
    second = kohya(checkpoint, tmp_path / "b.safetensors", places=PLACES[::-1][1:])
    checkpoint.apply_loras([LoraChoice(file=first, weight=0.7), LoraChoice(file=second, weight=-1.3)])
    assert not np.array_equal(draw(checkpoint), plain)
    checkpoint.apply_loras([LoraChoice(file=second)])
    checkpoint.remove_loras()
    for name, value in checkpoint.pipeline.unet.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=0)
    np.testing.assert_array_equal(draw(checkpoint), plain)
    on_disk = load_file(sd_dir / "unet" / "diffusion_pytorch_model.safetensors")
    torch.testing.assert_close(on_disk[f"{TO_Q}.weight"], weights[f"{TO_Q}.weight"], rtol=0, atol=0)


def test_several_loras_add_up_and_weight_zero_is_none(checkpoint: Checkpoint, tmp_path: Path) -> None:
    before = layer(checkpoint, "unet", TO_Q).clone()
    file = kohya(checkpoint, tmp_path / "a.safetensors", places=PLACES[:1])
    checkpoint.apply_loras([LoraChoice(file=file, weight=0.25), LoraChoice(file=file, weight=0.5)])
    torch.testing.assert_close(layer(checkpoint, "unet", TO_Q), before + 0.75 * product(before, 0))
    checkpoint.apply_loras([LoraChoice(file=file, weight=0.0)])
    torch.testing.assert_close(layer(checkpoint, "unet", TO_Q), before)


def test_alphas_count_beside_the_weights_and_in_the_metadata(checkpoint: Checkpoint, tmp_path: Path) -> None:
    before = layer(checkpoint, "unet", TO_Q).clone()
    halved = kohya(checkpoint, tmp_path / "a.safetensors", alpha=RANK / 2, places=PLACES[:1])
    checkpoint.apply_loras([LoraChoice(file=halved)])
    torch.testing.assert_close(layer(checkpoint, "unet", TO_Q), before + product(before, 0) / 2)
    down, up = pair(before, 0)
    told = {"unet.lora_alpha": RANK, "unet.r": RANK, "unet.alpha_pattern": {"attn1.to_q": 2 * RANK}}
    save_file({f"unet.{TO_Q}.lora_A.weight": down, f"unet.{TO_Q}.lora_B.weight": up}, tmp_path / "b.safetensors",
              metadata={METADATA_NAME: json.dumps(told)})  # fmt: skip
    checkpoint.apply_loras([LoraChoice(file=tmp_path / "b.safetensors")])
    torch.testing.assert_close(layer(checkpoint, "unet", TO_Q), before + 2 * product(before, 0))


def test_with_a_lora_on_convolutions_there_is_still_no_border(checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint.apply_loras([LoraChoice(file=kohya(checkpoint, tmp_path / "a.safetensors"))])
    assert shift_error(checkpoint, Repeat(layout="half-drop")) < SHIFT_ERROR_MAX


@pytest.mark.parametrize(
    "what",
    ["another family", "another width", "half", "nan", "dora", "empty", "truncated", "pickled", "missing"],
)
def test_a_wrong_lora_is_refused_and_nothing_of_it_is_applied(
    checkpoint: Checkpoint, sdxl_dir: Path, what: str, tmp_path: Path
) -> None:
    good, file = kohya(checkpoint, tmp_path / "good.safetensors"), tmp_path / "wrong.safetensors"
    tensors = load_file(good)
    name = "lora_unet_" + TO_Q.replace(".", "_")
    if what == "another family":
        other = load_checkpoint(check_layout(sdxl_dir), "cpu")
        path = "down_blocks.2.attentions.0.transformer_blocks.1.attn1.to_q"
        down, up = pair(layer(other, "unet", path), 9)
        tensors[f"lora_unet_{path.replace('.', '_')}.lora_down.weight"] = down
        tensors[f"lora_unet_{path.replace('.', '_')}.lora_up.weight"] = up
    elif what == "another width":
        tensors[f"{name}.lora_down.weight"] = torch.randn(RANK, 320)
    elif what == "half":
        del tensors[f"{name}.lora_up.weight"]
    elif what == "nan":
        tensors[f"{name}.lora_up.weight"][0] = torch.nan
    elif what == "dora":
        tensors[f"{name}.dora_scale"] = torch.ones(8)
    elif what == "empty":
        tensors = {}
    save_file(tensors, file)
    if what == "truncated":
        file.write_bytes(file.read_bytes()[:-4])
    elif what == "pickled":
        file = file.rename(tmp_path / "wrong.pt")
    elif what == "missing":
        file.unlink()
    checkpoint.apply_loras([LoraChoice(file=good, weight=0.1)])
    plain = draw(checkpoint)
    with pytest.raises(PermanentError) as caught:
        checkpoint.apply_loras([LoraChoice(file=good), LoraChoice(file=file)])
    assert caught.value.code == "bad-lora"
    assert "allowed" in caught.value.detail
    np.testing.assert_array_equal(draw(checkpoint), plain)


@pytest.mark.parametrize("weight", [float("nan"), 5.0, -4.5])
def test_weights_outside_their_limits_are_refused(checkpoint: Checkpoint, weight: float) -> None:
    with pytest.raises(InvalidInput, match=r"lora\.weight"):
        checkpoint.apply_loras([LoraChoice(file=Path("a.safetensors"), weight=weight)])
    with pytest.raises(InvalidInput, match="loras"):
        checkpoint.apply_loras([LoraChoice(file=Path("a.safetensors"))] * (LORAS_MAX + 1))


def test_sdxls_blocks_in_a_row_are_found_where_diffusers_has_them() -> None:
    """Every block that kohya's trainer names, against diffusers' own renaming and a UNet with SDXL's blocks."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=(32, 64, 128),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 3),
            layers_per_block=2,
            attention_head_dim=8,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=64,
        )
    attention = "transformer_blocks_0_attn1_to_q"
    names = [f"input_blocks_{number}_1_{attention}" for number in (4, 5, 7, 8)]
    names += [f"output_blocks_{number}_1_{attention}" for number in range(6)]
    names += [f"middle_block_1_{attention}", "input_blocks_5_1_proj_in", "output_blocks_3_1_proj_out"]
    found = flat_names(name for name, _ in unet.named_modules())
    for name in names:
        ours = parse_name(f"lora_unet_{name}.lora_down.weight")
        (theirs,) = _maybe_map_sgm_blocks_to_diffusers(
            {f"lora_unet_{name}.lora_down.weight": torch.ones(1)}, unet.config
        )
        assert ours is not None
        levels = {"input_blocks": "down_blocks", "middle_block": "mid_block", "output_blocks": "up_blocks"}
        for row, level in levels.items():  # their renaming leaves this to a second one
            theirs = theirs.replace(row, level)
        assert f"lora_unet_{ours.flat}.lora_down.weight" == theirs
        assert ours.flat in found
    for name in ("input_blocks_1_0_in_layers_2", "input_blocks_3_0_op", "middle_block_2_out_layers_3", "out_2",
                 "output_blocks_8_0_skip_connection", "output_blocks_2_2_conv", "input_blocks_4_0_emb_layers_1",
                 "label_emb_0_2", "time_embed_0", "input_blocks_0_0"):  # fmt: skip
        outer = parse_name(f"lora_unet_{name}.lora_up.weight")
        assert outer is not None
        assert outer.flat in found, (name, outer.flat)
