"""What runs on the nodes of a cluster: a predictor with a few cores, and the files that list and table are of."""

import contextlib
import fcntl
import hashlib
import itertools
import os
import random
import socket
import tempfile
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import resnets
from resnets import machine
from resnets.data.shards.addresses import is_remote
from resnets.errors import MissingExtra, WorkFailed
from resnets.files import replacing
from resnets.model import Model
from resnets.prediction.answers import Wanted, prediction
from resnets.prediction.exported import Exported, open_model
from resnets.prediction.predictor import Predictor
from resnets.prediction.tables import ROWS, Layout, table_row
from resnets.prediction.timing import BATCH

Rows = Generator[dict[str, Any], None, None]

MODEL = "model.safetensors"
LIST = "paths.arrow"
TOGETHER = 4096  # paths in a record batch of the list


@dataclass(frozen=True)
class Job:
    """What every node is told."""

    folder: str  # where list and table are
    here: str  # the folder that relative paths start from
    wanted: Wanted
    engine: str
    precision: str
    exact: bool
    mirror: bool
    cpus: int
    version: str = resnets.__version__


class Node:
    """One predictor on a node, for Ray Data: it takes chunks of the list and writes a file of the table for each."""

    def __init__(self, job: Job, files: Any) -> None:
        """`files` is the object store's reference to the model's files."""
        self.job = job
        self.files = files
        self.predictor: Predictor | None = None
        self.cores: dict[int, IO[bytes]] = {}  # with the locks that hold them

    def __call__(self, chunk: dict[str, Any]) -> dict[str, Any]:
        """{"predicted", "failed", "error"}: what came of a chunk, or why nothing can."""
        try:
            failed, rows = self._write(int(chunk["first"][0]), int(chunk["last"][0]))
            return {"predicted": [rows - failed], "failed": [failed], "error": [""]}
        except (ValueError, OSError, WorkFailed, MissingExtra) as error:
            return {"predicted": [0], "failed": [0], "error": [f"the node {socket.gethostname()}: {error}"]}

    def _write(self, first: int, last: int) -> tuple[int, int]:
        """The images that failed, and all, of a chunk whose file is there when this returns."""
        folder = Path(self.job.folder)
        if not (folder / LIST).is_file():
            raise WorkFailed(f"{folder} isn't there; images and --out must lie on storage that every node has")
        path = file_of(folder, first)
        if not path.exists():
            names = list(read_list(folder, first, last))
            if self.predictor is None:
                self.cores = _own_cores(self.job.cpus)
                self.predictor = self._made()
            elif self.cores:
                os.sched_setaffinity(0, self.cores)  # Ray calls on one thread or another
            write_rows(path, self._rows(self.predictor, names, first), self.job.wanted)
        return _counted(path)

    def _rows(self, predictor: Predictor, names: list[str], first: int) -> Rows:
        paths = (name if is_remote(name) else os.path.join(self.job.here, name) for name in names)  # noqa: PTH118
        for position, (name, output) in enumerate(zip(names, predictor(paths), strict=True), first):
            found = prediction(name, output, predictor.model.classes, self.job.wanted)
            yield {**table_row(name, found.labels, found.scores, found.error, found.features), "position": position}

    def _made(self) -> Predictor:
        """The predictor, compiled. ValueError where this node can't predict as the others do."""
        import ray  # pyright: ignore[reportMissingImports]  # of an extra

        if resnets.__version__ != self.job.version:
            raise ValueError(f"it has resnets {resnets.__version__}, and this run is of {self.job.version}")
        with tempfile.TemporaryDirectory(prefix="resnets-") as place:
            files: dict[str, bytes] = ray.get(self.files)  # pyright: ignore[reportAssignmentType]
            model = _model_of(files, Path(place))
            precision = self.job.precision if isinstance(model, Model) else "auto"
            how = {"engine": self.job.engine, "exact": self.job.exact, "mirror": self.job.mirror}
            how |= {"batch": BATCH, "lanes": self.job.cpus}
            predictor = Predictor(model, precision=precision, **how)
            if (predictor.engine, predictor.precision) != (self.job.engine, self.job.precision):
                raise ValueError(f"it runs {predictor.engine}, {predictor.precision}, and this run is {self.job.engine}, "
                                 f"{self.job.precision}: use nodes that are alike, or --precision float32")  # fmt: skip
            predictor.compiled(self.job.cpus)
        return predictor


def model_files(model: Model | Exported) -> dict[str, bytes]:
    """A model as files, by their names below one folder."""
    if isinstance(model, Model):
        return {MODEL: model.to_bytes()}
    root = model.file.parent
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def hash_of(files: dict[str, bytes]) -> str:
    """A hash of files' names and contents."""
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    return digest.hexdigest()


def _model_of(files: dict[str, bytes], folder: Path) -> Model | Exported:
    """What `model_files` took apart; the files are written to a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return open_model(folder / MODEL if MODEL in files else folder)


def file_of(folder: Path, first: int) -> Path:
    """The file of the chunk that begins at a position; in the order of names they are in that of positions."""
    return folder / f"part-{first:012}.parquet"


def write_list(folder: Path, paths: Iterable[str]) -> tuple[int, str]:
    """Write the paths to a file that is read from any position, and return their number and hash."""
    import pyarrow as pa

    schema = pa.schema([("path", pa.binary())])  # a name needn't be UTF-8
    remaining, digest, count = (os.fsencode(path) for path in paths), hashlib.sha256(), 0
    with replacing(folder / LIST) as file, pa.ipc.new_file(file, schema) as writer:
        while some := list(itertools.islice(remaining, TOGETHER)):
            digest.update(b"".join(path + b"\0" for path in some))
            count += len(some)
            writer.write_batch(pa.record_batch([pa.array(some, pa.binary())], schema=schema))
    return count, digest.hexdigest()


def read_list(folder: Path, first: int, last: int) -> Iterator[str]:
    """The paths from one position to before another."""
    import pyarrow as pa

    with pa.memory_map(str(folder / LIST)) as file, pa.ipc.open_file(file) as reader:
        for number in range(first // TOGETHER, -(-last // TOGETHER)):
            start = number * TOGETHER
            some = reader.get_batch(number).column(0).to_pylist()[max(first - start, 0) : last - start]
            yield from map(os.fsdecode, some)


def write_rows(path: Path, rows: Rows, wanted: Wanted) -> None:
    """A file of the table, whole or not at all."""
    import pyarrow as pa
    from pyarrow import parquet

    layout = Layout(path.suffix, wanted.top or 1, wanted.features)
    schema = layout.schema().append(pa.field("position", pa.int64()))
    repeating: Any = [name for name in schema.names if name.startswith("label") or name == "error"]
    with (
        contextlib.closing(rows),
        replacing(path) as file,
        contextlib.closing(parquet.ParquetWriter(file, schema, use_dictionary=repeating)) as writer,
    ):
        while group := list(itertools.islice(rows, ROWS)):
            writer.write_table(pa.Table.from_pylist(group, schema))


def _counted(path: Path) -> tuple[int, int]:
    """The rows with an error, and all rows, of a file of the table."""
    from pyarrow import parquet

    with parquet.ParquetFile(path) as source:
        errors = source.read(["error"])["error"]
    return len(errors) - errors.null_count, len(errors)


def _own_cores(count: int) -> dict[int, IO[bytes]]:
    """Keep this thread, and those it starts, to cores that no other predictor on this machine has: an engine would take
    every core, and pin itself to the first. Returns them with the locks that hold them, which end with the process.
    """
    if not hasattr(os, "sched_setaffinity") or count >= machine.cores():
        return {}
    folder = Path(tempfile.gettempdir()) / f"resnets-cores-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    cores = sorted(os.sched_getaffinity(0))
    random.shuffle(cores)  # containers that share a machine don't see each other's locks
    taken: dict[int, IO[bytes]] = {}
    for wanted_free in (True, False):  # where too few are free, some that aren't
        for core in cores:
            if core not in taken and len(taken) < count:
                file = (folder / str(core)).open("wb")
                if _locked(file) or not wanted_free:
                    taken[core] = file
                else:
                    file.close()
    os.sched_setaffinity(0, taken)
    return taken


def _locked(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
