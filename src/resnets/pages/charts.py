"""Charts as SVG: lines over steps, a reliability diagram, a confusion matrix. No library."""

from collections.abc import Sequence
from html import escape

import numpy as np

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 420, 240, 44, 24, 28
Curve = Sequence[tuple[float, float]]


def lines(title: str, curves: dict[str, Curve], percent: bool = False) -> str:
    """Up to two curves of (x, y), with a key, over one pair of axes."""
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return ""
    (x0, y0), (x1, y1) = np.min(points, axis=0), np.max(points, axis=0)
    y0, y1 = (y0, y1) if y1 > y0 else (y0 - 0.5, y1 + 0.5)
    x0, x1 = (x0, x1) if x1 > x0 else (x0 - 0.5, x1 + 0.5)

    def place(x: float, y: float) -> str:
        across, down = (x - x0) / (x1 - x0) * (WIDTH - LEFT - 8), (y1 - y) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)
        return f"{LEFT + across:.1f},{TOP + down:.1f}"

    body = [_frame(title)]
    for value in np.linspace(y0, y1, 5):
        _, y = place(x0, value).split(",")
        said = f"{value:.1%}" if percent else _short(value)
        body.append(f'<line class="frame" x1="{LEFT}" x2="{WIDTH - 8}" y1="{y}" y2="{y}"/>')
        body.append(f'<text x="{LEFT - 4}" y="{float(y) + 4:.1f}" text-anchor="end">{said}</text>')
    for value in (x0, x1):
        x, _ = place(value, y0).split(",")
        body.append(f'<text x="{x}" y="{HEIGHT - 10}" text-anchor="{"start" if value == x0 else "end"}">{value:g}</text>')
    for style, (name, curve) in zip("ab", curves.items(), strict=False):
        path = " ".join(place(x, y) for x, y in curve)
        body.append(f'<polyline class="curve {style}" points="{path}"><title>{escape(name)}</title></polyline>')
    key = " ".join(f'<span class="key-{style}">● {escape(name)}</span>' for style, name in zip("ab", curves, strict=False))
    return f'<div><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(body)}</svg><div>{key}</div></div>'


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


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.4f}"


def _frame(title: str) -> str:
    return f'<text x="{LEFT}" y="14">{escape(title)}</text>'
