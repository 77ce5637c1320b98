"""Pools of what was made: whose they are, what they hold and in what order they give it."""

import msgspec
import numpy as np
import pytest

from halfdrop.contracts.patterns import PatternRequest, PatternSpec, pattern_key
from halfdrop.contracts.plates import Plates
from halfdrop.edge.previews import Pattern, understand_request
from halfdrop.edge.reuse import ReusePools, is_good, meaning_of
from halfdrop.models.bundle import shipped_bundle_dir
from halfdrop.models.fields import fields_to_plates
from halfdrop.models.house.reading import Reading, read_words
from halfdrop.models.house.tokenizer import Tokenizer

RED, WHITE, BLUE = "#cc222c", "#faf9f5", "#265cbe"
TOKENIZER = Tokenizer.load(shipped_bundle_dir() / "tokenizer" / "vocab.json")


def read(prompt: str, *, may_be_empty: bool) -> Reading:
    return read_words(prompt, TOKENIZER, may_be_empty=may_be_empty)


def pattern(prompt: str, **members: object) -> Pattern:
    request = msgspec.convert({"prompt": prompt, **members}, PatternRequest)
    return understand_request(request, read, model_digest="sha256:" + "0" * 64)


def draw(ground: str, body: str, *, radius: float = 20) -> Plates:
    """Return plates of one disc."""
    across = np.arange(64) - 31.5
    disc = (radius - np.hypot(across[:, None], across[None, :])) / 6
    fields = np.full((4, 64, 64), -1, np.float32)
    fields[0] = np.clip(disc, -1, 1)
    palette = (ground, body, BLUE, BLUE, BLUE)
    return fields_to_plates(fields, palette, pattern_key="0" * 32, model_digest="sha256:" + "0" * 64)


RED_ON_WHITE = draw(WHITE, RED)


def test_variants_of_a_prompt_are_given_by_turns() -> None:
    pools = ReusePools()
    made = [pattern("red dots on white", seed=seed) for seed in (3, 4, 5)]
    for each in made:
        pools.note("a", each, RED_ON_WHITE)
    asked = pattern("red dots on white")
    found = [pools.find_variant("a", asked) for _ in range(6)]
    assert [each and each.spec.seed for each in found] == [3, 4, 5, 3, 4, 5]
    assert all(each and each.key == pattern_key(each.spec) for each in found)


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "white dots on red"},
        {"prompt": "red dots on white, half-drop"},
        {"prompt": "red dots on white", "palette": (RED,)},
        {"prompt": "red dots on white", "num_inference_steps": 4},
        {"prompt": "red dots on white", "negative_prompt": "outline"},
    ],
)
def test_whatever_else_was_asked_for_otherwise_is_no_variant_and_no_near_match(other: dict[str, object]) -> None:
    pools = ReusePools()
    pools.note("a", pattern("red dots on white"), RED_ON_WHITE)
    asked = pattern(**other)  # type: ignore[arg-type]
    assert pools.find_variant("a", asked) is None
    assert pools.find_near("a", asked, seed=None) is None


def test_a_near_match_is_the_same_meaning_in_other_words_under_the_seed_asked_for() -> None:
    pools = ReusePools()
    made = pattern("red dots on white, half-drop", seed=7)
    pools.note("a", made, RED_ON_WHITE)
    asked = pattern("half-drop, white background with scarlet polka dots", seed=7)
    assert asked.key != made.key
    assert pools.find_variant("a", asked) is None
    found = pools.find_near("a", asked, seed=7)
    assert found is not None
    assert (found.key, found.spec, found.wording) == (made.key, made.spec, asked.wording)
    assert pools.find_near("a", asked, seed=8) is None
    assert pools.find_near("a", asked, seed=None) is not None


def test_nobody_is_given_what_another_tenant_made() -> None:
    pools = ReusePools()
    made = pattern("red dots on white", seed=7)
    pools.note("a", made, RED_ON_WHITE)
    assert pools.find_variant("b", pattern("red dots on white")) is None
    assert pools.find_near("b", pattern("red dots on white"), seed=None) is None
    assert not pools.knows("b", made)


@pytest.mark.parametrize("prompt", ["red sunflowers on white", "red dots with cats on white"])
def test_a_prompt_with_words_that_the_model_does_not_know_has_no_near_match(prompt: str) -> None:
    assert meaning_of(pattern(prompt)) is None


def test_pools_are_bounded_and_forget_the_oldest() -> None:
    pools = ReusePools(pools_max=4, variants_max=2)
    for seed in range(5):
        pools.note("a", pattern("red dots on white", seed=seed), RED_ON_WHITE)
    seeds = {found.spec.seed for _ in range(4) if (found := pools.find_variant("a", pattern("red dots on white")))}
    assert seeds == {3, 4}
    for prompt in ("red stars on white", "red hearts on white"):
        pools.note("a", pattern(prompt), RED_ON_WHITE)
    assert pools.find_variant("a", pattern("red dots on white")) is None
    assert pools.find_variant("a", pattern("red hearts on white")) is not None


@pytest.mark.parametrize(
    "plates",
    [
        draw(WHITE, BLUE),
        draw(RED, WHITE),
        draw(WHITE, WHITE),
        draw(WHITE, RED, radius=-1),
        draw(WHITE, RED, radius=60),
    ],
    ids=["another body", "swapped", "one colour", "blank", "no ground"],
)
def test_a_variant_that_does_not_show_what_was_asked_for_is_not_handed_on(plates: Plates) -> None:
    pools = ReusePools()
    bad = pattern("red dots on white", seed=7)
    assert not is_good(plates, bad.spec, meaning_of(bad))
    pools.note("a", bad, plates)
    assert pools.knows("a", bad)
    assert pools.find_variant("a", pattern("red dots on white")) is None
    assert pools.find_near("a", pattern("white background, red dots"), seed=None) is None


def test_a_pattern_is_ordered_again_by_the_spec_that_was_answered() -> None:
    spec: PatternSpec = pattern("Small #F80 dots on navy, half-drop", seed=9, negative_prompt="no outline").spec
    members = msgspec.to_builtins(spec)
    del members["type"], members["model_digest"]
    assert pattern(**members).key == pattern_key(spec)
