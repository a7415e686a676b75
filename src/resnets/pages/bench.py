"""The page of `resnets bench predict`: accuracy against latency, and the figures behind it."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from resnets.pages.charts import HEIGHT, LEFT, TOP, WIDTH
from resnets.pages.shell import page, section, table

LETTER = 6.6  # about the width of a letter, at the size of a chart's text
Box = tuple[float, float, float, float]  # left, top, right, bottom


def prediction_page(document: Mapping[str, Any]) -> str:
    """A self-contained HTML page of a `bench predict` document."""
    rows, where = document["rows"], document["machine"]
    head = ["way", "latency, ms", "images/s", "batch", "top-1", "images"]
    cells = [
        (row["name"], row["latency_ms"], row["images_per_second"], row["batch"],
         "" if row["top1"] is None else f"{row['top1']:.2%}", row["images"] or "")
        for row in rows
    ]  # fmt: skip
    lead = f"{where['processor']}, {where['cores']} cores. Ready crops; decoding is the same for every way."
    title = "Speed" if any(row["top1"] is None for row in rows) else "Accuracy"
    return page("How fast, and how good", lead, section(f"{title} against latency", _plot(rows)),
                section("The figures", table(head, cells)))  # fmt: skip


def _plot(rows: Sequence[Mapping[str, Any]]) -> str:
    """A point a way: to the left is faster, above is better. Without accuracy, images a second against latency."""
    value, said, what = "top1", "{:.1%}", "top-1"
    if any(row["top1"] is None for row in rows):
        value, said, what = "images_per_second", "{:.0f}", "images/s"
    ys = [row[value] for row in rows]
    margin = (max(ys) - min(ys)) * 0.15 or abs(max(ys)) * 0.05 or 1.0
    most, low, high = max(row["latency_ms"] for row in rows) * 1.15, min(ys) - margin, max(ys) + margin
    bottom, right = HEIGHT - 36, WIDTH - 8

    def text(x: float, y: float, anchor: str, words: str, ink: str = "") -> str:
        return f'<text {ink}x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'

    body = [text(LEFT, 14, "start", f"{what} by milliseconds an image")]
    for share in (0.0, 0.5, 1.0):
        x, y = LEFT + share * (right - LEFT), bottom - share * (bottom - TOP)
        body.append(f'<line class="frame" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        body.append(text(LEFT - 4, y + 4, "end", said.format(low + share * (high - low))))
        body.append(text(x, bottom + 16, "end" if share == 1 else "middle", f"{share * most:.3g}"))
    points = [
        (LEFT + row["latency_ms"] / most * (right - LEFT), bottom - (row[value] - low) / (high - low) * (bottom - TOP))
        for row in rows
    ]
    body += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="var(--a)"/>' for x, y in points]
    for (x, y, anchor), row in zip(_labels(points, [row["name"] for row in rows], right), rows, strict=True):
        body.append(text(x, y, anchor, row["name"], 'class="ink" '))
    return f'<div style="max-width:760px"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(body)}</svg></div>'


def _labels(points: Sequence[tuple[float, float]], names: Sequence[str], right: float) -> list[tuple[float, float, str]]:
    """Where each point's name stands, (x, y, anchor): beside it, above or below, clear of other names and points."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    placed = []
    for (x, y), name in zip(points, names, strict=True):
        wide = LETTER * len(name)
        tries = [(x0, y + down) for down in (4, -10, 18, -24, 32, -38, 46) for x0 in (x + 8, x - 8 - wide)]
        inside = [(x0, y0) for x0, y0 in tries if x0 >= LEFT and x0 + wide <= right and TOP + 8 <= y0 <= HEIGHT - 40]
        clear = (
            at for at in inside if not any(_overlap((at[0], at[1] - 10, at[0] + wide, at[1] + 3), box) for box in taken)
        )
        x0, y0 = next(clear, (inside or tries)[0])
        taken.append((x0, y0 - 10, x0 + wide, y0 + 3))
        placed.append((x0, y0, "start"))
    return placed


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
