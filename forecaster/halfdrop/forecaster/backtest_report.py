"""A backtest as one HTML page with plots in SVG: no library, no network, light and dark. Pure: a string comes out."""

from collections.abc import Sequence
from html import escape

from halfdrop.forecaster.backtest import FAN_QUANTILES, Backtest
from halfdrop.forecaster.calibration import QUANTILES

WIDTH, HEIGHT = 860, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 16, 34
STYLE = """
:root { color-scheme: light dark;
  --ink: #222; --soft: #767676; --line: #ddd; --page: #fff; --a: #0b63ce; --b: #d9480f; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #eee; --soft: #9a9a9a; --line: #3a3a3a; --page: #161616; --a: #6ea8fe; --b: #ff922b; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); margin: 2rem auto;
  max-width: 900px; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
svg { width: 100%; height: auto; } text { fill: var(--soft); font-size: 12px; }
table { border-collapse: collapse; } td, th { padding: .2rem .9rem .2rem 0; text-align: right; }
td:first-child, th:first-child { text-align: left; }
"""


def render_report(found: Backtest, *, title: str) -> str:
    """Return the page."""
    parts = [
        f"<h1>Backtest: {escape(title)}</h1>",
        f"<p>{found.days:.1f} days, each minute an origin; {found.gaps} minutes unknown.</p>",
        "<h2>Loss at q0.9 over that of the last value, by horizon</h2>",
        _bars([(f"{score.minutes_ahead} min", score.pinball_ratio) for score in found.horizons], mark=1.0),
        _table(
            ("minutes ahead", "loss, GPUs", "÷ last value", "mean error", *(f"q{level:g}" for level in QUANTILES)),
            [
                (
                    f"{score.minutes_ahead}",
                    f"{score.pinball:.3f}",
                    f"{score.pinball_ratio:.3f}",
                    f"{score.mean_error:+.3f}",
                    *(f"{share:.3f}" for share in score.covered),
                )
                for score in found.horizons
            ],
        ),
        "<h2>Coverage: what each quantile promised, and what came under it</h2>",
        _reliability(found),
        f"<h2>The last day, forecast {found.fan.minutes_ahead} minutes before</h2>",
        _fan_plot(found),
    ]
    if found.models:
        rows = [
            (score.model, f"{score.pinball:.3f}", f"{score.covered:.3f}", f"{score.mean_absolute_error:.3f}")
            for score in found.models
        ]
        parts.append(
            "<h2>An hour ahead, beside statsforecast's models (its cross-validation, conformal intervals)</h2>"
        )
        parts.append(_table(("model", "loss at q0.9", "covered", "mean absolute error"), rows))
    parts.append("<h2>What the hedge makes of each expert, at the farthest horizon</h2>")
    parts.append(_bars(list(found.weights.items()), mark=None))
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Backtest: {escape(title)}</title>'
        f"<style>{STYLE}</style>\n{body}\n</html>\n"
    )


def _bars(values: Sequence[tuple[str, float]], *, mark: float | None) -> str:
    most = max([value for _, value in values] + [mark or 0.0, 1e-9]) * 1.08
    step = (WIDTH - LEFT - RIGHT) / max(1, len(values))
    rows = []
    for place, (name, value) in enumerate(values):
        x = LEFT + step * (place + 0.2)
        y = _y(value, 0.0, most)
        rows.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{step * 0.6:.1f}" height="{_y(0, 0, most) - y:.1f}" '
            'fill="var(--a)"/>'
        )
        middle = LEFT + step * (place + 0.5)
        rows.append(f'<text x="{middle:.1f}" y="{y - 4:.1f}" text-anchor="middle">{value:.2f}</text>')
        rows.append(f'<text x="{middle:.1f}" y="{HEIGHT - 12}" text-anchor="middle">{escape(name)}</text>')
    if mark is not None:
        y = _y(mark, 0.0, most)
        rows.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--b)"/>')
        rows.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{mark:g}</text>')
    return _svg(rows, f"Bars: {', '.join(f'{name} {value:.2f}' for name, value in values)}")


def _reliability(found: Backtest) -> str:
    least = 0.45
    rows = [
        f'<line x1="{_x(least, least, 1)}" y1="{_y(least, least, 1)}" x2="{_x(1, least, 1)}" y2="{_y(1, least, 1)}" '
        'stroke="var(--line)"/>'
    ]
    for tick in (0.5, 0.75, 0.9, 1.0):
        rows.append(f'<text x="{_x(tick, least, 1):.1f}" y="{HEIGHT - 12}" text-anchor="middle">{tick:g}</text>')
        rows.append(f'<text x="{LEFT - 6}" y="{_y(tick, least, 1) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for number, score in enumerate(found.horizons):
        points = [(level, max(share, least)) for level, share in zip(QUANTILES, score.covered, strict=True)]
        opacity = 0.35 + 0.65 * (number + 1) / len(found.horizons)
        rows.append(_line([(_x(a, least, 1), _y(b, least, 1)) for a, b in points], "var(--a)", opacity=opacity))
    return _svg(rows, "Covered share against promised share, one line for each horizon; the diagonal is exact")


def _fan_plot(found: Backtest) -> str:
    fan = found.fan
    known = [value for value in fan.came if value is not None]
    most = max([*known, *fan.quantiles[-1], 1e-9]) * 1.05
    last = max(1, len(fan.came) - 1)
    rows = []
    for tick in range(5):
        value = most * tick / 4
        y = _y(value, 0, most)
        rows.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>')
        rows.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.0f}</text>')
    for number, values in enumerate(fan.quantiles):
        points = [(_x(at, 0, last), _y(value, 0, most)) for at, value in enumerate(values)]
        rows.append(_line(points, "var(--a)", opacity=1.0 - 0.3 * number))
    segment: list[tuple[float, float]] = []
    for at, come in enumerate([*fan.came, None]):
        if come is not None:
            segment.append((_x(at, 0, last), _y(come, 0, most)))
        elif segment:
            rows.append(_line(segment, "var(--b)", opacity=0.9))
            segment = []
    names = ", ".join(f"q{QUANTILES[index]:g}" for index in FAN_QUANTILES)
    rows.append(
        f'<text x="{LEFT}" y="{HEIGHT - 12}">orange: what came; blue: {names}. Mean GPUs, a minute each.</text>'
    )
    return _svg(rows, "Forecast quantiles and what came, over the last day")


def _x(value: float, least: float, most: float) -> float:
    return LEFT + (value - least) / (most - least) * (WIDTH - LEFT - RIGHT)


def _y(value: float, least: float, most: float) -> float:
    return HEIGHT - BOTTOM - (value - least) / (most - least) * (HEIGHT - TOP - BOTTOM)


def _line(points: list[tuple[float, float]], colour: str, *, opacity: float) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.3" opacity="{opacity:.2f}"/>'


def _svg(rows: list[str], label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(rows)}</svg>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    return f"<table><tr>{top}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
