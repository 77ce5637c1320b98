"""What a mill asks for is bounded, and a refusal names what would do."""

import math

import msgspec
import pytest

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.jobs import Job, accepted_work
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.contracts.printing import PrintOptions, check_colourways, check_printing, dpi_of


def test_the_resolution_follows_from_the_repeat() -> None:
    assert dpi_of(PrintOptions(), 4096) == 300
    assert dpi_of(PrintOptions(repeat_mm=640), 7559) == pytest.approx(300, abs=0.01)


@pytest.mark.parametrize(
    ("repeat_mm", "mills", "nearest"),
    [(650, (640,), "640"), (330, (640, 913), "320"), (300, (640, 913), "304.333"), (1000, (640, 913), "913")],
)
def test_a_repeat_that_no_screen_takes_is_refused_with_the_nearest(
    repeat_mm: float, mills: tuple[float, ...], nearest: str
) -> None:
    options = PrintOptions(repeat_mm=repeat_mm, mill_repeats_mm=mills)
    with pytest.raises(InvalidInput, match=f"the nearest is {nearest} mm"):
        check_printing(options, size_px=4096)
    check_printing(PrintOptions(repeat_mm=float(nearest), mill_repeats_mm=mills), size_px=4096)


@pytest.mark.parametrize("repeat_mm", [640, 320, 640 / 3, 320.04])
def test_a_whole_part_of_a_screen_is_a_repeat(repeat_mm: float) -> None:
    options = PrintOptions(repeat_mm=repeat_mm, mill_repeats_mm=(640,))
    assert check_printing(options, size_px=4096) == options


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (PrintOptions(repeat_mm=2), "printing.repeat_mm"),
        (PrintOptions(repeat_mm=math.nan), "printing.repeat_mm"),
        (PrintOptions(repeat_mm=5, mill_repeats_mm=(math.inf,)), r"printing.mill_repeats_mm\[0\]"),
        (PrintOptions(repeat_mm=5, mill_repeats_mm=(640,) * 33), "up to 32 lengths"),
        (PrintOptions(mill_repeats_mm=(640,)), "a length in mm"),
        (PrintOptions(repeat_mm=5000), r"20 to 2540 pixels to the inch"),
        (PrintOptions(trap_mm=2.1), "printing.trap_mm"),
        (PrintOptions(trap_mm=math.nan), "printing.trap_mm"),
        (PrintOptions(min_feature_mm=-1), "printing.min_feature_mm"),
        (PrintOptions(inks_max=0), "printing.inks_max"),
        (PrintOptions(profile="../etc"), "printing.profile"),
    ],
)
def test_what_no_press_can_do_is_refused(options: PrintOptions, named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        check_printing(options, size_px=256)


def test_colourways_are_palettes_in_lower_case_and_few() -> None:
    assert check_colourways((("#AABBCC",),), formats=13) == (("#aabbcc",),)
    with pytest.raises(InvalidInput, match=r"up to 8 palettes"):
        check_colourways((("#aabbcc",),) * 9, formats=0)
    with pytest.raises(InvalidInput, match=r"colourways\[1\]\[0\]: got 'red'"):
        check_colourways((("#aabbcc",), ("red",)), formats=0)
    with pytest.raises(InvalidInput, match=r"colourways\[0\]: got 'no colours'"):
        check_colourways(((),), formats=0)
    with pytest.raises(InvalidInput, match="fewer colourways or fewer formats"):
        check_colourways((("#aabbcc",),) * 8, formats=13)


def test_each_file_more_is_work_more() -> None:
    spec = PatternSpec(prompt="dots", model_digest="sha256:0f", num_inference_steps=4)
    job = Job(id="a1", origin="local", spec=spec, size_px=1024, created_at=1.0)
    with_more = msgspec.structs.replace(job, formats=("tiff",), colourways=(("#aabbcc",),))
    assert accepted_work(with_more) == accepted_work(job) + 0.5 * 4


def test_a_step_of_a_checkpoint_counts_by_the_pixels_of_its_unit() -> None:
    def work(**painted: int) -> float:
        spec = PatternSpec(prompt="dots", model_digest="0" * 64, num_inference_steps=30, **painted)
        return accepted_work(Job(id="a", origin="test", spec=spec, size_px=1024, created_at=0.0))

    assert work() == work(unit_px=512) == 1 + 30 * 2
    assert work(unit_px=1024) == 1 + 30 * 2 * 4
