"""Folders that the library `datasets` saved, read without it: Arrow files, mapped, beside a state.json each."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnets.data.dataset import SPLIT_NAMES, Dataset
from resnets.data.sources import tables
from resnets.files import read_object

if TYPE_CHECKING:
    import pyarrow as pa

STATE, SEVERAL = "state.json", "dataset_dict.json"


def is_saved(root: Path) -> bool:
    """Whether `datasets` saved this folder."""
    return (root / STATE).is_file() or (root / SEVERAL).is_file()


def saved(root: Path) -> Dataset:
    """A Dataset, which has no splits here, or a DatasetDict with its own. ValueError where files are missing or damaged."""
    if not (root / SEVERAL).is_file():
        return tables.dataset(root.resolve().name, _parts(root, ""))
    names: Any = read_object(root / SEVERAL).get("splits")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{root / SEVERAL} names no splits")
    parts = [part for name in names for part in _parts(root / name, SPLIT_NAMES.get(str(name).lower(), str(name)))]
    order = [*dict.fromkeys(SPLIT_NAMES.values()), *(part.split for part in parts)]
    return tables.dataset(root.resolve().name, sorted(parts, key=lambda part: order.index(part.split)))


def _parts(place: Path, split: str) -> list[tables.Part]:
    """The tables of one saved Dataset."""
    state = read_object(place / STATE)
    if state.get("_indices_data_files"):
        raise ValueError(f"{place} was saved as a choice of other rows; save it again after flatten_indices()")
    files = [place / Path(str(entry.get("filename"))).name for entry in state.get("_data_files") or ()]
    if not files:
        raise ValueError(f"{place / STATE} names no Arrow files")
    return [tables.Part(split, _mapped(path), path) for path in files]


def _mapped(path: Path) -> "pa.Table":
    """An Arrow file, a stream of batches or one with an index behind them, mapped."""
    import pyarrow as pa

    try:
        source = pa.memory_map(str(path))
        if source.read(6) == b"ARROW1":
            return pa.ipc.open_file(source).read_all()
        source.seek(0)
        return pa.ipc.open_stream(source).read_all()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} can't be read as an Arrow file: {error}") from None
