"""How much a job asks of a pool: what counts against its tenant's share, and what waiting times are reckoned from.

The unit is the finishing of one megapixel (2^20). Pools measure how many units they do in a second, so only the
proportions matter: a step of the house model stands for as much as two megapixels of files, and a step of a user's
checkpoint for that at the size SD 1.5 was trained for, and for as many times more as its unit has more pixels.
"""

MEGAPIXEL = 2**20
UNITS_PER_STEP = 2.0
PAINTED_PX = 512
"""A step that paints a unit of this size is as much as a step of the house model."""

FORMAT_SHARE = 0.5
"""What another format costs, as a share of the usual files."""

GATE_UNITS = 0.25
"""What a gate costs: most look at a tile of a megapixel, whatever the size of the files."""

WORK_HEADER = "Halfdrop-Work"
"""In this header a job in JOBS tells its work, for those who count without reading it."""

WORK_MIN = 0.05
"""Taking a job and settling it costs something, however small its files."""


def work_of(*, size_px: int, steps: int, formats: int = 0, gates: int = 0, painted_px: int = PAINTED_PX) -> float:
    """Return the units of work of one image of size_px x size_px, sampled in `steps`; 0 steps: it brings its plates.

    formats: files beyond the usual ones. gates: what the pattern must pass. painted_px: the side of the unit that a
    user's checkpoint paints.
    """
    finishing = size_px * size_px / MEGAPIXEL * (1 + FORMAT_SHARE * formats)
    looking = GATE_UNITS * gates
    sampling = steps * UNITS_PER_STEP * (painted_px / PAINTED_PX) ** 2
    return max(WORK_MIN, sampling + finishing + looking)
