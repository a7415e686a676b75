"""The report of a training run: curves, figures, and what the run was."""

from collections.abc import Mapping, Sequence
from typing import Any

from resnets.metrics import interval
from resnets.pages.charts import Curve, lines
from resnets.pages.shell import figures, page, section, table


def training_page(
    data: str,
    model: str,
    rows: Sequence[Mapping[str, Any]],
    decided: Mapping[str, Any],
    unreadable: Sequence[Mapping[str, Any]],
) -> str:
    """A self-contained HTML page of a run's epochs (the lines of log.jsonl)."""
    measured = [row for row in rows if "val_top1" in row]
    best = max(measured, key=lambda row: (row["val_top1"], -row["val_loss"]), default=None)
    parts = [_figures(best, rows)]
    parts.append(section("Curves", f'<div class="charts">{"".join(_charts(rows, measured))}</div>'))
    if unreadable:
        listed = table(["path", "why"], [(row["path"], row["reason"]) for row in unreadable])
        parts.append(section(f"Images that couldn't be read ({len(unreadable)})", listed))
    for name in ("recipe", "preprocessing"):
        parts.append(
            section(
                name.capitalize(), table(["field", "value"], [(key, str(value)) for key, value in decided[name].items()])
            )
        )
    return page(f"{model} on {data}", "A training run of resnets: what it learned, how it went, and how it was set.", *parts)


def _figures(best: Mapping[str, Any] | None, rows: Sequence[Mapping[str, Any]]) -> str:
    if best is None:
        last = rows[-1] if rows else {"train_top1": 0.0, "epoch": 0}
        return figures([(f"{last['train_top1']:.2%}", "top-1 on the training images, augmented"),
                        (str(last["epoch"]), "epochs"), ("none", "images held out to measure on")])  # fmt: skip
    low, high = interval(best["val_top1"], best["val_images"])
    return figures([
        (f"{best['val_top1']:.2%}", f"top-1 on {best['val_images']:,} images that didn't train"),
        (f"{low:.1%} – {high:.1%}", "its 95% interval"),
        (f"{best['val_ece']:.3f}", "expected calibration error"),
        (f"{best['epoch']} of {rows[-1]['epoch']}", "best epoch"),
    ])  # fmt: skip


def _charts(rows: Sequence[Mapping[str, Any]], measured: Sequence[Mapping[str, Any]]) -> list[str]:
    def curve(name: str, source: Sequence[Mapping[str, Any]] = rows) -> Curve:
        return [(row["epoch"], row[name]) for row in source]

    loss, top1 = {"training": curve("train_loss")}, {"training": curve("train_top1")}
    if measured:
        loss["measured"], top1["measured"] = curve("val_loss", measured), curve("val_top1", measured)
    return [
        lines("loss, by epoch", loss),
        lines("top-1, by epoch", top1, percent=True),
        lines("learning rate, by epoch", {"learning rate": curve("learning_rate")}),
        lines("images a second, by epoch", {"images/s": curve("images_per_second")}),
    ]
