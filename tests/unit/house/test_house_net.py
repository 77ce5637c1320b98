"""The networks and the recipe: shapes, the torus, and that a few steps of training teach something."""

import pytest
import torch

from halfdrop.models.house.batches import draw_batches
from halfdrop.models.house.checkpoint import Networks, Progress, load_training, save_training
from halfdrop.models.house.data import build_tokenizer, encode_texts, seeded_units
from halfdrop.models.house.distil import student_loss
from halfdrop.models.house.inks import CHOICES
from halfdrop.models.house.losses import losses
from halfdrop.models.house.net import Denoiser, DenoiserConfig, TextEncoder, TextEncoderConfig
from halfdrop.models.house.optimizer import Muon, orthogonal, split_parameters
from halfdrop.models.house.sampling_torch import noise_of_seeds, sample_plates
from halfdrop.models.house.schedule import time_steps
from halfdrop.models.house.settings import TrainingSettings
from halfdrop.models.house.train import rate_at

SMALL = DenoiserConfig(width=64, layers=2, heads=2, stem_width=16, condition_width=32, modulation_rank=8)


@pytest.fixture(autouse=True)
def one_seeded_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def woken(config: DenoiserConfig) -> Denoiser:
    """Return a denoiser whose zeroed outlets are not zero, so that its input matters."""
    denoiser = Denoiser(config).eval()
    for parameter in denoiser.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return denoiser


def small_networks(vocabulary_size: int) -> Networks:
    text = TextEncoderConfig(vocabulary_size=vocabulary_size, width=32, layers=1, heads=2, condition_width=32)
    return Networks(TextEncoder(text), Denoiser(SMALL))


def test_the_text_encoder_gives_a_condition_and_scores_for_five_colours() -> None:
    encoder = TextEncoder(TextEncoderConfig(vocabulary_size=50)).eval()
    condition, scores = encoder(torch.randint(0, 50, (3, 32)))
    assert condition.shape == (3, 256)
    assert scores.shape == (3, 5, CHOICES)


def test_padding_never_changes_what_a_prompt_means() -> None:
    encoder = TextEncoder(TextEncoderConfig(vocabulary_size=50)).eval()
    ids = torch.tensor([[5, 6, 7] + [0] * 29])
    before, _ = encoder(ids)
    with torch.no_grad():
        encoder.words.weight[0] = 9.0
    after, _ = encoder(ids)
    assert torch.allclose(before, after, atol=1e-6)


def test_the_denoiser_keeps_the_plates_shape_and_is_a_function_of_each_unit_alone() -> None:
    denoiser = woken(SMALL)
    plates, level, condition = torch.randn(3, 4, 64, 64), torch.rand(3), torch.randn(3, 32)
    together = denoiser(plates, level, condition)
    alone = denoiser(plates[1:2], level[1:2], condition[1:2])
    assert together.shape == plates.shape
    assert torch.allclose(together[1:2], alone, atol=1e-5)


def test_without_its_anchor_the_denoiser_follows_the_torus() -> None:
    denoiser = woken(SMALL)
    plates, level, condition = torch.randn(1, 4, 64, 64), torch.tensor([0.5]), torch.randn(1, 32)

    def moved_first_and_last() -> tuple[torch.Tensor, torch.Tensor]:
        moved = denoiser(plates.roll((8, 24), (2, 3)), level, condition)
        return moved, denoiser(plates, level, condition).roll((8, 24), (2, 3))

    with torch.no_grad():
        first, last = moved_first_and_last()
        assert not torch.allclose(first, last, atol=1e-3), "the learned positions should anchor the unit"
        denoiser.positions.zero_()
        first, last = moved_first_and_last()
        assert torch.allclose(first, last, atol=1e-4)


def test_time_steps_fall_from_noise_to_clean() -> None:
    for steps in range(1, 9):
        levels = time_steps(steps)
        assert len(levels) == steps + 1
        assert levels[0] == 1
        assert levels[-1] == 0
        assert list(levels) == sorted(levels, reverse=True)


def test_orthogonal_updates_have_singular_values_near_one() -> None:
    values = torch.linalg.svdvals(orthogonal(torch.randn(2, 24, 64)))
    assert values.min() > 0.5
    assert values.max() < 1.5


def test_the_learning_rate_warms_up_holds_and_falls() -> None:
    settings = TrainingSettings()
    assert rate_at(settings, 0, 0.0) < 0.05
    assert rate_at(settings, 500, 0.4) == 1
    assert rate_at(settings, 5000, 0.99) < 0.03


def test_a_few_steps_of_training_lower_the_loss_on_units_not_trained_on() -> None:
    tokenizer = build_tokenizer()
    networks = small_networks(tokenizer.size)
    settings = TrainingSettings(batch=32, units_per_kind=1)
    matrices, others = split_parameters(networks.modules())
    muon, adam = Muon(matrices, 0, 1), torch.optim.AdamW(others, 3e-3)
    held_out = seeded_units(1, 555)
    ids = encode_texts(tokenizer, held_out.texts)

    def held_out_loss() -> float:
        with torch.no_grad():
            plates_loss, palette_loss = losses(
                networks, held_out, ids, torch.Generator().manual_seed(1), settings, device="cpu"
            )
        return float(plates_loss + palette_loss)

    before = held_out_loss()
    batches = draw_batches(settings, tokenizer, 8)
    for _ in range(12):
        units, trained_ids, numbers = next(batches)
        plates_loss, palette_loss = losses(networks, units, trained_ids, numbers, settings, device="cpu")
        for parameter in networks.parameters():
            parameter.grad = None
        torch.autograd.backward(plates_loss + palette_loss)
        muon.step(5e-3)
        adam.step()
    assert held_out_loss() < 0.8 * before


def test_a_checkpoint_brings_back_weights_momenta_and_progress(tmp_path) -> None:
    def fresh() -> tuple[Networks, Networks, Muon, torch.optim.AdamW]:
        networks = small_networks(20)
        matrices, others = split_parameters(networks.modules())
        return networks, networks.copied(), Muon(matrices, 0, 1), torch.optim.AdamW(others, 1e-3)

    networks, average, muon, adam = fresh()
    for parameter in networks.parameters():
        parameter.grad = torch.randn_like(parameter)
    muon.step(1e-2)
    adam.step()
    progress = Progress(step=7, samples=896, elapsed_s=12.5)
    save_training(tmp_path / "teacher.pt", networks, average, muon, adam, progress=progress)

    others = fresh()
    assert load_training(tmp_path / "teacher.pt", *others) == progress
    for saved, loaded in zip(networks.parameters(), others[0].parameters(), strict=True):
        assert torch.equal(saved, loaded)
    for saved_momentum, loaded_momentum in zip(muon.momenta, others[2].momenta, strict=True):
        assert torch.equal(saved_momentum, loaded_momentum)


def test_a_student_equal_to_an_unguided_teacher_is_already_right_at_the_last_step_of_a_linear_world() -> None:
    networks = small_networks(20)
    for parameter in networks.denoiser.head_out.parameters():
        torch.nn.init.zeros_(parameter)
    # A denoiser that always says "nothing" is consistent: two steps of it land where one does.
    plates, noise = torch.randn(4, 4, 64, 64), torch.randn(4, 4, 64, 64)
    ids, steps = torch.randint(2, 20, (4, 32)), torch.tensor([1.0, 2.0, 3.0, 4.0])
    loss = student_loss(networks, networks.denoiser, plates, ids, noise=noise, step_index=steps, guidance=1.0)
    assert loss.item() < 1e-6


def test_sampling_is_decided_by_the_seed() -> None:
    networks = small_networks(20)
    networks.denoiser = woken(SMALL)
    ids = torch.randint(2, 20, (2, 32))

    def sampled(seeds: list[int]) -> torch.Tensor:
        return sample_plates(networks.text_encoder, networks.denoiser, ids, noise_of_seeds(seeds), steps=2)[0]

    assert torch.equal(sampled([1, 2]), sampled([1, 2]))
    assert not torch.equal(sampled([1, 2])[1], sampled([1, 3])[1])
