"""The colours that the palette head chooses from, in torch and in the graph that ships."""

import numpy as np
import onnxruntime
import pytest
import torch

from halfdrop.models.house.data import say_again, seeded_units
from halfdrop.models.house.inks import CHOICES, INKS, OVERPRINT, inks_of, palette_of
from halfdrop.models.house.kinds.drawing import seeded_words
from halfdrop.models.house.onnx_graph import Graph
from halfdrop.models.house.onnx_text_encoder import _add_palette
from halfdrop.models.house.palettes import COLOUR_NAMES, mixed, rgb, shade_of


def certain(choices: torch.Tensor) -> torch.Tensor:
    """Scores that leave no doubt."""
    return torch.nn.functional.one_hot(choices, CHOICES).float() * 9


def test_every_colour_that_a_caption_means_can_be_chosen_exactly() -> None:
    units = seeded_units(4, 5, mixes=3, grid=8)
    assert units.palette.shape[1:] == (5, 3)
    drawn = palette_of(certain(inks_of(units.palette)))
    error = ((drawn - units.palette).abs().amax(2) * units.is_used).max()
    assert error < 1e-4


def test_named_colours_their_shades_and_overprints_are_told_apart() -> None:
    red, cream = rgb("red"), rgb("cream")
    palette = torch.tensor([[cream, mixed(cream, red), shade_of(red, 1), red, shade_of(red, 2)]])
    named = [COLOUR_NAMES.index("cream"), OVERPRINT, COLOUR_NAMES.index("red")]
    assert [inks_of(palette)[0, slot].item() for slot in (0, 1, 3)] == named
    assert INKS[inks_of(palette)[0, 2]] == pytest.approx(np.array(shade_of(red, 1)), abs=1e-6)
    assert INKS[inks_of(palette)[0, 4]] == pytest.approx(np.array(shade_of(red, 2)), abs=1e-6)


def test_a_doubt_between_two_colours_is_decided_and_not_mixed() -> None:
    scores = torch.zeros(1, 5, CHOICES)
    scores[..., COLOUR_NAMES.index("red")], scores[..., COLOUR_NAMES.index("green")] = 2.0, 1.99
    assert (palette_of(scores) == torch.tensor(rgb("red"))).all()


def test_the_graph_chooses_as_torch_does() -> None:
    graph = Graph({})
    outputs = {"palette": (_add_palette(graph, "scores"), (1, 5, 3))}
    model = graph.finish({"scores": (1, (1, 5, CHOICES))}, outputs)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    scores = torch.randn(200, 5, CHOICES, generator=torch.Generator().manual_seed(1))
    scores[::2, 1:3, OVERPRINT] = 9.0
    scores[::8, 0, OVERPRINT] = 9.0
    read = np.concatenate([session.run(["palette"], {"scores": row[None].numpy()})[0] for row in scores])
    assert np.abs(read - palette_of(scores).numpy()).max() < 1e-6


def test_sayings_mean_inks_too(tokenizer) -> None:
    units = seeded_units(1, 3, ("gingham", "plaid", "terrazzo", "camouflage"), grid=8)
    sayings = say_again(units, 20, tokenizer, seeded_words(3))
    drawn = palette_of(certain(inks_of(sayings.palette)))
    assert ((drawn - sayings.palette).abs().amax(2) * sayings.is_used).max() < 1e-4
    # Of white or black an overprint is a shade, and the shade's own choice says the same colour.
    greys = torch.tensor([COLOUR_NAMES.index(name) for name in ("white", "black")])
    choices = inks_of(sayings.palette)[:20]
    is_plain = ~torch.isin(choices[:, [0, 3]], greys).any(1)
    assert is_plain.sum() > 10
    assert (choices[is_plain, 1] == OVERPRINT).all(), "the single passes of a gingham"
