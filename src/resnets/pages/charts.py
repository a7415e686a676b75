"""Charts as SVG: lines over steps, a reliability diagram, a confusion matrix. No library."""

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from resnets.words import number

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 420, 240, 52, 24, 28
STYLES = ("a", "b", "good")  # the colours of the curves of one chart, as the page names them
DOTS, WORDS = 15, 150  # a curve's points up to which each is drawn, and has words under the pointer
Curve = Sequence[tuple[float, float]]


def lines(
    title: str, curves: dict[str, Curve], percent: bool = False, zero: bool = False, mark: tuple[str, float] | None = None
) -> str:
    """Up to three curves of (x, y), with a key, over one pair of axes; "" where there is no point.

    Points that are no numbers are left out. With `zero` the axis begins at 0; `mark` names an x that is shown.
    """
    curves = {name: [point for point in curve if np.isfinite(point).all()] for name, curve in curves.items()}
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return ""
    (x0, y0), (x1, y1) = np.min(points, axis=0), np.max(points, axis=0)
    rungs = ticks(min(y0, 0.0), y1 or 1.0) if zero else ticks(y0, y1)
    y0, y1 = rungs[0], rungs[-1]
    x0, x1 = (x0, x1) if x1 > x0 else (x0 - 0.5, x1 + 0.5)

    def place(x: float, y: float) -> tuple[float, float]:
        across, down = (x - x0) / (x1 - x0) * (WIDTH - LEFT - 14), (y1 - y) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)
        return LEFT + across, TOP + down

    def said(value: float) -> str:
        return f"{100 * value:.3g}%" if percent else number(value)

    body = [_frame(title)]
    for value in rungs:
        _, y = place(x0, value)
        body.append(f'<line class="frame" x1="{LEFT}" x2="{WIDTH - 14}" y1="{y:.1f}" y2="{y:.1f}"/>')
        body.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{said(value)}</text>')
    for value in (x for x in ticks(x0, x1, 6) if x0 <= x <= x1 and x == round(x)):
        body.append(f'<text x="{place(value, y0)[0]:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{value:,.0f}</text>')
    if mark is not None and x0 <= mark[1] <= x1:
        x, _ = place(mark[1], y0)
        dashed = f'<line class="frame" stroke-dasharray="4 3" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"'
        body.append(f'{dashed} style="stroke:var(--soft)"><title>{escape(mark[0])}, {mark[1]:g}</title></line>')
    for style, (name, curve) in zip(STYLES, curves.items(), strict=False):
        body += _curve(style, name, [(x, y, *place(x, y)) for x, y in curve], percent)
    key = "".join(
        f'<span style="color:var(--{style});margin-right:.8rem">● {escape(name)}</span>'
        for style, name in zip(STYLES, curves if len(curves) > 1 else (), strict=False)
    )
    if mark is not None:
        key += f'<span style="color:var(--soft)">┆ {escape(mark[0])}</span>'
    return f'<div><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(body)}</svg><div>{key}</div></div>'


def _curve(style: str, name: str, points: Sequence[tuple[float, float, float, float]], percent: bool) -> list[str]:
    """A curve of (x, y, across, down), and what the pointer finds on it; few points are seen, too many have no words."""
    path = " ".join(f"{across:.1f},{down:.1f}" for _, _, across, down in points)
    colour = f"var(--{style})"
    drawn = [f'<polyline class="curve" style="stroke:{colour}" points="{path}"/>']
    few = len(points) <= DOTS
    for x, y, across, down in points if len(points) <= WORDS else ():
        words = f"{x:,g}: {escape(name)} {f'{y:.2%}' if percent else f'{y:.5g}'}"
        look = f'r="3" fill="{colour}"' if few else 'r="5" fill="transparent"'
        drawn.append(f'<circle cx="{across:.1f}" cy="{down:.1f}" {look}><title>{words}</title></circle>')
    return drawn


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers, evenly spaced, the first at most `low` and the last at least `high`: about `count` steps of them."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        margin = abs(high) * 0.1 or 0.5
        low, high = low - margin, high + margin
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.9)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def reliability(bins: Sequence[tuple[float, float, int]]) -> str:
    """Accuracy against confidence in each bin: on the diagonal, a score of 80% is right 80% of the time."""
    side = HEIGHT - TOP - BOTTOM
    body = [_frame("accuracy by confidence")]
    body.append(f'<line class="frame" x1="{LEFT}" y1="{TOP + side}" x2="{LEFT + side}" y2="{TOP}"/>')
    for sure, right, count in bins:
        x, y = LEFT + sure * side, TOP + (1 - right) * side
        said = f"confidence {sure:.0%}, right {right:.0%}, {count} images"
        body.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="var(--a)"><title>{said}</title></circle>')
    for share in (0, 0.5, 1):
        body.append(f'<text x="{LEFT - 4}" y="{TOP + (1 - share) * side + 4:.1f}" text-anchor="end">{share:.0%}</text>')
        body.append(f'<text x="{LEFT + share * side:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{share:.0%}</text>')
    return f'<div><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(body)}</svg></div>'


def matrix(counts: np.ndarray, names: Sequence[str]) -> str:
    """A confusion matrix: a row a true class, a column a predicted one, shaded by the row's share."""
    longest = max(len(name[:16]) for name in names)
    cell, left, top = 30, 16 + 7 * longest, 20 + 6 * longest
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    body = []
    for i, name in enumerate(names):
        y = top + i * cell
        body.append(f'<text x="{left - 6}" y="{y + 19}" text-anchor="end">{escape(name[:16])}</text>')
        turn = f"rotate(-60 {left + i * cell + 16} {top - 6})"
        body.append(f'<text x="{left + i * cell + 16}" y="{top - 6}" transform="{turn}">{escape(name[:16])}</text>')
        for j, other in enumerate(names):
            colour = "var(--good)" if i == j else "var(--bad)"
            said = f"{name} called {other}: {counts[i, j]}"
            body.append(
                f'<rect x="{left + j * cell}" y="{y}" width="{cell - 1}" height="{cell - 1}" fill="{colour}" '
                f'fill-opacity="{0.03 + 0.5 * shares[i, j]:.2f}"><title>{escape(said)}</title></rect>'
            )
            if counts[i, j]:
                body.append(
                    f'<text class="ink" x="{left + j * cell + 15}" y="{y + 19}" text-anchor="middle">{counts[i, j]}</text>'
                )
    size = len(names) * cell
    box = f'viewBox="0 0 {left + size + 40} {top + size + 4}" style="max-width:{left + size + 40}px"'
    return f'<div class="scroll"><svg {box} role="img">{"".join(body)}</svg></div>'


def _frame(title: str) -> str:
    return f'<text x="{LEFT}" y="14">{escape(title)}</text>'
