"""Hit ratios by kind of reuse, and wrong reuse, on a skewed stream of prompts.

The stream: designs by Zipf's law, each beside one with body and ground swapped, said in several wordings by the grammar
(`captions`), and the held-out prompts as designers type them; now and then with a layout or a seed. One run lets only
the exact pattern answer, the other takes near matches too. Everything is the edge's own code, drawing with the shipped
model over the memory tier. Whether a reuse is right is judged by what each prompt was written from, not by the parser
that decided it.
"""

import argparse
import asyncio
import random
import runpy
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from unittest.mock import patch

from measuring import ROOT, report

from halfdrop.cache.memory import MemoryTier
from halfdrop.cache.tiered import TieredCache
from halfdrop.contracts.patterns import PREVIEW_SIZE_PX
from halfdrop.edge.access import LOCAL_TENANT
from halfdrop.edge.previewer import open_previewer
from halfdrop.edge.previews import Previews
from halfdrop.edge.requests import PreviewRequest
from halfdrop.edge.reuse import ReusePools, choose_pattern, is_good, meaning_of, note_pattern
from halfdrop.models.bundle import open_bundle, shipped_bundle_dir
from halfdrop.models.house import captions
from halfdrop.models.house.captions import Caption, detail_word
from halfdrop.models.house.data import seeded_units
from halfdrop.models.house.held_out import is_held_out, kind_of
from halfdrop.models.house.held_out_prompts import HELD_OUT_PROMPTS
from halfdrop.models.house.kinds.drawing import Traits
from halfdrop.models.house.meaning import read_meaning
from halfdrop.models.house.palettes import draw_names
from halfdrop.models.phrases import read_phrases

SEED = 5
REQUESTS, DESIGNS, WORDINGS = 1_500, 300, 6
ZIPF_EXPONENT = 1.0
HELD_OUT_SHARE = 0.25
LAYOUTS = ("", "", "", ", half-drop", ", brick")
SEED_CHANCE, SEEDS = 0.3, 20
"""Share of requests that give a seed, and how many they choose from."""
CACHE_BYTES = 256 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """A prompt, and what it was written from: two prompts may stand in for each other if that is the same."""

    prompt: str
    truth: Hashable


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="length of the stream")
    report("reuse", measure_reuse(parser.parse_args().requests))


def measure_reuse(count: int = REQUESTS) -> dict[str, object]:
    """Return the figures of a stream of `count` requests."""
    dice = random.Random(SEED)
    stream = draw_stream(count, dice)
    exact = asyncio.run(serve_stream(stream, "exact"))
    near = asyncio.run(serve_stream(stream, "near"))
    prompts = {request.prompt for request, _ in stream}
    return {
        "hit_ratio_exact_only": _ratio(exact["exact"], count),
        "hit_ratio": _ratio(near["exact"] + near["variant"] + near["near"], count),
        "hit_ratio_exact": _ratio(near["exact"], count),
        "hit_ratio_variant": _ratio(near["variant"], count),
        "hit_ratio_near": _ratio(near["near"], count),
        "wrong_reuse": near["wrong"],
        "wrong_reuse_adversarial": count_wrong_pairs(),
        "drawn_good_share": _ratio(near["good"], near["none"]),
        "requests": count,
        "distinct_prompts": len(prompts),
        "parsed_share": _ratio(
            sum(read_meaning(read_phrases(each).prompt) is not None for each in prompts), len(prompts)
        ),
        "zipf_exponent": ZIPF_EXPONENT,
    }


def _ratio(part: int, whole: int) -> float:
    return round(part / max(whole, 1), 4)


def draw_stream(count: int, dice: random.Random) -> list[tuple[PreviewRequest, Ask]]:
    """Return requests in order, each with what its prompt was written from."""
    designs = draw_designs(dice)
    held_out = [[Ask(prompt=each.text, truth=("held out", each))] for each in HELD_OUT_PROMPTS]
    stream = []
    for _ in range(count):
        source = held_out if dice.random() < HELD_OUT_SHARE else designs
        (wordings,) = dice.choices(source, [1 / rank**ZIPF_EXPONENT for rank in range(1, len(source) + 1)])
        ask = dice.choice(wordings)
        layout = "" if source is held_out else dice.choice(LAYOUTS)
        request = PreviewRequest(prompt=ask.prompt + layout)
        if dice.random() < SEED_CHANCE:
            request = PreviewRequest(prompt=ask.prompt + layout, seed=dice.randrange(SEEDS))
        stream.append((request, Ask(prompt=ask.prompt, truth=(layout, ask.truth))))
    return stream


def draw_designs(dice: random.Random) -> list[list[Ask]]:
    """Return designs, each in several wordings with the same colours wherever those are said."""
    traits = seeded_units(DESIGNS // 40, SEED, mixes=6, grid=8).traits
    dice.shuffle(traits)
    designs = []
    for each in traits[: DESIGNS // 2]:
        names = draw_names(dice)
        while _is_held_out(each, names) or _is_held_out(each, _swapped(each, names)):
            names = draw_names(dice)
        for colours in (names, _swapped(each, names)):
            # The grammar draws colours anew for each caption; a design keeps its own.
            with patch.object(captions, "draw_names", lambda _, colours=colours: list(colours)):
                said = [captions.caption(each, dice) for _ in range(WORDINGS)]
            designs.append([Ask(prompt=caption.text, truth=_truth(each, caption)) for caption in said])
    return designs


def _swapped(traits: Traits, names: list[str]) -> list[str]:
    """Return the colours with ground and body in each other's place: the design that is likeliest to be confused."""
    slot = traits.body[0] + 1
    return [names[slot], *names[1:slot], names[0], *names[slot + 1 :]]


def _is_held_out(traits: Traits, names: list[str]) -> bool:
    """Return whether the grammar may never say these colours of this unit."""
    return any(
        is_held_out(
            kind_of(each.noun),
            names[each.body[0] + 1],
            names[0],
            [(detail_word(detail), names[detail.layer + 1]) for detail in each.details],
        )
        for each in _clauses(traits)
    )


def _clauses(traits: Traits) -> tuple[Traits, ...]:
    return (traits, traits.partner) if traits.partner else (traits,)


def _truth(traits: Traits, caption: Caption) -> Hashable:
    """Return what can be seen: the motifs with their ways and details, and every colour."""
    drawn = tuple(
        (kind_of(each.noun), tuple(sorted(filter(None, each.adjectives))), each.body, len(each.details))
        for each in _clauses(traits)
    )
    return drawn, tuple(colour for colour, used in zip(caption.palette, caption.is_used, strict=True) if used)


async def serve_stream(stream: list[tuple[PreviewRequest, Ask]], reuse: str) -> Counter[str]:
    """Answer a stream as the edge does, and count the kinds of reuse, the wrong ones, and the good drawings."""
    bundle = open_bundle(shipped_bundle_dir())
    counts: Counter[str] = Counter()
    pools = ReusePools()
    truths: dict[str, Hashable] = {}
    async with (
        TieredCache([MemoryTier(CACHE_BYTES)]) as cache,
        open_previewer(bundle, threads=1, waiting_max=1) as previewer,
    ):
        previews = Previews(bundle=bundle, previewer=previewer, cache=cache)
        for asked, ask in stream:
            request = PreviewRequest(prompt=asked.prompt, seed=asked.seed, reuse=reuse)  # type: ignore[arg-type]
            own = previews.understand(request)
            pattern, kind = await choose_pattern(pools, previews, LOCAL_TENANT, own, request)
            picture = await previews.preview_pattern(pattern, PREVIEW_SIZE_PX)
            await note_pattern(pools, previews, LOCAL_TENANT, pattern)
            counts[kind if picture.is_hit else "none"] += 1
            if not picture.is_hit:
                plates = await previews.plates(pattern)
                counts["good"] += is_good(plates, pattern.spec, meaning_of(pattern))
            counts["wrong"] += truths.setdefault(pattern.key, ask.truth) != ask.truth
    return counts


def count_wrong_pairs() -> int:
    """Return how many pairs of the hand-written list, which show different things, have one meaning."""
    pairs = runpy.run_path(str(ROOT / "tests" / "unit" / "house" / "test_house_meaning_pairs.py"))
    understood = pairs["understood"]
    meanings = [(understood(first), understood(second)) for first, second in pairs["ALL"]]
    return sum(first[0] is not None and first == second for first, second in meanings)


if __name__ == "__main__":
    main()
