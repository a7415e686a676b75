"""The HTML shell that every page shares: one self-contained file, light and dark, no script."""

from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1d2433; --soft: #667085; --line: #d9dee8; --paper: #fff;
  --card: #f6f8fb;
  --a: #2f6fde; --b: #d9622b; --good: #2e8b57; --bad: #c0392b; }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e6e9f0; --soft: #98a2b3; --line: #333b4a; --paper: #12161f;
  --card: #1a202c; --a: #7aa7f7; --b: #f0935f; --good: #6cc598; --bad: #ef8377; } }
body { font: 15px/1.5 system-ui, sans-serif;
  color: var(--ink); background: var(--paper); max-width: 1080px; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin-top: 2rem; } p.lead { color: var(--soft); }
.figures { display: flex; flex-wrap: wrap; gap: .8rem; }
.figure { background: var(--card); border-radius: 8px;
  padding: .6rem 1rem; }
.figure b { display: block; font-size: 1.4rem; } .figure span { color: var(--soft); font-size: .85rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(320px, 1fr)); gap: 1rem; }
table { border-collapse: collapse; font-size: .9rem; } td, th { padding: .2rem .8rem .2rem 0; text-align: left;
  border-bottom: 1px solid var(--line); } td.number { text-align: right; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; } svg { width: 100%; height: auto; } svg text { fill: var(--soft); font-size: 11px; }
svg text.ink { fill: var(--ink); }
svg .frame { stroke: var(--line); fill: none; } svg .a { stroke: var(--a); } svg .b { stroke: var(--b); }
svg .curve { fill: none; stroke-width: 2; } .key-a { color: var(--a); } .key-b { color: var(--b); }
code { background: var(--card); padding: .1rem .3rem; border-radius: 4px; }
"""


def page(title: str, lead: str, *sections: str, head: str = "") -> str:
    """A whole page: a title, a sentence under it, and sections of HTML; `head` is what its head has besides."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style>{head}</head>\n'
        f'<body><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>\n' + "\n".join(sections) + "\n</body></html>\n"
    )


def section(title: str, body: str) -> str:
    """A titled part of a page."""
    return f"<h2>{escape(title)}</h2>\n{body}"


def figures(items: Iterable[tuple[str, str]]) -> str:
    """Large numbers with what they are: (value, name)."""
    cards = (f'<div class="figure"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in items)
    return f'<div class="figures">{"".join(cards)}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; numbers are set to the right."""
    titles = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{titles}</tr>{body}</table></div>'


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f'<td class="number">{value:.4g}</td>'
    return f'<td class="number">{value:,}</td>' if isinstance(value, int) else f"<td>{escape(str(value))}</td>"
