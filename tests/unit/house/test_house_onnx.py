"""The graphs that an edge runs: the networks' own numbers in float32, and close to them in INT8 on every processor."""

from fractions import Fraction
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch

from halfdrop.contracts.repeats import Repeat
from halfdrop.models.bundle import shipped_bundle_dir
from halfdrop.models.house.cell_rows import BORDER, lattice_inputs, to_fields, to_rows
from halfdrop.models.house.inks import palette_of
from halfdrop.models.house.net import (
    Denoiser,
    DenoiserConfig,
    TextEncoder,
    TextEncoderConfig,
    load_student,
    torus_tensors,
)
from halfdrop.models.house.noise import seeded_noise
from halfdrop.models.house.onnx_denoiser import build_denoiser
from halfdrop.models.house.onnx_formats import (
    ALONE_MIN_DB,
    NO_FASTER,
    alone_db,
    choose_formats,
    draw_samples,
    layers_of,
    psnr_db,
)
from halfdrop.models.house.onnx_graph import Graph, round_weight
from halfdrop.models.house.onnx_text_encoder import build_text_encoder
from halfdrop.models.house.sampling import draw_plates, open_session, session_options
from halfdrop.models.house.sampling_torch import noise_of_seeds, sample_plates
from halfdrop.models.house.tokenizer import Tokenizer
from halfdrop.models.house.torus import LATTICES, STRAIGHT, lattice_of, torus_of

SOME_LATTICES = (STRAIGHT, ("columns", Fraction(1, 2)), ("rows", Fraction(1, 2)), ("columns", Fraction(2, 3)))
REPEATS = (
    Repeat(),
    Repeat(layout="half-drop").normalise(),
    Repeat(layout="brick").normalise(),
    Repeat(layout="drop", drop="3/8", axis="rows").normalise(),
    Repeat(layout="mirror").normalise(),
)


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    """A small one with nothing at zero, so that every part has a say."""
    torch.manual_seed(0)
    sizes = DenoiserConfig(width=64, layers=2, heads=2, stem_width=16, condition_width=32, modulation_rank=8)
    small = Denoiser(sizes).eval()
    for parameter in small.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return small


@pytest.fixture(scope="module")
def text_encoder() -> TextEncoder:
    torch.manual_seed(1)
    small = TextEncoder(TextEncoderConfig(vocabulary_size=20, width=32, layers=2, heads=2, condition_width=32)).eval()
    with torch.no_grad():
        small.word_sum.weight[1:].normal_(std=0.2)
    return small


@pytest.fixture(scope="module")
def shipped() -> tuple[TextEncoder, Denoiser, Tokenizer]:
    directory = shipped_bundle_dir()
    return *load_student(directory), Tokenizer.load(directory / "tokenizer" / "vocab.json")


def opened(build, *networks, **options):
    """A session of a graph whose layers are all float32."""
    text_encoder, *denoisers = networks
    build = partial(build, **options)
    _, layers = build(text_encoder, {}, *denoisers)
    return open_session(build(text_encoder, dict.fromkeys(layers, "float32"), *denoisers)[0].SerializeToString())


@torch.no_grad()
def exact(denoiser: Denoiser, noisy: np.ndarray, level: float, condition: torch.Tensor, lattice) -> np.ndarray:
    torus = torus_tensors([torus_of(lattice)])
    return denoiser(torch.from_numpy(noisy)[None], torch.tensor([level]), condition, torus)[0].numpy()


def inputs(noisy: np.ndarray, level: float, condition: torch.Tensor, lattice) -> dict[str, np.ndarray]:
    told = {"t": np.array([level], np.float32), "c": condition.detach().numpy()}
    return {"z": to_rows(noisy), **told, **lattice_inputs(lattice)}


def test_rows_of_cells_are_the_networks_own_patches_in_another_order() -> None:
    fields = seeded_noise(1)
    cells = torch.nn.functional.pixel_unshuffle(torch.from_numpy(fields)[None], 4)[0]
    tokens = torch.nn.functional.pixel_unshuffle(torch.from_numpy(fields)[None], 8)[0]
    rows = to_rows(fields)
    assert np.array_equal(rows[:3], cells[:, [0, 0, 1], [0, 1, 0]].T)
    assert set(rows[4:8].ravel().tolist()) == set(tokens[:, 0, 1].tolist())
    assert np.array_equal(to_fields(rows), fields)


@pytest.mark.parametrize("lattice", LATTICES, ids=str)
def test_only_border_cells_have_a_part_in_the_ring(lattice) -> None:
    fields = seeded_noise(2)
    cells = torch.nn.functional.pixel_unshuffle(torch.from_numpy(fields), 4).flatten(1).numpy()
    told = lattice_inputs(lattice)["ring"] @ to_rows(fields)[BORDER]
    # The cells' channels are the rows' columns, whatever the order of cells.
    assert np.allclose(told, torus_of(lattice).ring @ cells.T, atol=1e-5)


@pytest.mark.parametrize("lattice", SOME_LATTICES, ids=str)
def test_a_float32_denoiser_is_the_network(denoiser: Denoiser, lattice) -> None:
    session = opened(build_denoiser, denoiser, is_told=False)
    for seed, level in product((1, 2), (1.0, 0.6, 0.05)):
        condition, noisy = torch.randn(1, 32, generator=torch.Generator().manual_seed(seed)), seeded_noise(seed)
        expected = exact(denoiser, noisy, level, condition, lattice)
        drawn = to_fields(session.run(["x"], inputs(noisy, level, condition, lattice))[0])
        assert np.abs(expected).max() > 0.3, "two empty drawings would agree"
        assert np.abs(drawn - expected).max() < 1e-4
    other = ("columns", Fraction(1, 4))
    assert np.abs(exact(denoiser, noisy, level, condition, other) - expected).max() > 0.01, "lattices must differ"


@pytest.mark.parametrize("words", [[], [5], [5, 9, 3, 17, 2], list(range(1, 20)) + list(range(1, 14))], ids=len)
def test_a_float32_text_encoder_is_the_network_and_needs_no_padding(
    text_encoder: TextEncoder, words: list[int]
) -> None:
    session = opened(build_text_encoder, text_encoder)
    with torch.no_grad():
        condition, scores = text_encoder(torch.tensor([[*words, *[0] * (32 - len(words))]]))
    read = session.run(["c", "palette"], {"ids": np.array([words], np.int64)})
    assert np.abs(read[0] - condition.numpy()).max() < 1e-5
    assert np.abs(read[1] - palette_of(scores).numpy()).max() < 1e-6


@pytest.mark.parametrize("repeat", REPEATS, ids=lambda repeat: f"{repeat.layout} {repeat.axis} {repeat.drop}")
def test_drawings_agree_with_torch_for_every_lattice(denoiser, text_encoder, repeat: Repeat) -> None:
    sessions = opened(build_text_encoder, text_encoder, denoiser), opened(build_denoiser, denoiser)
    ids = [5, 9, 3, *[0] * 29]
    drawn, palette = draw_plates(*sessions, ids, 5, 3, repeat=repeat)
    torus = torus_tensors([torus_of(lattice_of(repeat))])
    plates, colours = sample_plates(
        text_encoder, denoiser, torch.tensor([ids]), noise_of_seeds([5]), steps=3, torus=torus
    )
    assert np.abs(drawn - plates[0].numpy()).max() < 1e-4
    assert np.abs(palette - colours[0].numpy()).max() < 1e-5


@pytest.mark.parametrize("lattice", SOME_LATTICES, ids=str)
def test_the_shipped_int8_files_are_close_to_the_network(shipped, lattice) -> None:
    text_encoder, denoiser, tokenizer = shipped
    text_session = open_session(shipped_bundle_dir() / "onnx" / "text_encoder.onnx")
    session = open_session(shipped_bundle_dir() / "onnx" / "denoiser.onnx")
    for seed, prompt in enumerate(("red polka dots on white", "olive and brown camouflage", "blue and white gingham")):
        ids = tokenizer.encode(prompt)
        with torch.no_grad():
            condition, scores = text_encoder(torch.tensor([ids]))
        levels = np.array([1.0, 0.67, 0.3], np.float32)
        asked = {
            "ids": np.array([[each for each in ids if each]]),
            "t": levels,
            "drop": lattice_inputs(lattice)["drop"],
        }
        rounded, colours, told = text_session.run(["c", "palette", "told"], asked)
        assert np.abs(rounded - condition.numpy()).max() < 0.1
        assert np.abs(colours - palette_of(scores).numpy()).max() < 1e-6
        noisy = noise = seeded_noise(seed)
        for level, row in zip(levels.tolist(), told, strict=True):
            expected = exact(denoiser, noisy, level, condition, lattice)
            seen = {name: value for name, value in lattice_inputs(lattice).items() if name != "drop"}
            drawn = session.run(["x"], {"z": to_rows(noisy), "told": row, **seen})[0]
            assert psnr_db(to_fields(drawn), expected) > 35
            noisy = np.clip(expected, -1, 1) * np.float32(1 - level / 2) + noise * np.float32(level / 2)


def test_int8_products_saturate_on_no_processor() -> None:
    # The worst there is for a kernel that adds two products in 16 bits: all inputs at 255, all weights of one sign.
    numbers = np.random.default_rng(0)
    weight = np.abs(numbers.standard_normal((64, 48))).astype(np.float32)
    weight[:2] = weight.max()
    graph = Graph({})
    product_ = graph.linear("worst", "x", weight, None)
    model = graph.finish({"x": (1, (8, 64))}, {"y": (product_, (8, 48))}).SerializeToString()
    options = session_options()
    options.add_session_config_entry("session.x64quantprecision", "1")  # slower kernels that cannot saturate
    full = {"x": np.ones((8, 64), np.float32)}
    fast, careful = (open_session(model, each).run(["y"], full)[0] for each in (session_options(), options))
    assert np.array_equal(fast, careful)
    assert np.abs(fast / (full["x"] @ weight) - 1).max() < 0.02
    rounded, scale = round_weight(weight)
    assert np.abs(rounded.astype(int)[::2]).max() + np.abs(rounded.astype(int)[1::2]).max() >= 120, "bits are wasted"
    assert (np.abs(rounded.astype(int)[::2]) + np.abs(rounded.astype(int)[1::2])).max() <= 127
    assert np.abs(rounded * scale - weight).max() <= scale.max() * 0.501


def test_a_layer_that_int8_would_hurt_stays_float32(denoiser: Denoiser) -> None:
    alone = alone_db(denoiser, draw_samples(denoiser))
    formats = choose_formats(denoiser)
    assert formats.keys() == alone.keys()
    assert all(formats[layer] == "float32" for layer in alone if layer in NO_FASTER or alone[layer] < ALONE_MIN_DB)
    assert any(chosen == "int8" for chosen in formats.values())
    # One input that is a thousand times as strong as the others takes all eight bits from them.
    torch.manual_seed(0)
    spoilt = Denoiser(denoiser.config).eval()
    spoilt.load_state_dict(denoiser.state_dict())
    with torch.no_grad():
        spoilt.from_tokens.weight[0] *= 1000
        spoilt.head_1.weight[:, 0] /= 1000
    assert alone["head_1"] > ALONE_MIN_DB
    assert choose_formats(spoilt)["head_1"] == "float32"


def test_the_shipped_denoiser_is_mostly_int8(shipped) -> None:
    _, denoiser, _ = shipped
    layers = layers_of(denoiser)
    size = (shipped_bundle_dir() / "onnx" / "denoiser.onnx").stat().st_size
    smallest, largest = (
        build_denoiser(denoiser, dict.fromkeys(layers, each))[0].ByteSize() for each in ("int8", "float32")
    )
    assert smallest <= size < smallest + (largest - smallest) / 4
