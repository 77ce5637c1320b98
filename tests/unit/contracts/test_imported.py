"""Orders for imported models: their own limits, sizes that close, names that mean one model."""

from typing import Any

import msgspec
import pytest

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.imported import (
    ImportedModel,
    default_tile_px,
    find_imported,
    is_inked,
    painted_unit_px,
    resolve_painted,
)
from halfdrop.contracts.patterns import LoraWish, PatternRequest, PatternSpec, canonical_bytes, resolve_spec
from halfdrop.contracts.repeats import Repeat

MINE = ImportedModel(digest="a" * 64, name="mine", version="1", family="sd", grain_px=64, native_px=512)
OTHER = ImportedModel(digest="b" * 64, name="mine", version="2", family="sdxl", grain_px=32, native_px=1024)
CHINTZ = ImportedModel(digest="c" * 64, name="chintz", version="1", kind="lora")
KNOWN = [MINE, OTHER, CHINTZ]


def resolve(**members: Any) -> PatternSpec:
    request = msgspec.convert({"prompt": "x", **members}, PatternRequest)
    return resolve_painted(request, prompt="Red  Peonies", repeat=Repeat(), unit_px=512, model=MINE, known=KNOWN)


def test_what_an_order_leaves_open_is_the_checkpoints_usual() -> None:
    spec = resolve()
    assert (spec.prompt, spec.num_inference_steps, spec.guidance_scale) == ("red peonies", 30, 7.0)
    assert spec.model_digest == MINE.digest
    assert spec.loras is msgspec.UNSET
    assert b"loras" not in canonical_bytes(spec), "keys of patterns without LoRAs are what they were"


def test_loras_are_named_and_their_digests_kept() -> None:
    spec = resolve(loras=[{"name": "chintz", "weight": -0.5}])
    assert spec.loras is not msgspec.UNSET
    assert [(use.digest, use.weight) for use in spec.loras] == [(CHINTZ.digest, -0.5)]
    asked = PatternRequest(prompt="x", loras=(LoraWish(name="chintz"),))
    with pytest.raises(InvalidInput, match="none with this model"):
        resolve_spec(asked, prompt="x", repeat=Repeat(), model_digest="d")


@pytest.mark.parametrize(
    ("members", "field", "allowed"),
    [
        ({"num_inference_steps": 201}, "num_inference_steps", "1 to 200"),
        ({"num_inference_steps": 0}, "num_inference_steps", "1 to 200"),
        ({"guidance_scale": 31}, "guidance_scale", "0 to 30"),
        ({"loras": [{"name": "toile"}]}, "loras[0].name", "chintz"),
        ({"loras": [{"name": "mine"}]}, "loras[0].name", "chintz"),
        ({"loras": [{"name": "chintz", "weight": 5}]}, "loras[0].weight", "-4 to 4"),
        ({"loras": [{"name": "chintz"}] * 9}, "loras", "up to 8"),
    ],
)
def test_what_is_outside_the_limits_is_refused_with_what_is_allowed(
    members: dict[str, Any], field: str, allowed: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        resolve(**members)
    assert caught.value.field == field
    assert allowed in caught.value.allowed


def test_a_name_means_one_model_or_says_which_there_are() -> None:
    assert find_imported(KNOWN, "mine-2") == OTHER
    assert find_imported(KNOWN, MINE.digest) == MINE
    assert find_imported(KNOWN, f"mine:{OTHER.digest}") == OTHER
    assert find_imported(KNOWN, "chintz") is None, "a LoRA draws nothing"
    assert find_imported(KNOWN, "yours") is None
    with pytest.raises(InvalidInput, match=r"mine-1:a+ or mine-2:b+"):
        find_imported(KNOWN, "mine")


def test_a_painting_holds_whole_units_and_its_inks_fit_any_size() -> None:
    half_drop = Repeat(layout="half-drop", units=2)
    assert default_tile_px(MINE, half_drop) == 1024
    assert painted_unit_px(1280, MINE, half_drop, inked=False) == 640
    with pytest.raises(InvalidInput, match=r"a multiple of 256 from 256 to 4096, such as 1024") as caught:
        painted_unit_px(1100, MINE, half_drop, inked=False)
    assert caught.value.field == "size_px"
    with pytest.raises(InvalidInput, match="to 4096"):
        painted_unit_px(8192, MINE, half_drop, inked=False)
    assert painted_unit_px(4535, MINE, half_drop, inked=True) == 512
    assert painted_unit_px(300, MINE, half_drop, inked=True) == 128
    assert not is_inked(msgspec.UNSET)
