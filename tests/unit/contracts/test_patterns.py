import math

import msgspec
import pytest

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.patterns import (
    PatternRequest,
    PatternSpec,
    canonical_bytes,
    check_size_px,
    is_pattern_key,
    pattern_key,
    resolve_spec,
)
from halfdrop.contracts.repeats import Repeat

# Golden bytes: if this test fails, every stored pattern has lost its name. Add a new tag instead of editing it.
GOLDEN = (
    b'{"guidance_scale":1.5,"model_digest":"sha256:0f","negative_prompt":"dots","num_inference_steps":4,'
    b'"palette":["#fffff0","#cc0022"],"prompt":"red hearts on ivory",'
    b'"repeat":{"axis":"columns","drop":"1/2","layout":"half-drop","units":4},"seed":7,"type":"pattern.v1"}'
)
GOLDEN_KEY = "e05f3160695cd26fe27b7abec56abf4e"


def resolve(request: PatternRequest) -> PatternSpec:
    repeat = request.repeat or Repeat()
    return resolve_spec(request, prompt=request.prompt, repeat=repeat, model_digest="sha256:0f")


def golden_request() -> PatternRequest:
    return PatternRequest(
        prompt="Red hearts on ivory",
        negative_prompt="dots",
        seed=7,
        repeat=Repeat(layout="half-drop", units=3),
        palette=("#FFFFF0", "#cc0022"),
        num_inference_steps=4,
    )


def test_the_canonical_bytes_and_the_key_never_change() -> None:
    spec = resolve(golden_request())
    assert canonical_bytes(spec) == GOLDEN
    assert pattern_key(spec) == GOLDEN_KEY
    assert is_pattern_key(GOLDEN_KEY)


def test_a_stored_spec_of_this_release_decodes_to_the_same_key() -> None:
    assert pattern_key(msgspec.json.decode(GOLDEN, type=PatternSpec)) == GOLDEN_KEY


@pytest.mark.parametrize("prompt", ["  RED\thearts \n on ivory ", "red hearts on ivory.", "red hearts on ivory,"])
def test_what_the_model_cannot_see_does_not_change_the_key(prompt: str) -> None:
    request = msgspec.structs.replace(golden_request(), prompt=prompt)
    assert pattern_key(resolve(request)) == GOLDEN_KEY


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "red stars on ivory"},
        {"negative_prompt": "stars"},
        {"seed": 8},
        {"repeat": Repeat(layout="brick", units=4)},
        {"palette": ("#fffff0",)},
        {"num_inference_steps": 3},
        {"guidance_scale": 2.0},
    ],
)
def test_whatever_decides_the_picture_changes_the_key(change: dict[str, object]) -> None:
    assert pattern_key(resolve(msgspec.structs.replace(golden_request(), **change))) != GOLDEN_KEY


def test_guidance_without_a_negative_prompt_does_not_split_a_picture_over_two_keys() -> None:
    plain = PatternRequest(prompt="dots")
    assert pattern_key(resolve(plain)) == pattern_key(resolve(msgspec.structs.replace(plain, guidance_scale=4.0)))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": " ., "}, "prompt"),
        ({"prompt": "x" * 1_001}, "prompt"),
        ({"prompt": "red\x00dots"}, "prompt"),
        ({"negative_prompt": "x" * 1_001}, "negative_prompt"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"palette": ("#fff",)}, "palette[0]"),
        ({"palette": ("#ffffff", "red")}, "palette[1]"),
        ({"palette": ("#ffffff",) * 6}, "palette"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"num_inference_steps": 9}, "num_inference_steps"),
        ({"guidance_scale": math.nan}, "guidance_scale"),
        ({"guidance_scale": 5.1}, "guidance_scale"),
        ({"repeat": Repeat(units=0)}, "repeat.units"),
    ],
)
def test_a_value_outside_its_limits_is_refused_by_name(change: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        resolve(msgspec.structs.replace(golden_request(), **change))
    assert caught.value.field == field
    assert "allowed:" in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("size_px", [0, 63, 8193])
def test_a_master_outside_the_limits_is_refused(size_px: int) -> None:
    with pytest.raises(InvalidInput, match=r"size_px: .*allowed: 64 to 8192"):
        check_size_px(size_px)


def test_an_unknown_member_of_a_request_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="colour"):
        msgspec.json.decode(b'{"prompt": "dots", "colour": "red"}', type=PatternRequest)
