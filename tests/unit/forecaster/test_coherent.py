"""Parts and their total agree once reconciled, and the more certain one gives way less."""

import numpy as np
import pytest

from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.coherent import reconcile, shift_quantiles

PARTS = np.array([[4.0, 4.0, 0.0], [6.0, 6.0, 1.0]])


def test_the_total_is_the_sum_of_its_parts_and_agreement_changes_nothing() -> None:
    found = reconcile(PARTS, np.array([10.0, 13.0, 0.5]), part_variances=np.array([1.0, 1.0]), total_variance=1.0)
    np.testing.assert_allclose(found.parts.sum(axis=0), found.total)
    np.testing.assert_allclose(found.parts[:, 0], PARTS[:, 0])
    np.testing.assert_allclose(found.total, [10.0, 12.0, 0.5 + 0.5 / 3])
    assert (found.parts >= 0).all()


def test_the_uncertain_one_moves() -> None:
    sure_total = reconcile(PARTS, PARTS.sum(axis=0) + 3, part_variances=np.array([9.0, 1.0]), total_variance=1e-6)
    np.testing.assert_allclose(sure_total.total, PARTS.sum(axis=0) + 3, rtol=1e-4)
    assert (sure_total.parts[0] - PARTS[0] > 5 * (sure_total.parts[1] - PARTS[1])).all()
    sure_parts = reconcile(PARTS, PARTS.sum(axis=0) + 3, part_variances=np.array([1e-6, 1e-6]), total_variance=9.0)
    np.testing.assert_allclose(sure_parts.parts, PARTS, atol=1e-3)


def test_reconciling_lessens_the_error_of_noisy_forecasts() -> None:
    dice = np.random.default_rng(20261127)
    truth = dice.uniform(5, 20, (4, 500))
    parts = truth + dice.normal(0, 2, truth.shape)
    total = truth.sum(axis=0) + dice.normal(0, 1, 500)
    found = reconcile(parts, total, part_variances=np.full(4, 4.0), total_variance=1.0)
    assert np.square(found.parts - truth).mean() < np.square(parts - truth).mean()
    assert np.square(found.total - truth.sum(axis=0)).mean() < np.square(parts.sum(axis=0) - truth.sum(axis=0)).mean()


def test_quantiles_move_with_their_points_and_not_below_zero() -> None:
    quantiles = np.array([[5.0, 8.0], [0.2, 1.0]])
    shifted = shift_quantiles(quantiles, np.array([5.0, 0.5]), np.array([6.0, 0.0]))
    np.testing.assert_allclose(shifted, [[6.0, 9.0], [0.0, 0.5]])


@pytest.mark.parametrize("total", [np.array([1.0, 2.0]), np.array([1.0, np.nan, 2.0])])
def test_what_does_not_fit_or_is_no_number_is_refused(total: np.ndarray) -> None:
    with pytest.raises(InvalidInput):
        reconcile(PARTS, total, part_variances=np.array([1.0, 1.0]), total_variance=1.0)
