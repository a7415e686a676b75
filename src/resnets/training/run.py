"""A run folder: made before the first step, and everything that a run leaves in it."""

import json
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnets.errors import need
from resnets.files import write_json
from resnets.training.options import Options

SETTINGS = "run.json"
LOG = "log.jsonl"


class Run:
    """One folder: run.json (what was asked and decided), log.jsonl, TensorBoard events, models, report."""

    def __init__(self, folder: Path, document: dict[str, Any]) -> None:
        self.folder = folder
        self.document = document
        self._board: Any = None

    @classmethod
    def create(cls, options: Options, data_name: str, model_name: str, decided: Mapping[str, Any]) -> "Run":
        """A new folder: `options.out`, refused if it isn't empty, else runs/<data>-<model>, then -2, …"""
        if options.out is not None:
            folder = Path(options.out)
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise ValueError(f"{folder} isn't empty; name another --out, or go on with it by --resume {folder}")
            folder.mkdir(parents=True, exist_ok=True)
        else:
            folder = _next_free(Path("runs") / f"{data_name}-{model_name}")
        run = cls(folder, {"options": options.to_json(), "decided": dict(decided), "finished": False})
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
        """Record that the run goes on otherwise than it began."""
        before = self.document.get("changed", [])
        self.document |= {"options": options.to_json(), "decided": dict(decided), "changed": [*before, said]}
        write_json(self.folder / SETTINGS, self.document)

    def clean(self) -> None:
        """Delete what a run that was killed had begun to write."""
        for path in self.folder.glob(".*.part"):
            path.unlink(missing_ok=True)

    def log(self, row: dict[str, Any]) -> None:
        """Append a line to log.jsonl, and its numbers to TensorBoard's events."""
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        if "step" in row and row.get("event") == "epoch":
            board = self._writer()
            for name, value in row.items():
                if isinstance(value, int | float) and name not in ("step", "epoch"):
                    board.add_scalar(name, value, row["step"])
            board.flush()

    def rows(self, event: str) -> list[dict[str, Any]]:
        """The lines of log.jsonl of one kind; of an epoch logged twice (before and after a resume), the later."""
        if not (self.folder / LOG).exists():
            return []
        lines = (json.loads(line) for line in (self.folder / LOG).read_text(encoding="utf-8").splitlines() if line)
        return list({row.get("epoch", index): row for index, row in enumerate(lines) if row["event"] == event}.values())

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self._board is not None:
            self._board.close()
            self._board = None

    def _writer(self) -> Any:
        if self._board is None:
            # TensorBoard imports TensorFlow where it is installed, which crashes beside PyTorch: tell it there is none
            sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("notf"))
            need("tensorboard", "train", "training")
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.folder))
        return self._board


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
