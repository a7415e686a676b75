"""The page of `resnets bench predict`: accuracy against latency, and the figures behind it."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from resnets.pages.charts import HEIGHT, LEFT, TOP, WIDTH
from resnets.pages.shell import page, section, table


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
    for row in rows:
        x = LEFT + row["latency_ms"] / most * (right - LEFT)
        y = bottom - (row[value] - low) / (high - low) * (bottom - TOP)
        anchor, shift = ("end", -8) if x > (LEFT + right) * 0.6 else ("start", 8)
        body.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="var(--a)"/>')
        body.append(text(x + shift, y + 4, anchor, row["name"], 'class="ink" '))
    return f'<div style="max-width:760px"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(body)}</svg></div>'
