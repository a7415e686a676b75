"""What the verbs print for a person: tables on the terminal."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from resnets.complexity import Layer
from resnets.words import bytes_said

if TYPE_CHECKING:
    from resnets.data.health import Health

SHOWN_CLASSES, SHOWN_PROBLEMS, SHOWN_PATHS = 40, 5, 5  # of a dataset's health
RIGHT = ("layers", "parameters", "multiply-adds", "paper", "weights")  # columns of numbers


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")


def console() -> Console:
    """Standard output, wide enough for a table where it isn't a terminal."""
    return Console(width=None if sys.stdout.isatty() else 140, highlight=False)


def show_table(rows: Sequence[dict[str, Any]], every: bool) -> None:
    """Table 1: the layers and output sizes of the five networks; or all named networks in a row each."""
    if every:
        table = Table(title="Every named network, at its paper's input size")
        for name in ("name", "layers", "blocks", "shortcut", "input", "parameters", "multiply-adds", "paper", "weights"):
            table.add_column(name, justify="right" if name in RIGHT else "left", no_wrap=name == "name")
        for row in rows:
            said = (row["paper_flops"] and f"{row['paper_flops'] / 1e9:.1f}e9") or (row["paper_parameters"] and _short(row))
            blocks = f"{row['block']} {','.join(map(str, row['blocks']))}"
            size = "×".join(str(side) for side in row["input"][1:])
            table.add_row(row["name"], str(row["depth"]), blocks, row["shortcut"], size, f"{row['parameters']:,}",
                          f"{row['macs']:,}", said or "", str(len(row["pretrained"]) or ""))  # fmt: skip
        console().print(table)
        print("weights: how many pretrained ones convert and train --init fetch by name; --json lists them")
        return
    table = Table(title="Table 1 of the paper, 224×224 input", show_lines=True)
    table.add_column("stage")
    table.add_column("output")
    for row in rows:
        table.add_column(row["name"])
    table.add_row("conv1", _size(rows[0]["stem_output"]), *["7×7, 64, stride 2"] * len(rows))
    for index, stage in enumerate(rows[0]["stage_outputs"]):
        cells = [_stage(row, index, stage) for row in rows]
        table.add_row(f"conv{index + 2}_x", _size(rows[0]["stage_outputs"][stage]), *cells)
    table.add_row("head", "1×1", *["average pool, 1000-d fc"] * len(rows))
    table.add_row("parameters", "", *[f"{row['parameters']:,}" for row in rows])
    table.add_row("multiply-adds", "", *[f"{row['macs']:,}" for row in rows])
    table.add_row("the paper's FLOPs", "", *[f"{row['paper_flops'] / 1e9:.1f}e9" for row in rows])
    console().print(table)


def show_layers(title: str, layers: Sequence[Layer], channels: int, size: int, facts: Sequence[tuple[str, str]]) -> None:
    """Every layer of a network, and what else is known of it."""
    table = Table(title=title)
    for name in ("layer", "what", "output", "parameters", "multiply-adds"):
        table.add_column(name, justify="right" if name in ("parameters", "multiply-adds") else "left")
    table.add_row("input", "", f"[{channels}, {size}, {size}]", "", "", style="dim")
    for layer in layers:
        what = " ".join(filter(None, (layer.kind.replace("_", " "), layer.detail)))
        shape = str(list(layer.output))
        numbers = [f"{count:,}" if count else "" for count in (layer.parameters, layer.macs)]
        table.add_row(layer.name, what, shape.replace("[", r"\["), *numbers)
    table.add_section()
    total = [f"{sum(getattr(layer, name) for layer in layers):,}" for name in ("parameters", "macs")]
    table.add_row("in all", "", "", *total, style="bold")
    out = console()
    out.print(table)
    for name, value in facts:
        out.print(f"{name}: {value}", markup=False)


def show_health(health: "Health", exclude: str | None = None, page: str | None = None) -> None:
    """A dataset's figures, its classes by split, the problems of each kind with what to do, and what was written."""
    from resnets.data.health.found import KINDS, printable  # and the decoders, which other verbs needn't load

    out, splits = console(), list(health.splits)
    for line in health.in_words():
        out.print(line, markup=False)
    table = Table()
    for name in ("class", *splits, "images"):
        table.add_column(name, justify="left" if name == "class" else "right")
    for name, images in list(health.classes.items())[:SHOWN_CLASSES]:
        cells = [f"{health.table[name][split]:,}" for split in splits]
        table.add_row(printable(name).replace("[", r"\["), *cells, f"{images:,}")
    if len(health.classes) > SHOWN_CLASSES:
        table.add_row(f"{len(health.classes) - SHOWN_CLASSES:,} more", style="dim")
    table.add_section()
    table.add_row("in all", *[f"{images:,}" for images in health.splits.values()], f"{health.images:,}", style="bold")
    out.print(table)
    for kind, count in health.counts().items():
        out.print(f"{kind} ({count:,}): {KINDS[kind]}", markup=False, soft_wrap=True, style="bold")
        for problem in health.of(kind)[:SHOWN_PROBLEMS]:
            paths = ", ".join(map(printable, problem.paths[:SHOWN_PATHS]))
            more = f", {len(problem.paths) - SHOWN_PATHS} more" if len(problem.paths) > SHOWN_PATHS else ""
            said = f"{paths}{more}: {printable(problem.detail)}" if paths else printable(problem.detail)
            out.print(f"  {said}", markup=False, soft_wrap=True)
        if count > SHOWN_PROBLEMS:
            out.print(f"  and {count - SHOWN_PROBLEMS:,} more; --json lists all", markup=False)
    if not health.problems:
        out.print("no problem was found")
    if exclude is not None:
        out.print(f"{exclude}: {len(health.leave_out):,} images for train --exclude", markup=False, soft_wrap=True)
    if page is not None:
        out.print(f"{page}: what was found, with pictures", markup=False, soft_wrap=True)


def show_evaluation(figures: dict[str, Any]) -> None:
    """The figures of an evaluation, in a few lines."""
    low, high = figures["interval"]
    out = console()
    where = f"{figures['images']:,} images, {figures['split']}" + ", averaged with mirror images" * figures["mirror"]
    out.print(f"top-1 {figures['top1']:.2%} (95% interval {low:.1%} – {high:.1%}) on {where}")
    out.print(f"top-5 {figures['top5']:.2%}, loss {figures['loss']:.4f}, expected calibration error {figures['ece']:.4f}")
    if figures["note"]:
        out.print(figures["note"])
    worst = sorted(figures["classes"].items(), key=lambda item: item[1]["top1"])[:5]
    said = ", ".join(f"{name} {row['top1']:.1%} of {row['images']}" for name, row in worst)
    out.print(f"weakest classes: {said}", markup=False)


def show_conversion(out: str, document: dict[str, Any]) -> None:
    """What became of weights that were converted, and the proofs, in a few lines."""
    said, source, target = console(), document["source"], document["target"]
    how = ", preprocessing unknown" if document["preprocessing"] is None else ""
    lines = [
        f"{out}: {document['architecture']['name']}, {document['parameters']:,} parameters, "
        f"{len(document['classes'])} classes{how}; from {source['ecosystem']} ({source['form']}) to {target['ecosystem']}"
    ]
    for key, words in (("folded", "folded into another weight"), ("dropped", "left out, as nothing here has it")):
        if names := document[key]:
            lines.append(f"{len(names)} {words}: {names[0]}" + (", …" if len(names) > 1 else ""))
    lines += [f"{proof['of']}: {_proof(proof)}" for proof in document["proofs"]] or ["nothing was proven (--no-check)"]
    for line in lines:
        said.print(line, markup=False, soft_wrap=True)


def _proof(proof: dict[str, Any]) -> str:
    if proof["kind"] == "round trip":
        changed = proof["numbers_changed"]
        how = f"{changed:,} numbers changed, by {proof['relative']:.1g} at most" if changed else "no number changed"
        return f"there and back again, {how} (there was no library to ask)"
    prepared = proof["preprocessing"]
    said = (
        f"{proof['library']} {proof['version']} gets the same logits on {proof['images']} images, to "
        f"{proof['logits']['relative']:.1g} of the largest; top-1 agrees on {proof['top1_agreement']:.0%}"
    )
    if prepared:
        said += f"; its own preprocessing differs by {prepared['levels']['mean']:.2g} levels of 255 on average"
    return said


def show_certificate(folder: Path, certificate: dict[str, Any]) -> None:
    """What an export proved, in a few lines."""
    out = console()
    measured = certificate.get("real") or certificate["synthetic"]
    where = f"{measured['data']} ({measured['part']})" if "real" in certificate else "synthetic"
    out.print(
        f"{folder}: {certificate['format']} {certificate['precision']}, reads {certificate['input']}; "
        f"{certificate['files'][certificate['file']]['bytes'] / 1e6:.1f} MB",
        markup=False,
    )
    out.print(
        f"against the model on {measured['images']:,} {where} images: top-1 agrees on {measured['top1_agreement']:.2%}, "
        f"a probability differs by {measured['probabilities']['largest']:.2g} at most",
        markup=False,
    )
    if "real" in certificate:
        accuracy = certificate["real"]["accuracy"]
        low, high = (100 * share for share in accuracy["interval"])
        out.print(
            f"top-1 ({accuracy['of']}) {accuracy['model']:.2%} → {accuracy['export']:.2%}, a drop of "
            f"{100 * accuracy['drop']:.2f} points (95% interval {low:.2f} to {high:.2f})"
        )
    faster = certificate.get("int8_speed_up")
    speed = certificate["speed"]
    out.print(
        f"one image in {speed['latency_ms']:g} ms, {speed['images_per_second']:g} images/s at batch {speed['batch']} here"
        + (f"; {faster:g} times float32" if faster else "")
    )
    out.print(f"{folder / 'predict.py'} runs it alone; {folder / 'certificate.json'} says all of this", markup=False)


def show_verified(folder: str, found: dict[str, Any]) -> None:
    """What `export --verify` found, in a few lines."""
    out = console()
    reference = found["reference"]
    out.print(f"{folder}: {found['files']} files are those that were certified", markup=False)
    out.print(
        f"{reference['images']} reference images: top-1 agrees on {reference['top1_agreement']:.0%}, "
        f"a probability differs by {reference['probabilities']['largest']:.2g} at most"
    )
    if "real" in found:
        real = found["real"]
        out.print(f"top-1 {real['top1']:.2%} on {real['images']:,} images of {real['data']}, {real['split']}", markup=False)


def show_packed(packed: dict[str, Any]) -> None:
    """What a pack wrote, in a line or two."""
    out = console()
    size, speed = bytes_said(packed["bytes"]), packed["images_per_second"]
    how = "" if speed is None else f", {speed:,.0f} images/s"
    said = f"{packed['out']}: {packed['images']:,} images in {packed['shards']:,} shards, {size}{how}"
    out.print(said, markup=False, soft_wrap=True)
    if packed["left_out"]:
        out.print(f"{packed['left_out']:,} images couldn't be read and are left out; index.json lists them")


def show_bench(document: dict[str, Any]) -> None:
    """A row a way of predicting, the fastest last."""
    where = document["machine"]
    table = Table(title=f"{where['processor']}, {where['cores']} cores")
    for name in ("engine", "precision", "input", "latency, ms", "images/s", "batch", "top-1"):
        table.add_column(name, justify="left" if name in ("engine", "precision") else "right")
    for row in sorted(document["rows"], key=lambda row: row["images_per_second"]):
        top1 = "" if row["top1"] is None else f"{row['top1']:.2%}"
        table.add_row(row["engine"], row["precision"], str(row["size"]), f"{row['latency_ms']:.2f}",
                      f"{row['images_per_second']:,.1f}", str(row["batch"]), top1)  # fmt: skip
    console().print(table)


def show_bench_data(document: dict[str, Any]) -> None:
    """A row a stage, then the loader and training, and in words whether training waits for data."""
    where, out = document["machine"], console()
    table = Table(title=f"{where['processor']}, {where['cores']} cores")
    for name in ("", "images/s", "threads", "ms of a thread, an image", "waiting for data"):
        table.add_column(name, justify="right" if name else "left")
    for row in document["rows"]:
        waiting = "" if row["waiting"] is None else f"{row['waiting']:.1%}"
        cells = f"{row['images_per_second']:,.1f}", str(row["threads"]), f"{row['milliseconds']:.3f}", waiting
        table.add_row(row["name"], *cells)
    out.print(table)
    for line in _of_data(document):
        out.print(line, markup=False, soft_wrap=True)


def _of_data(document: dict[str, Any]) -> list[str]:
    """What the table's figures are of, and what comes of them."""
    lines = [
        f"{document['data']}: {document['images']:,} images to train on; {document['network']} at {document['size']} "
        f"pixels, recipe {document['recipe']}, batches of {document['batch']}"
    ]
    what = "training waits" if document["step"] == "training" else "computing the features, once, waits"
    later = "" if document["waiting_later"] is None else f", {document['waiting_later']:.1%} in later ones"
    lines.append(f"{what} for data {document['waiting']:.1%} of the first epoch{later}")
    if document["later"] and document["kept"] < 1:
        lines.append(f"there is room for {document['kept']:.0%} of the images decoded; the others are decoded each time")
    if document["unreadable"]:
        lines.append(f"{document['unreadable']:,} images that were met can't be read; resnets check names them")
    return lines


def _stage(row: dict[str, Any], index: int, stage: str) -> str:
    out = row["stage_outputs"][stage][0]
    if row["block"] == "basic":
        inside = f"3×3, {out}\n3×3, {out}"
    else:
        inside = f"1×1, {out // 4}\n3×3, {out // 4}\n1×1, {out}"
    pool = "3×3 max pool, stride 2\n" if index == 0 else ""
    return f"{pool}{inside}\n× {row['blocks'][index]}"


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]}×{shape[2]}"


def _short(row: dict[str, Any]) -> str:
    return f"{row['paper_parameters'] / 1e6:g}M parameters"
