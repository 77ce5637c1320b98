"""A checkpoint on the torus of its lattice: move the pattern, and the same picture moves; no border is anywhere."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.downsampling import Downsample2D
from torch import Tensor, nn

from halfdrop.contracts.errors import InvalidInput, PermanentError
from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.checkpoints.drawing import Checkpoint, load_checkpoint
from halfdrop.hub.checkpoints.layout import check_layout
from halfdrop.hub.checkpoints.tiles import lay_tile
from halfdrop.hub.checkpoints.torus import Torus, lay_on_torus
from halfdrop.hub.checkpoints.trial import SHIFT_ERROR_MAX, shift_error
from halfdrop.models.pixel_seams import border_step_ratio

REPEATS = {
    "straight": Repeat(),
    "half-drop": Repeat(layout="half-drop"),
    "brick": Repeat(layout="brick"),
    "third drop": Repeat(layout="drop", drop="1/3", units=3),
    "two-thirds drop of rows": Repeat(layout="drop", drop="2/3", axis="rows", units=3),
    "mirror": Repeat(layout="mirror"),
}
FEWER = {name: repeat for name, repeat in REPEATS.items() if name not in ("two-thirds drop of rows", "mirror")}
every_repeat = pytest.mark.parametrize("repeat", REPEATS.values(), ids=REPEATS.keys())

most_repeats = pytest.mark.parametrize("repeat", FEWER.values(), ids=FEWER.keys())


@pytest.fixture(scope="module", params=["sd_dir", "sdxl_dir"])
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    return load_checkpoint(check_layout(request.getfixturevalue(request.param)), "cpu")


def move(pattern: np.ndarray, repeat: Repeat, down: int, across: int) -> np.ndarray:
    """The definition, place by place: beyond each border the pattern goes on, hung lower by the drop (or pushed right).

    pattern: [..., H, W].
    """
    if repeat.shifted_axis == "rows":
        upright = Repeat(layout="drop", drop=str(repeat.shift), units=repeat.units)
        return move(pattern.swapaxes(-1, -2), upright, across, down).swapaxes(-1, -2)
    height, width = pattern.shape[-2:]
    drop = repeat.shift * height
    assert drop.denominator == 1
    rows, columns = np.mgrid[:height, :width]
    rows, columns = rows - down, columns - across
    units_right = columns // width
    return pattern[..., (rows - units_right * int(drop)) % height, columns % width]


def moved(values: Tensor, repeat: Repeat, down: int, across: int) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(move(values.numpy(), repeat, down, across)))


@every_repeat
def test_rolling_on_the_torus_is_what_the_lattice_says(repeat: Repeat) -> None:
    pattern = torch.randn(2, 3, 12, 12)
    for down, across in ((0, 0), (1, 5), (11, 12), (7, 0)):
        torch.testing.assert_close(Torus.of(repeat).roll(pattern, down, across), moved(pattern, repeat, down, across))


@most_repeats
def test_a_moved_pattern_comes_out_moved_from_noise_to_picture(checkpoint: Checkpoint, repeat: Repeat) -> None:
    """The whole way, UNet steps and decoder: the latents moved on the torus give the picture moved on the torus."""
    grain, factor = checkpoint.grain_px // 8, 8
    side = checkpoint.fit_size_px(128, repeat) // factor
    latents = torch.randn(1, 4, side, side)

    def paint(noise: Tensor) -> np.ndarray:
        lay_on_torus(checkpoint.pipeline.unet, repeat)
        drawn = checkpoint.pipeline(
            "blue leaves", latents=noise, height=8 * side, width=8 * side, num_inference_steps=2, output_type="latent"
        ).images
        return checkpoint.decode(drawn, repeat)[0]

    still = paint(latents)
    for down, across in ((grain, 0), (0, grain), (side - grain, grain)):
        arrived = paint(moved(latents, repeat, down, across))
        expected = move(still.transpose(2, 0, 1), repeat, factor * down, factor * across).transpose(1, 2, 0)
        assert np.abs(arrived.astype(int) - expected).max() <= 1
        assert np.abs(arrived.astype(int) - still).mean() > 1  # it did move


@every_repeat
def test_the_autoencoder_follows_every_move_by_whole_latents_both_ways(checkpoint: Checkpoint, repeat: Repeat) -> None:
    vae, side = checkpoint.pipeline.vae, checkpoint.fit_size_px(64, repeat) // 8
    lay_on_torus(vae, repeat)
    latents, image = torch.randn(1, 4, side, side), torch.rand(1, 3, 8 * side, 8 * side)
    with torch.no_grad():
        decoded, encoded = vae.decode(latents).sample, vae.encode(image).latent_dist.mean
        for down, across in ((1, 0), (0, 1), (side - 1, 3)):
            torch.testing.assert_close(
                vae.decode(moved(latents, repeat, down, across)).sample,
                moved(decoded, repeat, 8 * down, 8 * across),
                atol=1e-4,
                rtol=1e-4,
            )
            torch.testing.assert_close(
                vae.encode(moved(image, repeat, 8 * down, 8 * across)).latent_dist.mean,
                moved(encoded, repeat, down, across),
                atol=1e-4,
                rtol=1e-4,
            )


@every_repeat
def test_no_border_shows_against_the_true_neighbours(checkpoint: Checkpoint, repeat: Repeat) -> None:
    size_px = checkpoint.fit_size_px(128, repeat)
    (unit,) = checkpoint.draw(["red dots"], [3], repeat, size_px, num_inference_steps=2)
    tile = lay_tile(unit, repeat)
    units = repeat.normalise().units
    assert tile.shape == (units * size_px, units * size_px, 3)
    assert unit.std() > 5
    assert border_step_ratio(tile, repeat) <= 1.05


@every_repeat
def test_a_tile_is_its_unit_at_every_point_of_the_lattice(repeat: Repeat) -> None:
    unit = np.random.default_rng(1).integers(0, 255, (24, 24, 3), np.uint8)
    tile, normal = lay_tile(unit, repeat), repeat.normalise()
    for row in range(normal.units):
        for column in range(normal.units):
            part = tile[24 * row : 24 * (row + 1), 24 * column : 24 * (column + 1)]
            if normal.layout == "mirror":
                expected = unit[:: -1 if row % 2 else 1, :: -1 if column % 2 else 1]
            else:
                planes, shift = unit.transpose(2, 0, 1), 24 * normal.shift
                is_rows = normal.shifted_axis == "rows"
                moves = (0, int(shift * row)) if is_rows else (int(shift * column), 0)
                axis = 2 if is_rows else 1
                expected = np.roll(planes, moves[1] if is_rows else moves[0], axis).transpose(1, 2, 0)
            np.testing.assert_array_equal(part, expected)


def test_encoding_a_drawn_unit_returns_latents_that_decode_on_the_same_torus(checkpoint: Checkpoint) -> None:
    repeat = Repeat(layout="half-drop")
    units = checkpoint.draw(["leaves", "dots"], [1, 2], repeat, 128, num_inference_steps=1)
    latents = checkpoint.encode(units, repeat)
    assert latents.shape == (2, 4, 16, 16)
    turned = np.stack([move(unit.transpose(2, 0, 1), repeat, 8, 16).transpose(1, 2, 0) for unit in units])
    torch.testing.assert_close(checkpoint.encode(turned, repeat), moved(latents, repeat, 1, 2), atol=1e-4, rtol=1e-4)
    assert checkpoint.decode(latents, repeat).shape == units.shape


def test_a_network_that_was_left_as_it_was_loaded_is_caught(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the gate of an import would say of zeros as padding, and of a single layer that was forgotten."""
    assert shift_error(checkpoint, Repeat()) < 1e-4
    for forgotten in ("conv_out", "conv_in"):
        layer = getattr(checkpoint.pipeline.unet, forgotten)
        monkeypatch.setattr(layer, "__class__", nn.Conv2d)
        monkeypatch.setattr("halfdrop.hub.checkpoints.trial.lay_on_torus", lambda *_: None)
        assert shift_error(checkpoint, Repeat()) > 10 * SHIFT_ERROR_MAX
        monkeypatch.undo()
    downsampler = checkpoint.pipeline.vae.encoder.down_blocks[0].downsamplers[0]
    monkeypatch.setattr(downsampler, "__class__", Downsample2D)
    monkeypatch.setattr("halfdrop.hub.checkpoints.trial.lay_on_torus", lambda *_: None)
    assert shift_error(checkpoint, Repeat()) > 10 * SHIFT_ERROR_MAX


def test_a_unit_laid_on_another_lattice_than_its_own_is_a_seam() -> None:
    """The figure used above can tell: level waves meet themselves in a straight repeat, their opposite in a drop."""
    wave = np.cos(2 * np.pi * np.arange(128) / 128)
    level = np.repeat((127 + 100 * wave[:, None] + 20 * wave).astype(np.uint8)[..., None], 3, axis=2)
    assert border_step_ratio(lay_tile(level, Repeat()), Repeat()) <= 1.05
    assert border_step_ratio(lay_tile(level, Repeat(layout="half-drop")), Repeat(layout="half-drop")) > 10


def test_sizes_at_which_a_lattice_does_not_close_are_refused_with_the_nearest_that_does(
    checkpoint: Checkpoint,
) -> None:
    third = Repeat(layout="drop", drop="1/3", units=3)
    step = 3 * checkpoint.grain_px
    assert checkpoint.fit_size_px(500, third) == round(500 / step) * step
    with pytest.raises(InvalidInput, match=rf"such as {checkpoint.fit_size_px(500, third)}"):
        checkpoint.draw(["dots"], [1], third, 500)
    with pytest.raises(InvalidInput, match="size_px"):
        checkpoint.draw(["dots"], [1], Repeat(), 1 << 13)


def test_a_layer_that_is_not_known_to_wrap_is_refused() -> None:
    with pytest.raises(PermanentError, match=r"1: got ConvTranspose2d; allowed: Conv2d"):
        lay_on_torus(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.ConvTranspose2d(1, 1, 4, 2, 1)), Repeat())


def test_another_lattice_and_back_changes_nothing() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 1, 5, padding=(2, 2), stride=2))
    image = torch.randn(1, 1, 8, 8)
    lay_on_torus(network, Repeat())
    straight = network(image)
    lay_on_torus(network, Repeat(layout="half-drop"))
    assert not torch.equal(network(image), straight)
    lay_on_torus(network, Repeat())
    torch.testing.assert_close(network(image), straight, rtol=0, atol=0)
    assert Torus.of(Repeat(layout="brick")) == Torus(shift=Fraction(1, 2), axis="rows")


def test_padding_is_not_saved_and_comes_back_with_every_load(sd_dir: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(check_layout(sd_dir), "cpu")
    (before,) = checkpoint.draw(["dots"], [1], Repeat(layout="brick"), 128, num_inference_steps=1)
    checkpoint.pipeline.save_pretrained(tmp_path / "saved")
    again = load_checkpoint(check_layout(tmp_path / "saved"), "cpu")
    (after,) = again.draw(["dots"], [1], Repeat(layout="brick"), 128, num_inference_steps=1)
    np.testing.assert_array_equal(before, after)
