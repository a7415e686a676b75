"""Many images to one table, in chunks fixed by position, so that a killed run goes on and ends with the same bytes."""

import contextlib
import hashlib
import itertools
import json
import logging
import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import resnets
from resnets.model import Model
from resnets.prediction.answers import Wanted, prediction
from resnets.prediction.exported import Exported, open_model
from resnets.prediction.paths import Listed, Name, Part, listed
from resnets.prediction.predictor import Predictor
from resnets.prediction.progress import BulkProgress
from resnets.prediction.record import FINISHED, Record
from resnets.prediction.tables import Layout, check_table, table_row, write_chunk
from resnets.prediction.timing import Plan, plan_for, usual_plan

log = logging.getLogger("resnets")

FORMAT = 1
CHUNK = 1024  # images in a chunk, about: it is whole batches
MEASURED = 20_000  # images from which it pays to measure, in some ten seconds, how the cores are best used


@dataclass(frozen=True)
class Written:
    """What came of a bulk run: of the whole table, whichever run wrote it, and how fast this one was."""

    out: Path
    predicted: int
    failed: int  # images that couldn't be read; their rows say why
    already: int  # rows that were there when this run began
    images_per_second: float | None = None  # None where nothing was left to do
    limit: str | None = None  # what took most of the cores' time: decoding or arithmetic

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "out": str(self.out)}

    def status(self) -> int:
        """The exit status: 1 where this run came to images and none of the table could be read. Failures are counted in
        the log.
        """
        rows = self.predicted + self.failed
        if self.failed:
            log.warning("%d of %d images couldn't be read", self.failed, rows)
        return 1 if self.already < rows and not self.predicted else 0


def predict_to(
    model: Model | Exported | Name,
    paths: Iterable[Name] | Name,
    out: Name,
    *,
    top: int = 5,
    above: float = 0.0,
    features: bool = False,
    part: str | None = None,
    **how: Any,
) -> Written:
    """Classify every image that `paths` mean into a table: `.parquet`, `.csv` or `.jsonl`, with a row an image, in order.

    `features` adds the pooled vectors. `part` "2/4" is the second of four blocks of the images, and goes to
    `NAME-2-of-4.parquet`. `how` is `Predictor`'s engine, precision, exact, mirror, batch and lanes; what it leaves open is
    settled when the table is begun, and recorded beside it. A run that was killed goes on when it is given again, and ends
    with the bytes of one that wasn't; a table that is whole stays as it is. Raises ValueError where the table was begun
    otherwise or something else lies there, and WorkFailed where another process writes it.
    """
    share = None if part is None else Part.parse(part)
    target = Path(out) if share is None else share.of_path(Path(out))
    check_table(target, features)
    wanted = Wanted(top, above, features)
    record = Record(target)
    begun = record.read()
    loaded = model if isinstance(model, Model | Exported) else open_model(model)
    given = [paths] if isinstance(paths, str | os.PathLike) else paths
    images = given if isinstance(given, Listed) else listed(given, out=out, part=share)
    ours = images if share is None else share.of_images(images)
    predictor = _predictor(loaded, len(images), begun or {}, how)
    settings = {
        "format": FORMAT,
        "resnets": resnets.__version__,
        **_identity(loaded),
        **_settled(predictor, begun or {}),
        **asdict(wanted),
        "part": share and str(share),
        "images": len(ours),
        "inputs": _hash(os.fsencode(image) + b"\0" for image in images),
    }
    if begun is not None:
        record.refuse_other(settings)
    if record.is_finished() and not record.folder.exists():
        return _nothing_to_do(target, record)
    with record.locked():
        record.begin(settings)
        if record.is_finished():  # by a run that was killed before it could clear up, or in this moment
            record.clear()
            return _nothing_to_do(target, record)
        return _write(target, ours, record, settings, predictor)


def _write(target: Path, images: Listed, record: Record, settings: dict[str, Any], predictor: Predictor) -> Written:
    """Add the chunks that aren't there, and join all."""
    size, layout = settings["chunk"], Layout(target.suffix, settings["top"], settings["features"])
    wanted = Wanted(settings["top"], settings["above"], settings["features"])
    number = record.chunks()
    already = min(number * size, len(images))
    if already:
        log.info("%s: %d of %d rows are there, going on", target, already, len(images))
    with BulkProgress(target.name, len(images), already, predictor) as progress:
        rows = _rows(predictor, images, already, wanted)
        with contextlib.closing(rows):
            while chunk := _taken(rows, size, progress):
                write_chunk(record.chunk(number), chunk, layout)
                number += 1
    figures = record.finish(settings, number, layout)
    counts = figures["predicted"], figures["failed"], already
    if already == len(images):
        log.info("%s: %d rows", target, len(images))
        return Written(target, *counts)
    log.info("%s: %d rows, %s", target, len(images), progress.said)
    return Written(target, *counts, images_per_second=progress.speed, limit=progress.limit)


def _rows(predictor: Predictor, images: Listed, start: int, wanted: Wanted) -> Generator[dict[str, Any]]:
    """The rows of the images from `start` on; one call of the predictor, which so never runs dry."""
    if start == len(images):
        return
    classes = predictor.model.classes
    with contextlib.closing(predictor(itertools.islice(images, start, None))) as outputs:
        for path, output in zip(itertools.islice(images, start, None), outputs, strict=True):
            found = prediction(path, output, classes, wanted)
            yield table_row(path, found.labels, found.scores, found.error, found.features)


def _taken(rows: Iterator[dict[str, Any]], size: int, progress: BulkProgress) -> list[dict[str, Any]]:
    chunk = []
    for row in itertools.islice(rows, size):
        chunk.append(row)
        progress.step()
    return chunk


def _predictor(model: Model | Exported, images: int, begun: Mapping[str, Any], how: dict[str, Any]) -> Predictor:
    """The predictor with what `how` leaves open as it was settled at the table's beginning, else as the images make best."""
    names = ("engine", "precision", "batch", "lanes") if isinstance(model, Model) else ("batch", "lanes")
    taken = {name: begun[name] for name in names if name in begun and how.get(name) in (None, "auto")}
    predictor = Predictor(model, **{**how, **taken})
    predictor.announce()
    if not predictor.fixed:
        predictor.fix(_plan(predictor, images))
    return predictor


def _plan(predictor: Predictor, images: int) -> Plan:
    """The plan for that many images; where they are so many that it pays, it is measured."""
    if images >= MEASURED:
        return predictor.tune()
    known = predictor.usual if images < predictor.usual.enough else usual_plan(predictor.identity)
    return plan_for(images, known)


def _identity(model: Model | Exported) -> dict[str, Any]:
    """What tells a model from another: its weights, or an export's file; and what is made of their numbers."""
    names: dict[str, Any] = {"classes": list(model.classes)}
    if isinstance(model, Model):
        names["architecture"] = model.architecture.to_json()
    return {
        "model": model.sha256,
        "network": _hash([json.dumps(names, sort_keys=True).encode()]),  # its classes and, of weights, the architecture
        "preprocessing": model.preprocessing and model.preprocessing.to_json(),
    }


def _settled(predictor: Predictor, begun: Mapping[str, Any]) -> dict[str, Any]:
    batch = predictor.usual.batch
    return {
        "engine": predictor.engine,
        "precision": predictor.precision,
        "exact": predictor.exact,
        "mirror": predictor.mirror,
        "batch": batch,
        "lanes": predictor.usual.lanes,
        "chunk": begun.get("chunk", max(CHUNK // batch, 1) * batch),
    }


def _hash(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _nothing_to_do(target: Path, record: Record) -> Written:
    figures = (record.read() or {})[FINISHED]
    log.info("%s: nothing to do, its %d rows are all there", target, sum(figures.values()))
    return Written(target, figures["predicted"], figures["failed"], already=sum(figures.values()))
