"""Experts that forecast a square-root series some minutes ahead, and the hedge between them. Pure.

The ridges are fitted directly for each horizon by recursive least squares with forgetting, block by block: the cost of
a new block does not grow with the history. The hedge weighs the experts by their recent losses (exponential weights),
so that a season that is not there costs little: persistence is always one of them.
"""

import numpy as np

from halfdrop.forecaster.features import DAY_MINUTES
from halfdrop.forecaster.workload import FloatArray

EXPERTS = ("last", "level", "autoregression", "seasonal ridge", "sub-hour ridge", "full ridge")
FORGET_DAYS = 10.0
"""Time constant with which old rows lose their weight."""

RIDGE = 20.0
"""Penalty, in rows: how many minutes of evidence it takes to move a coefficient."""

HEDGE_SHARPNESS = 30.0
"""Exponent on the ratio of losses: an expert 5 % worse than the best keeps a fifth of the best's weight."""

HEDGE_HALF_LIFE_MINUTES = 1_440.0
MINIMUM_FIT_MINUTES = 360
"""With fewer rows than this a ridge repeats the level."""


class OnlineRidges:
    """Least squares on subsets of the same columns, towards the level, from rows that fade."""

    def __init__(self, columns: list[list[int]], *, level_column: int) -> None:
        self._columns = columns
        size = 1 + max(max(each) for each in columns)
        self._towards = np.zeros(size)
        self._towards[level_column] = 1.0
        self._grams = np.zeros((size, size))
        self._moments = np.zeros(size)
        self._rows = 0.0
        self.coefficients = np.tile(self._towards, (len(columns), 1))
        """[ridges, columns]; zero where a ridge does not look."""

    def learn(self, rows: FloatArray, targets: FloatArray) -> None:
        """Take in one block; rows whose target is a gap teach nothing."""
        is_known = ~np.isnan(targets)
        fade = np.exp(-len(targets) / (FORGET_DAYS * DAY_MINUTES))
        rows, targets = rows[is_known], targets[is_known]
        self._grams = fade * self._grams + rows.T @ rows
        self._moments = fade * self._moments + rows.T @ targets
        self._rows = fade * self._rows + len(targets)
        if self._rows < MINIMUM_FIT_MINUTES:
            return
        for ridge, columns in enumerate(self._columns):
            grams = self._grams[np.ix_(columns, columns)] + RIDGE * np.eye(len(columns))
            moments = self._moments[columns] + RIDGE * self._towards[columns]
            self.coefficients[ridge, columns] = np.linalg.solve(grams, moments)


class Hedge:
    """Exponential weights over discounted squared losses."""

    def __init__(self, experts: int) -> None:
        self._losses = np.zeros(experts)
        self._evidence = 0.0

    @property
    def weights(self) -> FloatArray:
        """Weights that sum to 1; equal ones before anything is known."""
        if self._evidence <= 0.0:
            return np.full(len(self._losses), 1 / len(self._losses))
        ratios = (self._losses + 1e-12) / (self._losses.min() + 1e-12)
        weights = np.maximum(ratios, 1.0) ** -HEDGE_SHARPNESS
        shares: FloatArray = weights / weights.sum()
        return shares

    def learn(self, predictions: FloatArray, targets: FloatArray) -> None:
        """Take in [minutes, experts] against [minutes]; gaps teach nothing."""
        is_known = ~(np.isnan(targets) | np.isnan(predictions).any(axis=1))
        if not is_known.any():
            return
        errors = (predictions[is_known] - targets[is_known, None]) ** 2
        fade = 0.5 ** (len(errors) / HEDGE_HALF_LIFE_MINUTES)
        self._losses = fade * self._losses + errors.sum(axis=0)
        self._evidence = fade * self._evidence + len(errors)
