"""A run folder: made before the first step, and everything that a run leaves in it."""

import json
import sys
import types
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resnets.errors import need
from resnets.files import sweep, write_bytes, write_json
from resnets.pages.training import Watched, training_page
from resnets.training.folder import watching
from resnets.training.options import Options

SETTINGS, LOG, REPORT = "run.json", "log.jsonl", "report.html"
BATCH, CONFUSION = "batch.png", "confusion.json"  # what the report shows: a batch as it was seen; of the best epoch
NOT_EVENTS = ("epoch", "unreadable")  # lines that the report shows elsewhere

SCALARS = {  # an epoch's figures by their names in TensorBoard; others have their own, and None is left out
    "train_loss": "loss/train", "val_loss": "loss/val",
    "train_top1": "accuracy/top1_train", "val_top1": "accuracy/top1_val", "val_top5": "accuracy/top5_val",
    "val_ece": "calibration/ece_val",
    "epoch": None, "step": None, "val_images": None,
}  # fmt: skip


class About(NamedTuple):
    """What the report says of a run that its folder doesn't."""

    data: str  # its name
    model: str
    epochs: float  # of the whole run


class Run:
    """One folder: run.json (what was asked and decided), log.jsonl, TensorBoard events, models, report."""

    def __init__(self, folder: Path, document: dict[str, Any]) -> None:
        self.folder = folder
        self.document = document
        self._changed = ""  # how the run goes on otherwise than it began, where that isn't recorded yet
        self._board: Any = None
        self._start = 0  # the step from which TensorBoard's file goes on
        self._purge: int | None = None  # and the first one that it takes the place of, where there were others

    @classmethod
    def create(
        cls, options: Options, data_name: str, model_name: str, decided: Mapping[str, Any], command: str | None = None
    ) -> "Run":
        """A new folder: `options.out`, refused if it isn't empty, else runs/<data>-<model>, then -2, …

        `command` is the identity of torchrun's command, by which its restarts know the folder.
        """
        if options.out is not None:
            folder = Path(options.out)
            if folder.is_dir() and all(path.match(f".{SETTINGS}.*") for path in folder.iterdir()):
                sweep(folder)  # a kill while the first file was written left a part of it
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                going_on = f", or go on with it by --resume {folder}" if (folder / SETTINGS).exists() else ""
                raise ValueError(f"{folder} isn't empty; name another --out{going_on}")
            folder.mkdir(parents=True, exist_ok=True)
        else:
            folder = _next_free(Path("runs") / f"{data_name}-{model_name}")
        restarts = {} if command is None else {"torchrun": command}
        run = cls(folder, {"options": options.to_json(), "decided": dict(decided), "finished": False, **restarts})
        write_json(folder / SETTINGS, run.document)
        return run

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """An earlier run's folder. ValueError if it is none."""
        try:
            document = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
            Options.from_json(document["options"])
        except FileNotFoundError:
            raise ValueError(f"{folder} is no run folder (it has no {SETTINGS}); train with --out makes one") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder / SETTINGS} can't be read: {error}") from None
        return cls(folder, document)

    @property
    def options(self) -> Options:
        """What was asked."""
        return Options.from_json(self.document["options"])

    @property
    def finished(self) -> bool:
        """Whether training came to its end."""
        return bool(self.document["finished"])

    def finish(self) -> None:
        """Note that training came to its end."""
        self.document["finished"] = True
        write_json(self.folder / SETTINGS, self.document)

    def change(self, options: Options, decided: Mapping[str, Any], said: str) -> None:
        """Go on otherwise than the run began; `note_change` records it, once it is known to be possible."""
        before = self.document.get("changed", [])
        self.document |= {"options": options.to_json(), "decided": dict(decided), "changed": [*before, said]}
        self._changed = said

    def note_change(self) -> None:
        """Record what `change` said, if it did."""
        if self._changed:
            write_json(self.folder / SETTINGS, self.document)
            self.note("changed", self._changed)
            self._changed = ""

    def clean(self) -> None:
        """Delete what a run that was killed had begun to write."""
        sweep(self.folder)

    def going_on(self, step: int, steps: int) -> None:
        """Note that the run goes on after a step, before anything else is logged; TensorBoard forgets later steps."""
        self._start, self._purge = step, step + 1 if step else 0
        self.note("resumed", f"after step {step:,} of {steps:,}")

    def note(self, event: str, said: str, **more: Any) -> None:
        """Log something that happened; the report lists it."""
        at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        self.log({"event": event, "at": at, "said": said, **more})

    def log(self, row: dict[str, Any]) -> None:
        """Append a line to log.jsonl, and an epoch's numbers to TensorBoard's events."""
        line = json.dumps(row, ensure_ascii=False) + "\n"
        _append(self.folder / LOG, line.encode("utf-8", "backslashreplace"))  # a path that is no text stays JSON
        if "step" in row and row.get("event") == "epoch":
            board = self._writer()
            for name, value in row.items():
                if isinstance(value, int | float) and (tag := SCALARS.get(name, name)):
                    board.add_scalar(tag, value, row["step"])
            board.flush()

    def rows(self, event: str) -> list[dict[str, Any]]:
        """The lines of log.jsonl of one kind; of an epoch logged twice (before and after a resume), the later."""
        rows = (row for row in _read(self.folder / LOG) if row["event"] == event)
        return list({row.get("epoch", -index): row for index, row in enumerate(rows, 1)}.values())

    def events(self) -> list[dict[str, Any]]:
        """What happened besides epochs: the lines with "said", in order."""
        return [row for row in _read(self.folder / LOG) if "said" in row and row["event"] not in NOT_EVENTS]

    def show_batch(self, images: np.ndarray, names: Sequence[str], step: int = 0) -> None:
        """Keep images as the network saw them, uint8 [n, size, size, 1 or 3], and their names; TensorBoard has them too."""
        grid = watching.sample_grid(images, names)
        write_bytes(self.folder / BATCH, watching.png(grid))
        self._show("batch", grid, step)

    def show_confusion(self, counts: np.ndarray, classes: Sequence[str], epoch: int, step: int) -> None:
        """Keep the confusion of the best epoch, int64 [classes, classes]; TensorBoard has it too."""
        write_json(self.folder / CONFUSION, watching.confusion_document(counts, classes, epoch))
        self._show("confusion", watching.confusion_picture(counts, classes), step)

    def report(self, about: About, finished: bool = False, left: float | None = None) -> None:
        """Write report.html, whole, from what the folder holds; until the run is finished the page reloads itself.

        `left` is the seconds until the end, where they are known better than by the epochs so far.
        """
        confusion, batch = self.folder / CONFUSION, self.folder / BATCH
        watched = Watched(
            finished=finished,
            epochs=about.epochs,
            left=left,
            events=self.events(),
            confusion=json.loads(confusion.read_text(encoding="utf-8")) if confusion.exists() else None,
            batch=batch.read_bytes() if batch.exists() else b"",
            written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        )
        rows, unreadable = self.rows("epoch"), self.rows("unreadable")
        page = training_page(about.data, about.model, rows, self.document["decided"], unreadable, watched)
        write_bytes(self.folder / REPORT, page.encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self._board is not None:
            self._board.close()
            self._board = None

    def _show(self, name: str, picture: np.ndarray, step: int) -> None:
        board = self._writer()
        board.add_image(name, picture, step, dataformats="HWC")
        board.flush()

    def _writer(self) -> Any:
        if self._board is None:
            # TensorBoard imports TensorFlow where it is installed, which crashes beside PyTorch: tell it there is none
            sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("notf"))
            need("tensorboard", "train", "training")
            from torch.utils.tensorboard import SummaryWriter

            self._board, self._purge = SummaryWriter(str(self.folder), purge_step=self._purge), None
            self._board.add_text("recipe", _markdown(self.document["decided"].get("recipe", {})), self._start)
        return self._board


def _append(path: Path, line: bytes) -> None:
    """Append a line; what a kill left of the one before is cut off first."""
    with path.open("ab+") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - 1))
        if file.read(1) not in (b"", b"\n"):
            file.seek(0)
            start = (whole := file.read()).rfind(b"\n") + 1
            if _row(whole[start:]) is None:
                file.truncate(start)
            else:  # all but its end is there
                line = b"\n" + line
        file.write(line)


def _read(path: Path) -> list[dict[str, Any]]:
    """The rows of a log; a line that was cut is no row."""
    if not path.exists():
        return []
    rows = (_row(line) for line in path.read_bytes().split(b"\n"))  # splitlines would also split at U+2028
    return [row for row in rows if row is not None]


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line.decode())
    except ValueError:
        return None
    return row if isinstance(row, dict) and "event" in row else None


def _markdown(recipe: Mapping[str, Any]) -> str:
    """A recipe as a table, for TensorBoard."""
    rows = "".join(f"| {name} | {json.dumps(value, ensure_ascii=False)} |\n" for name, value in recipe.items())
    return f"| field | value |\n|---|---|\n{rows}"


def _next_free(folder: Path) -> Path:
    """Make `folder`, or the first of folder-2, folder-3, … that isn't there."""
    number = 1
    while True:
        candidate = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            candidate.mkdir(parents=True)
            return candidate
        except FileExistsError:
            number += 1
