"""torchrun: its processes by their environment, and its restarts, which go on in the folder that the command had."""

import io
import json
import os
import sys
from pathlib import Path

from resnets.training.folder.run import SETTINGS, Run
from resnets.training.options import Options


def identity() -> str | None:
    """What torchrun's restarts of one command have in common; None without torchrun.

    The identity of its rendezvous; where that is the default "none", the process that restarts this one stands for it.
    """
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    if name != "none":
        return name
    parent = os.getppid()
    try:
        began = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[19]  # a number is given out again
    except OSError:
        began = ""
    return f"none-{parent}-{began}"


def folder(options: Options) -> Path | None:
    """The folder that this command trained in before it was started again; None where there is none.

    Identity and options say that it is the same command: how often it was started, each process counts by itself. A finished
    one counts only where torchrun has started it again, since a rendezvous may serve the same command twice.
    """
    if identity() is None:
        return None
    runs = [run for place in candidates(options) if (run := _of_command(place, options))]
    going = [run.folder for run in runs if not run.finished]
    ended = [run.folder for run in runs if run.finished and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0]
    return next(iter(going + ended), None)


def candidates(options: Options) -> list[Path]:
    """Folders that a run of these options may have, the last one made first: a rendezvous may have served a run before."""
    if options.out is not None:
        return [Path(options.out)]
    found = sorted(Path("runs").glob(f"*/{SETTINGS}"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return [path.parent for path in found]


def _of_command(place: Path, options: Options) -> Run | None:
    """The run in a folder, where it is this command's."""
    try:
        run = Run.open(place)
    except ValueError:
        return None
    same = run.document["options"] == json.loads(json.dumps(options.to_json()))
    return run if same and run.document.get("torchrun") == identity() else None


def is_first() -> bool:
    """Whether this process writes and speaks, as its environment says before it has joined the others."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or int(os.environ.get("RANK", 0)) == 0


def quiet_unless_first() -> None:
    """Standard output belongs to the first process."""
    if not is_first():
        sys.stdout = io.StringIO()
