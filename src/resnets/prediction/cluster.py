"""Many images on a Ray cluster: its nodes take chunks of one list of paths, and each chunk becomes a file of the table.

The list is written beside the table, so that no machine holds it. A chunk's file comes by one rename and is called after its
first position: a chunk that is done again, because its node died or the run was killed, is the same file.
"""

import contextlib
import json
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import resnets
from resnets.errors import WorkFailed, need
from resnets.files import write_json
from resnets.model import Model
from resnets.prediction.answers import Wanted
from resnets.prediction.bulk import Written
from resnets.prediction.connection import connected, room
from resnets.prediction.exported import Exported, open_model
from resnets.prediction.node import LIST, Job, Node, file_of, hash_of, model_files, write_list
from resnets.prediction.paths import Name, Part, expand
from resnets.prediction.predictor import Predictor
from resnets.prediction.record import CLUSTER, Record, refuse_other
from resnets.prediction.timing import BATCH

log = logging.getLogger("resnets")

FORMAT = 1
SETTINGS = "_resnets.json"  # what reads a folder of Parquet passes over names with _
CHUNKS = 20_000  # at most, however many images; each is a message to a node and one back
EACH = 16  # chunks for each predictor, where there are images enough
USUAL = 4096  # images in a chunk at most, unless that makes too many chunks
SAID = 30.0  # seconds between two lines of progress


@dataclass(frozen=True)
class How:
    """How a cluster predicts: what is asked of a `Predictor`, and the share of a node that each one has."""

    features: bool = False
    part: str | None = None
    engine: str = "auto"
    precision: str = "auto"
    exact: bool = False
    mirror: bool = False
    cpus: int = 1
    gpus: float | None = None  # None: one where PyTorch is the engine and the cluster has any


class Chunk(NamedTuple):
    """A block of positions of the list."""

    first: int
    last: int  # not in it


def predict_on_cluster(
    model: Model | Exported | Name,
    paths: Iterable[Name] | Name,
    out: Name | None,
    *,
    cluster: str = "auto",
    top: int = 5,
    above: float = 0.0,
    **how: Any,
) -> Written:
    """Classify every image that `paths` mean on a Ray cluster, into a folder of Parquet files: `write_table`'s columns and
    `position`, which counts all images from 0.

    Images and `out` must lie on storage that every node has under the same path, and every node needs this resnets. `out`
    has no suffix or `.parquet`, and isn't there yet or is empty. `cluster` "auto" is the one of RAY_ADDRESS or one that runs
    here, else one is started on this machine and ended again; otherwise it is HOST:PORT. `how` is engine, precision, exact
    and mirror, settled on this machine and the same on every node; features; part; and cpus (1) and gpus, what each
    predictor has of a node. A run that was killed goes on when it is given again. Raises ValueError for what can't be and
    WorkFailed where the cluster can't be reached or a node can't do its part.
    """
    ray = need("ray", "cluster", "predicting on a cluster")
    need("ray.data", "cluster", "predicting on a cluster")
    given = How(**how)
    wanted = Wanted(top, above, given.features)
    share = None if given.part is None else Part.parse(given.part)
    target = _target(out, share)
    loaded = model if isinstance(model, Model | Exported) else open_model(model)
    asked = {"engine": given.engine, "precision": given.precision, "exact": given.exact, "mirror": given.mirror}
    predictor = Predictor(loaded, **asked, batch=BATCH, lanes=given.cpus)
    predictor.announce()
    settled = predictor.engine, predictor.precision, given.exact, given.mirror, given.cpus
    record = Record(target, CLUSTER)
    job = Job(str(record.folder), str(Path.cwd()), wanted, *settled)
    images = expand([paths] if isinstance(paths, str | os.PathLike) else paths)
    with contextlib.redirect_stdout(sys.stderr), connected(ray, cluster), record.locked():  # Ray prints on both
        if given.gpus is None:
            given = replace(given, gpus=float(job.engine == "torch" and "GPU" in ray.cluster_resources()))
        try:
            return _predict(ray, _Work(loaded, images, target, share, given, job))
        except BaseException as error:
            _leave(Path(job.folder), error)
            raise


class _Work(NamedTuple):
    """A run, before the list is written."""

    model: Model | Exported
    images: Iterator[str]
    target: Path
    share: Part | None
    how: How
    job: Job


def _predict(ray: Any, work: _Work) -> Written:
    """Write the list, have the nodes do it in chunks, and put the table in its place."""
    job, folder, files = work.job, Path(work.job.folder), model_files(work.model)
    images, inputs = write_list(folder, work.images)
    ours = range(images) if work.share is None else _block(images, work.share)
    settings = {
        "format": FORMAT,
        "resnets": resnets.__version__,
        "model": work.model.sha256,
        "files": hash_of(files),
        "engine": job.engine,
        "precision": job.precision,
        "exact": job.exact,
        "mirror": job.mirror,
        "batch": BATCH,
        "lanes": job.cpus,
        **asdict(job.wanted),
        "part": work.share and str(work.share),
        "images": len(ours),
        "inputs": inputs,
    }
    if known := _finished(work.target):
        refuse_other(work.target, _of(known, settings), settings, str(work.target))
        shutil.rmtree(folder)
        log.info("%s: %d rows, finished already", work.target, known["images"])
        return Written(work.target, known["predicted"], known["failed"], known["images"])
    size = _begun(folder, settings) or _size(len(ours), room(ray, work.how.cpus, work.how.gpus or 0))
    write_json(folder / SETTINGS, {**settings, "chunk": size})
    chunks = [Chunk(first, min(first + size, ours.stop)) for first in ours[::size]] or [Chunk(ours.start, ours.start)]
    with contextlib.closing(_answers(ray, job, files, chunks, work.how)) as answers:
        written = _counted(answers, chunks, folder, work.target)
    write_json(folder / SETTINGS, {**settings, "chunk": size, "predicted": written.predicted, "failed": written.failed})
    for path in folder.iterdir():
        if path.name in (LIST, "lock") or path.name.startswith("."):  # or what a node had begun when it died
            path.unlink()
    folder.replace(os.path.realpath(work.target))
    return written


def _target(out: Name | None, share: Part | None) -> Path:
    """The folder that is written. ValueError where it can't be."""
    if out is None:
        raise ValueError("a cluster writes a folder of Parquet files; say which with --out")
    given = Path(out)
    if given.suffix not in ("", ".parquet"):
        raise ValueError(f"a cluster writes a folder, {given.stem} or {given.stem}.parquet, not {given.name}")
    target = given if share is None else share.of_path(given)
    if not target.parent.is_dir():
        raise ValueError(f"there is no folder {target.parent} to write {target.name} in")
    if os.path.lexists(target) and (not target.is_dir() or (any(target.iterdir()) and not _finished(target))):
        raise ValueError(f"{target} exists and is no empty folder; remove it, or give another --out")
    if (sidecar := Record(target).sidecar).exists():
        raise ValueError(
            f"{target} was begun without --cluster; go on so, or give another --out; to begin anew, remove {sidecar}"
        )
    return target


def _finished(target: Path) -> dict[str, Any]:
    """The settings of a table that is whole, with its counts; {} of anything else."""
    try:
        known = json.loads((target / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) and "predicted" in known else {}


def _block(images: int, share: Part) -> range:
    """The positions of a part, the same as `Part.of_images` takes."""
    return range(images * (share.number - 1) // share.of, images * share.number // share.of)


def _size(images: int, predictors: int) -> int:
    """Images in a chunk: whole batches, however many predictors there are."""
    wished = max(-(-images // CHUNKS), min(USUAL, images // (EACH * predictors)))
    return BATCH * max(1, -(-wished // BATCH))


def _begun(folder: Path, settings: dict[str, Any]) -> int | None:
    """The size of a chunk of the run that is gone on with; None where none was begun. ValueError where it was otherwise."""
    try:
        begun = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    refuse_other(folder, _of(begun, settings), settings, str(folder))
    return begun["chunk"]


def _of(known: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """What a run was begun with, without what came of it."""
    return {name: known.get(name) for name in settings}


def _counted(answers: Iterable[dict[str, Any]], chunks: list[Chunk], folder: Path, target: Path) -> Written:
    """What came of the chunks, said now and then while it comes. WorkFailed at the first that a node can't do."""
    images = chunks[-1].last - chunks[0].first
    already = sum(chunk.last - chunk.first for chunk in chunks if file_of(folder, chunk.first).exists())
    if already:
        log.info("%s: %d of %d rows are there, going on", target, already, images)
    predicted = failed = 0
    began = said = time.monotonic()
    for answer in answers:
        if answer["error"]:
            raise WorkFailed(answer["error"])
        predicted, failed = predicted + answer["predicted"], failed + answer["failed"]
        if time.monotonic() - said > SAID:
            said = time.monotonic()
            speed = max(0, predicted + failed - already) / (said - began)
            log.info("%s: %d of %d images, %.0f images/s", target, predicted + failed, images, speed)
    if predicted + failed != images:
        raise WorkFailed(f"{predicted + failed} rows came of {images} images; give the command again")
    seconds = time.monotonic() - began
    log.info("%s: %d rows, %.0f images/s", target, images, (images - already) / seconds)
    return Written(target, predicted, failed, already, (images - already) / seconds if already < images else None)


def _answers(
    ray: Any, job: Job, files: dict[str, bytes], chunks: list[Chunk], given: How
) -> Generator[dict[str, Any], None, None]:
    """What the nodes say of each chunk, as they are done. Ray hands a chunk that was lost with its node to another one."""
    context, logger = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, logger.level
    context.enable_progress_bars = False
    logger.setLevel(logging.CRITICAL)
    # from 1 up: a predictor without work ends, and leaves its place to one whose node died. Ray Data restarts actors and
    # retries their tasks without limit, by its own default
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=len(chunks))
    try:
        yield from (
            ray.data.from_items([chunk._asdict() for chunk in chunks], override_num_blocks=len(chunks))
            .map_batches(Node, fn_constructor_args=(job, ray.put(files)), batch_size=1, batch_format="numpy", compute=pool,
                         num_cpus=given.cpus, num_gpus=given.gpus)
            .iter_rows()
        )  # fmt: skip
    except ray.exceptions.RayError as error:
        reasons = re.findall(r"^(?:\w+\.)*\w*(?:Error|Exception): .*", str(error), re.MULTILINE)
        raise WorkFailed(f"the cluster failed: {(reasons or str(error).splitlines() or ['no reason given'])[-1]}") from error
    finally:
        context.enable_progress_bars = before[0]
        logger.setLevel(before[1])


def _leave(folder: Path, error: BaseException) -> None:
    """Keep of a run that failed what can be gone on with."""
    if not any(folder.glob("*.parquet")):
        shutil.rmtree(folder, ignore_errors=True)
    elif not isinstance(error, ValueError):
        log.warning("%s holds what is done; the same command goes on with it", folder)
