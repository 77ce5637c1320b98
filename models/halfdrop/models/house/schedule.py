"""The noise levels of sampling, in pure Python: training, hub and edge all walk these."""

from __future__ import annotations

STUDENT_STEPS = 2
"""Steps the student is distilled for; other counts work, with less care taken."""
SHIFT = 2.0
"""How far levels lean towards noise, where a unit's composition is decided."""
CLEAN_LIMIT = 1.3
"""Between steps a predicted clean field is clamped to this, a little beyond the -1 to 1 of real ones."""


def shifted(level: float) -> float:
    """Return an evenly spaced level (0 to 1) moved towards noise."""
    return SHIFT * level / (1 + (SHIFT - 1) * level)


def time_steps(steps: int) -> tuple[float, ...]:
    """Return the `steps` + 1 noise levels from 1 (noise) down to 0 (clean)."""
    return tuple(shifted(1 - index / steps) for index in range(steps + 1))
