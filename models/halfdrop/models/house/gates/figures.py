"""The figures of the goals that are read from drawn units, and those that explain them; one function for each gate.

The keys of what they return are those that a manifest and `bench/model.py` print.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from halfdrop.contracts.repeats import Repeat
from halfdrop.models.house.gates.contours import measure_contours
from halfdrop.models.house.gates.drawing import draw_float32
from halfdrop.models.house.gates.findings import Finding
from halfdrop.models.house.gates.goals import Figures
from halfdrop.models.house.gates.likenesses import Library
from halfdrop.models.house.gates.lines import ThinLines, count_broken_lines
from halfdrop.models.house.gates.novelty import first_tiles, nearest_distance, shares_by, worst_of
from halfdrop.models.house.gates.similarity import box_shrink, psnr_db, ssim
from halfdrop.models.house.kinds.catalogue import FREE_FORMS
from halfdrop.models.house.settings import TrainingSettings
from halfdrop.models.renderer import compose_tile
from halfdrop.models.seams import seam_ratio

PREVIEW_PX, MASTER_TIMES = 256, 4
"""Sizes of previews, and how much larger the masters are that they are held against."""
UNIT_PX = 192
"""The picture of one unit in which INT8 is held against float32."""
TILES_SEED = 20261122
"""Of the tiles that drawn ones are held against, beside the recipe's own first."""


def measure_kinds(findings: Sequence[Finding]) -> Figures:
    """Return how often the judge, trained on data alone, takes a unit for the kind asked for.

    "kind_accuracy" is over all prompts, "_grammar" and "_list" over those from the grammar's held-out combinations and
    over those that people wrote. "_worst" is over kinds, both sources together. "_of_data" is the judge's own limit:
    how often it is right about exact units.
    """
    right = [(each.asked, each.kind == each.asked.kind) for each in findings]
    by_kind = shares_by((asked.kind, is_right) for asked, is_right in right)
    by_source = shares_by((asked.source, is_right) for asked, is_right in right)
    worst, worst_share = worst_of(by_kind)
    blank = [all(field.max() <= 0 for field in each.drawn.fields) for each in findings]
    return {
        "kind_accuracy": _mean([is_right for _, is_right in right]),
        **{f"kind_accuracy_{source}": round(share, 4) for source, share in by_source.items()},
        "kind_accuracy_worst": round(worst_share, 3),
        "kind_worst": worst,
        "blank_share": _mean(blank),
        "by_kind": {name: round(share, 3) for name, share in by_kind.items()},
    }


def measure_answers(findings: Sequence[Finding]) -> Figures:
    """Return the share of attributes that pictures show as asked, by attribute and by colour, and the fairness.

    Fair is what no kind and no colour is left behind in: the gap between the whole and the worst of each.
    """
    answers = [answer for each in findings for answer in each.answers]
    overall = _mean([answer.is_right for answer in answers])
    by_kind = shares_by((each.asked.kind, answer.is_right) for each in findings for answer in each.answers)
    by_colour = shares_by((answer.colour, answer.is_right) for answer in answers if answer.colour)
    by_source = shares_by((each.asked.source, answer.is_right) for each in findings for answer in each.answers)
    (kind, of_kind), (colour, of_colour) = worst_of(by_kind), worst_of(by_colour)
    by_attribute = shares_by((answer.attribute, answer.is_right) for answer in answers)
    return {
        "attribute_accuracy": overall,
        **{f"attribute_accuracy_{source}": round(share, 4) for source, share in by_source.items()},
        "by_attribute": {name: round(share, 4) for name, share in by_attribute.items()},
        "fairness": {
            "attribute_worst_kind": kind,
            "attribute_worst_kind_gap": round(overall - of_kind, 4),
            "colour_worst": colour,
            "colour_worst_gap": round(overall - of_colour, 4),
        },
        "by_colour": {name: round(share, 3) for name, share in by_colour.items()},
    }


def measure_shapes(findings: Sequence[Finding]) -> Figures:
    """Return how true the shapes of ruled kinds are, masters' and previews'.

    "contour_error": median over units of the median distance, in 1/1000 of the unit, between a master's contours and
    those of the true motif it is most like; "_p90" is the 90th percentile of units. "broken_lines": the share of the
    true motifs' thin lines that are interrupted in masters. "_preview": the same of the plates as drawn. "_of_data":
    the same of the exact units that the grammar's prompts describe, drawn at 64: the measure's own limit.
    """
    found = [(each, each.true) for each in findings if each.true]
    masters = [measure_contours(each.drawn.master, true) for each, true in found]
    lines = [count_broken_lines(each.drawn.master, true) for each, true in found]
    medians = [each.median for each in masters]
    of_kinds: dict[str, list[float]] = {}
    for (each, _), median in zip(found, medians, strict=True):
        of_kinds.setdefault(each.asked.kind, []).append(median)
    figures: Figures = {
        "contour_error": round(float(np.median(medians)), 3),
        "contour_error_p90": round(float(np.quantile(medians, 0.9)), 3),
        "contour_error_worst_tenth": round(float(np.median([each.p90 for each in masters])), 3),
        "broken_lines": _broken_share(lines),
        "thin_lines": sum(each.lines for each in lines),
        "contour_error_by_kind": {kind: round(float(np.median(values)), 2) for kind, values in of_kinds.items()},
    }
    if any(each.drawn.is_refined for each, _ in found):
        previews = [measure_contours(each.drawn.fields, true).median for each, true in found]
        broken = [count_broken_lines(each.drawn.fields, true) for each, true in found]
        figures["contour_error_preview"] = round(float(np.median(previews)), 3)
        figures["broken_lines_preview"] = _broken_share(broken)
    return figures


def measure_seams(findings: Sequence[Finding]) -> Figures:
    """Return the 95th percentile of `seams.seam_ratio` over every prompt's own repeat, previews and masters together.

    Every kind is asked for in every repeat by turns. Exact drawings have 1.01.
    """
    ratios: dict[str, list[float]] = {"preview": [], "master": []}
    by_layout: dict[str, list[float]] = {}
    for each in findings:
        repeat, palette = each.asked.repeat, each.drawn.palette
        sizes = (("preview", each.drawn.fields, PREVIEW_PX), ("master", each.drawn.master, PREVIEW_PX * MASTER_TIMES))
        for what, fields, size_px in sizes:
            ratio = seam_ratio(compose_tile(fields, palette, repeat, size_px), fields, palette, repeat)
            ratios[what].append(ratio)
            by_layout.setdefault(repeat.layout, []).append(ratio)
    both = ratios["preview"] + ratios["master"]
    return {
        "seam_ratio_p95": _quantile(both, 0.95),
        "seam_ratio_worst": _quantile(both, 1.0),
        "seam_ratio_p95_preview": _quantile(ratios["preview"], 0.95),
        "seam_ratio_p95_master": _quantile(ratios["master"], 0.95),
        "seam_ratio_p95_by_layout": {layout: _quantile(values, 0.95) for layout, values in by_layout.items()},
    }


def measure_int8(bundle: Path, findings: Sequence[Finding]) -> Figures:
    """Return how near the INT8 files' pictures are to the float32 student's from the same noise: median, and p5."""
    values = []
    for each, (fields, palette) in zip(findings, draw_float32(bundle, [each.asked for each in findings]), strict=True):
        ours = compose_tile(each.drawn.raw, each.drawn.palette, Repeat(units=1), UNIT_PX)
        theirs = compose_tile(fields, palette, Repeat(units=1), UNIT_PX)
        values.append(psnr_db(ours, theirs))
    return {"int8_psnr_db": round(float(np.median(values)), 2), "int8_psnr_db_p5": _quantile(values, 0.05)}


def measure_promise(findings: Sequence[Finding]) -> Figures:
    """Return the SSIM of previews with their masters, composed four times as large and averaged down.

    "preview_master": with masters as they are delivered; "preview_unrefined": with masters of the preview's own fields.
    """
    refined, unrefined = [], []
    for each in findings:
        repeat, palette = each.asked.repeat, each.drawn.palette
        preview = compose_tile(each.drawn.fields, palette, repeat, PREVIEW_PX)
        plain = box_shrink(compose_tile(each.drawn.fields, palette, repeat, PREVIEW_PX * MASTER_TIMES), PREVIEW_PX)
        unrefined.append(ssim(preview, plain))
        if each.drawn.is_refined:
            master = compose_tile(each.drawn.master, palette, repeat, PREVIEW_PX * MASTER_TIMES)
            refined.append(ssim(preview, box_shrink(master, PREVIEW_PX)))
        else:
            refined.append(unrefined[-1])
    return {
        "preview_master_ssim_p50": round(float(np.median(refined)), 4),
        "preview_master_ssim_worst": round(min(refined), 4),
        "preview_unrefined_ssim_p50": round(float(np.median(unrefined)), 4),
        "preview_unrefined_ssim_worst": round(min(unrefined), 4),
    }


def measure_novelty(findings: Sequence[Finding]) -> Figures:
    """Return the distance of free forms to the nearest of N training tiles of their kind, over that of exact new ones.

    About 1: as new as the data's own next tile; far below: copies. The tiles are the recipe's first ones, to the last
    bit, and as many again and more like them. Ruled kinds have a few numbers to vary and are near some tile by nature,
    so they say nothing here.
    """
    library, shown = Library(TILES_SEED), first_tiles(TrainingSettings())
    tiles = {kind: torch.cat([shown[kind], library.pool(kind, None).plates]) for kind in FREE_FORMS}
    drawn, fresh = [], []
    for each in findings:
        if each.asked.kind in FREE_FORMS and each.asked.plates is not None:
            drawn.append(nearest_distance(torch.from_numpy(each.drawn.fields), tiles[each.asked.kind]))
            fresh.append(nearest_distance(each.asked.plates, tiles[each.asked.kind]))
    return {
        "novelty": round(float(np.median(drawn)) / float(np.median(fresh)), 3),
        "novelty_distance_p50": round(float(np.median(drawn)), 4),
        "novelty_distance_least": round(min(drawn), 4),
        "novelty_distance_of_data_p50": round(float(np.median(fresh)), 4),
        "novelty_tiles": sum(len(plates) for plates in tiles.values()),
    }


def _broken_share(lines: Sequence[ThinLines]) -> float:
    return round(sum(each.broken for each in lines) / max(1, sum(each.lines for each in lines)), 4)


def _mean(values: Sequence[bool]) -> float:
    return round(sum(values) / max(1, len(values)), 4)


def _quantile(values: Sequence[float], share: float) -> float:
    return round(float(np.quantile(values, share)), 3)
