"""How an answer's words are told at the terminal, and answers of an edge that does not tell of them yet."""

from typing import Any

import msgspec
import pytest

from halfdrop.deploy.cli_patterns import say_wording
from halfdrop.edge.client_answers import Prediction, Preview

ANSWER: dict[str, Any] = {
    "key": "ab" * 16, "url": "/p/x.webp", "size_px": 256, "palette": ["#ffffff"] * 5,
    "spec": {"type": "pattern.v1", "prompt": "daisies", "model_digest": "sha256:0f"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("members", "lines"),
    [
        ({}, []),
        ({"read_as": {}, "unknown_words": []}, []),
        (
            {"read_as": {"sunflowers": "daisies", "bleu": "blue"}, "unknown_words": ["cats"]},
            [
                "drawn instead: daisies for sunflowers, blue for bleu",
                "not in the model's vocabulary, and left out: cats",
            ],
        ),
    ],
)
def test_a_line_is_said_for_words_read_otherwise_and_one_for_those_left_out(
    members: dict[str, Any], lines: list[str]
) -> None:
    assert say_wording(msgspec.convert(ANSWER | members, Preview)) == lines
    assert say_wording(msgspec.convert({"id": "a" * 26, "status": "starting"} | members, Prediction)) == lines
