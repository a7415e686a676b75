"""torchrun's restarts: the same command finds the folder that it trained in before a process died."""

import json
import os
from pathlib import Path

from resnets.files import write_json
from resnets.training.options import Options
from resnets.training.run import Run

MARK = "torchrun.json"


def identity() -> str | None:
    """What torchrun's restarts of one command have in common; None without torchrun.

    The identity of its rendezvous; where that is the default "none", the process that restarts this one stands for it.
    """
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    return f"none-{os.getppid()}" if name == "none" else name


def restarted() -> bool:
    """Whether torchrun starts this command again after a process died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def mark(folder: Path) -> None:
    """Note in a run's folder which command of torchrun trains in it."""
    if name := identity():
        write_json(folder / MARK, {"torchrun": name})


def folder(options: Options) -> Path | None:
    """The folder that this command trained in before it was started again; None where it hadn't come to make one."""
    return next((place for place in candidates(options) if _trains_in(place)), None)


def candidates(options: Options) -> list[Path]:
    """Folders that a run of these options may have, the last one made first: a rendezvous may have served a run before."""
    if options.out is not None:
        return [Path(options.out)]
    marks = sorted(Path("runs").glob(f"*/{MARK}"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return [mark.parent for mark in marks]


def _trains_in(place: Path) -> bool:
    try:
        document = json.loads((place / MARK).read_text(encoding="utf-8"))
        Run.open(place)
    except (OSError, ValueError):
        return False
    return document.get("torchrun") == identity()
