"""The demand history as text: a row for each series with a line of its last day."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from halfdrop.deploy.cli_options import printable

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

BARS = " ▁▂▃▄▅▆▇█"
GAP = "·"
LINE_CHARS = 48


def demand_rows(frame: "pd.DataFrame", *, start: float, end: float) -> list[str]:
    """Return the table; a line is drawn from `start` to `end` (Unix seconds), as high as the series' own most."""
    minutes = round((end - start) / 60)
    header = (
        f"{'region':<10} {'class':<9} {'model':<16} {'tier':<7} {'requests':>9} {'GPU-h asked':>11} {'served':>8} "
        f"{'late':>7} {'wait':>7} {'boots':>5} {'GPUs':>6} {'gaps':>5}  demand, {_span(start, end)}"
    )
    rows = [header]
    keys = ["region", "class", "model", "tier"]
    for names, series in frame.groupby(keys, observed=True, sort=True):
        rows.append(_row([printable(str(name)) for name in names], series, start=start, minutes=minutes))
    return rows


def sparkline(values: "NDArray[np.float64]", *, chars: int = LINE_CHARS) -> str:
    """Return `values` as a line of bars, from zero to their largest; GAP where nothing is known."""
    line = []
    pieces = [piece for piece in np.array_split(values, chars) if len(piece)]
    means = np.array([piece[~np.isnan(piece)].mean() if (~np.isnan(piece)).any() else np.nan for piece in pieces])
    most = np.nanmax(means) if (~np.isnan(means)).any() else 0.0
    for mean in means:
        if np.isnan(mean):
            line.append(GAP)
        elif mean <= 0 or most <= 0:
            line.append(BARS[1] if most > 0 else "_")
        else:
            line.append(BARS[1 + min(7, int(mean / most * 7.999))])
    return "".join(line)


def _row(names: Sequence[str], series: "pd.DataFrame", *, start: float, minutes: int) -> str:
    places = (series["minute"].to_numpy().astype("datetime64[s]").astype(np.int64) - int(start)) // 60
    offered = np.full(minutes, np.nan)
    is_inside = (places >= 0) & (places < minutes)
    offered[places[is_inside]] = series["gpu_s_offered"].to_numpy()[is_inside] / 60
    requests = int(series["requests"].sum())
    late = f"{series['late'].sum() / requests:.1%}" if requests else "–"
    wait = f"{series['wait_s_sum'].sum() / requests:.1f}s" if requests else "–"
    replicas = series["replicas"].mean()
    region, job_class, model, tier = names
    return (
        f"{region:<10} {job_class:<9} {model:<16} {tier:<7} {requests:>9} "
        f"{series['gpu_s_offered'].sum() / 3600:>11.2f} {_or_dash(series['gpu_s_served'].sum(min_count=1) / 3600):>8} "
        f"{late:>7} {wait:>7} {int(series['cold_starts'].sum()):>5} {_or_dash(replicas):>6} "
        f"{int(np.isnan(offered).sum()):>5}  {sparkline(offered)}"
    )


def _or_dash(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}"


def _span(start: float, end: float) -> str:
    first, last = (datetime.fromtimestamp(at, UTC) for at in (start, end))
    return f"{first:%d %b %H:%M} to {last:%d %b %H:%M} UTC"
