"""The report of a training run: curves, figures, what happened, and what the run was. It grows while training goes on."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np

from resnets.metrics import interval
from resnets.pages.charts import Curve, lines, matrix
from resnets.pages.shell import figures, page, section, table
from resnets.words import bytes_said, duration

REFRESH = 15  # seconds until the page of a run that isn't finished looks again
RECENT = 5  # epochs whose pace says how long the others will take
Rows = Sequence[Mapping[str, Any]]

STYLE = """
.bar { background: var(--card); border-radius: 6px; height: 10px; overflow: hidden; margin: .2rem 0 1rem; }
.bar div { background: var(--a); height: 100%; }
.fields { columns: 300px; column-gap: 2rem; font-size: .88rem; }
.fields div { display: flex; justify-content: space-between; gap: 1rem; break-inside: avoid; padding: .15rem 0;
  border-bottom: 1px solid var(--line); }
.fields span { color: var(--soft); } .fields b { font-weight: 500; text-align: right; overflow-wrap: anywhere; }
.events { list-style: none; padding: 0; font-size: .9rem; } .events li { padding: .2rem 0; }
.events time { color: var(--soft); margin-right: .8rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
img.batch { max-width: 100%; height: auto; border-radius: 8px; border: 1px solid var(--line); }
.charts > div { min-width: 0; font-size: .88rem; } .charts svg text { font-size: 12.5px; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(138px, 1fr)); }
.figure { padding: .6rem .8rem; } .figure:first-child { grid-column: span 2; }
.figure b { font-size: 1.3rem; white-space: nowrap; }
@media (max-width: 700px) { .charts { grid-template-columns: 1fr; } }
"""


class Watched(NamedTuple):
    """What a page shows of a run beyond its epochs."""

    finished: bool = True
    epochs: float = 0  # of the whole run; 0 where it isn't known
    left: float | None = None  # seconds until its end; None: as the last epochs went
    events: Rows = ()  # "event", "said" and, where it is known, "at"
    confusion: Mapping[str, Any] | None = None  # "epoch", and "classes" with "counts", or "pairs" of (is, called, images)
    batch: bytes = b""  # a PNG of images as the network saw them
    written: str = ""  # when


FINISHED = Watched()


def training_page(
    data: str, model: str, rows: Rows, decided: Mapping[str, Any], unreadable: Rows, watched: Watched = FINISHED
) -> str:
    """A self-contained HTML page of a run's epochs (the lines of log.jsonl); it reloads itself unless it is finished."""
    measured = [row for row in rows if "val_top1" in row]
    best = max(measured, key=lambda row: (row["val_top1"], -row["val_loss"]), default=None)
    parts = [] if watched.finished else [_bar(rows, watched)]
    if rows:
        parts.append(_figures(best, rows, watched))
        parts.append(section("Curves", f'<div class="charts">{"".join(_charts(rows, measured, best))}</div>'))
    else:
        parts.append("<p>Nothing measured yet: the first figures come with the end of the first epoch.</p>")
    if watched.confusion is not None:
        parts.append(_confusion(watched.confusion))
    if watched.batch:
        picture = base64.b64encode(watched.batch).decode()
        image = (
            f'<img class="batch" alt="augmented training images, with their classes" src="data:image/png;base64,{picture}">'
        )
        parts.append(section("A batch as the network saw it", image))
    if watched.events:
        parts.append(section("What happened", _events(watched.events)))
    if unreadable:
        listed = table(["path", "why"], [(row["path"], row["reason"]) for row in unreadable])
        parts.append(section(f"Images that couldn't be read ({len(unreadable)})", listed))
    for name in ("recipe", "preprocessing"):
        parts.append(section(name.capitalize(), _fields(decided[name])))
    lead = "A training run of resnets: what it learned, how it went, and how it was set."
    if not watched.finished:
        at = f"; written {watched.written}" if watched.written else ""
        lead = f"Not finished{at}. This page looks again every {REFRESH} seconds until it is."
    head = f"<style>{STYLE}</style>"
    if not watched.finished:
        head = f'<meta http-equiv="refresh" content="{REFRESH}">{head}'
    return page(f"{model} on {data}", lead, *parts, head=head)


def _bar(rows: Rows, watched: Watched) -> str:
    """How far a run is that isn't finished."""
    done = rows[-1]["epoch"] if rows else 0
    if not watched.epochs:
        return f"<p>{done} epochs so far.</p>"
    share = min(1.0, done / watched.epochs)
    said = f"{done} of {watched.epochs:g} epochs"
    return f'<p style="margin-bottom:0">{said}</p><div class="bar"><div style="width:{share:.1%}"></div></div>'


def remaining(rows: Rows, watched: Watched) -> float | None:
    """Seconds until the end, as the last epochs went; None where nothing says."""
    if watched.left is not None:
        return watched.left
    timed = [(row["epoch"], row["seconds"]) for row in rows if "seconds" in row]
    if not timed or not watched.epochs:
        return None
    then = timed[-RECENT - 1] if len(timed) > RECENT else (0, 0.0)
    epochs, seconds = timed[-1][0] - then[0], timed[-1][1] - then[1]
    return max(0.0, watched.epochs - timed[-1][0]) * seconds / epochs if epochs > 0 else None


def _figures(best: Mapping[str, Any] | None, rows: Rows, watched: Watched) -> str:
    last = rows[-1]
    if best is None:
        cards = [(f"{last['train_top1']:.2%}", "top-1 on the training images, augmented"),
                 (str(last["epoch"]), "epochs"), ("none", "images held out to measure on")]  # fmt: skip
    else:
        said = "top-1, measured"
        if "val_images" in best:
            low, high = interval(best["val_top1"], best["val_images"])
            said = f"top-1 on {best['val_images']:,} images that didn't train; 95% interval {low:.1%} – {high:.1%}"
        cards = [(f"{best['val_top1']:.2%}", said)]
        if "val_ece" in best:
            cards.append((f"{best['val_ece']:.3f}", "expected calibration error"))
        cards.append((f"{best['epoch']} of {last['epoch']}", "best epoch" + ("" if watched.finished else " so far")))
    if "seconds" in last:
        cards.append((duration(last["seconds"]), "of training" + ("" if watched.finished else " so far")))
    if not watched.finished and (left := remaining(rows, watched)) is not None:
        cards.append((duration(left), "left, about"))
    if last.get("memory"):
        cards.append((bytes_said(last["memory"]), "memory at most"))
    return figures(cards)


def _charts(rows: Rows, measured: Rows, best: Mapping[str, Any] | None) -> list[str]:
    def curve(name: str, source: Rows = rows, scale: float = 1.0) -> Curve:
        return [(row["epoch"], row[name] / scale) for row in source if row.get(name) is not None]

    loss, top1 = {"training": curve("train_loss")}, {"training": curve("train_top1")}
    if measured:
        loss["measured"], top1["measured"] = curve("val_loss", measured), curve("val_top1", measured)
    mark = ("best", best["epoch"]) if best else None
    longest = max((row["seconds"] for row in rows if "seconds" in row), default=0.0)
    per, unit = (3600.0, "hours") if longest >= 7200 else (60.0, "minutes") if longest >= 120 else (1.0, "seconds")
    most = max((row["memory"] for row in rows if row.get("memory")), default=0)
    size, word = (1e9, "GB") if most >= 1e9 else (1e6, "MB")
    return [
        lines("loss, by epoch", loss, mark=mark),
        lines("top-1, by epoch", top1, percent=True, mark=mark),
        lines("learning rate, by epoch", {"learning rate": curve("learning_rate")}, zero=True),
        lines("images a second, by epoch", {"images/s": curve("images_per_second")}, zero=True),
        lines("share of the time spent waiting for data, by epoch", {"waiting": curve("waiting")}, percent=True, zero=True),
        lines(f"time of training, {unit}, by epoch", {unit: curve("seconds", rows, per)}, zero=True),
        lines(f"memory at most, {word}, by epoch", {word: curve("memory", rows, size)}, zero=True),
    ]


def _confusion(confusion: Mapping[str, Any]) -> str:
    """What the best epoch called what: every class, or the pairs that are most confused."""
    title = f"What is called what, epoch {confusion['epoch']}"
    if "counts" in confusion:
        said = "<p>A row is what images are, a column what they were called.</p>"
        return section(title, said + matrix(np.array(confusion["counts"], np.int64), confusion["classes"]))
    if not confusion["pairs"]:
        return section(title, "<p>No image was called another class than its own.</p>")
    return section(f"Most confused, epoch {confusion['epoch']}", table(["is", "called", "images"], confusion["pairs"]))


def _events(events: Rows) -> str:
    """A list, the first event first."""
    said = [(str(row.get("at", "")), f"{row['event']}: {row['said']}") for row in events]
    items = "".join(f"<li><time>{escape(at)}</time>{escape(words)}</li>" for at, words in said)
    return f'<ul class="events">{items}</ul>'


def _fields(values: Mapping[str, Any]) -> str:
    """Names and values, in as many columns as there is room for."""
    pairs = "".join(
        f"<div><span>{escape(name)}</span><b>{escape(_value(value))}</b></div>" for name, value in values.items()
    )
    return f'<div class="fields">{pairs}</div>'


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_value(part) for part in value) or "–"
    return "–" if value is None or value == "" else f"{value:g}" if isinstance(value, float) else str(value)
