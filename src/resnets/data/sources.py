"""Where labelled images come from: a folder of class folders, a CSV or Parquet manifest, IDX files, the built-in digits."""

import gzip
import os
import zlib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np

from resnets.data.dataset import SPLIT_NAMES, ArrayImages, Dataset, FileImages, natural
from resnets.data.decode import SUFFIXES

MANIFESTS = (".csv", ".parquet")
IDX_KINDS = {0x08: "uint8"}
BUILT_IN = ("digits",)


def open_dataset(data: str | os.PathLike[str]) -> Dataset:
    """Labelled images by the name of a built-in set ("digits") or a path: a folder, a manifest, or a folder of IDX files.

    - A folder of class folders, or of train/val/test (also training, valid, validation) with class folders in each.
      Images may lie deeper; hidden files and folders are no classes and no images.
    - A CSV or Parquet manifest with the columns `path` (relative to it) and `label`, and `split` if there are splits.
    - IDX files, plain or gzip, named as MNIST's: `train-images-idx3-ubyte.gz`, …; `t10k` is the split `test`.

    Raises ValueError, naming the place, where there is no such thing, fewer than one class, or a file is damaged.
    """
    path = Path(data)
    if str(data) in BUILT_IN and not path.exists():
        return digits()
    if path.is_dir():
        return idx(path) if _idx_file(path, "train", "images") or _idx_file(path, "t10k", "images") else folder(path)
    if path.suffix.lower() in MANIFESTS and path.is_file():
        return manifest(path)
    if path.is_file():
        raise ValueError(f"{path} is a file; data is a folder of class folders, a .csv or .parquet manifest, or IDX files")
    raise ValueError(f"there is no data at {path}; give a folder, a manifest, or the name of a built-in set (digits)")


def folder(root: Path) -> Dataset:
    """A folder of class folders, with or without splits."""
    inside = _subfolders(root)
    split_folders = {name: SPLIT_NAMES[name.lower()] for name in inside if name.lower() in SPLIT_NAMES}
    nested = all(_subfolders(root / name) for name in split_folders)  # else a class may be called "test"
    splits_alone = bool(split_folders) and len(split_folders) == len(inside)
    as_splits = splits_alone or (nested and "train" in split_folders.values())
    found: list[tuple[str, str, str]] = []  # (relative path, class, split)
    empty: dict[str, tuple[str, ...]] = {}
    for top, split in split_folders.items() if as_splits else [("", "")]:
        classes = _subfolders(root / top)
        rows = [(key, name, split) for name in classes for key in images_below(root, f"{top}/{name}".lstrip("/"))]
        missing = set(classes) - {name for _, name, _ in rows}
        if missing:
            empty[split] = (*empty.get(split, ()), *sorted(missing, key=natural))
        found += rows
    if not found:
        raise ValueError(_nothing_in(root, inside))
    keys, names, splits = zip(*found, strict=True)
    return _labelled(root.resolve().name, FileImages(root, keys), names, splits, empty)


def manifest(path: Path) -> Dataset:
    """A table of `path`, `label` and perhaps `split`; paths are relative to the manifest's folder."""
    columns = _table(path, ("path", "label"), ("split",))
    for row, (key, label) in enumerate(zip(columns["path"], columns["label"], strict=True), 1):
        if not key or label is None or label == "":
            raise ValueError(f"{path}: row {row} has no {'label' if key else 'path'}")
    splits = [SPLIT_NAMES.get(split.lower(), split) if split else "" for split in columns.get("split", [])]
    if any(splits) and not all(splits):
        raise ValueError(f"{path}: row {splits.index('') + 1} has no split, and others have")
    if not columns["path"]:
        raise ValueError(f"{path} lists no image")
    empty_splits = splits or [""] * len(columns["path"])
    return _labelled(path.stem, FileImages(path.parent, columns["path"]), columns["label"], empty_splits, {})


def manifest_paths(path: Path) -> list[Path]:
    """The image paths of a manifest, of which only `path` is needed."""
    keys = _table(path, ("path",), ())["path"]
    for row, key in enumerate(keys, 1):
        if not key:
            raise ValueError(f"{path}: row {row} has no path")
    return [path.parent / key for key in keys]


def idx(root: Path) -> Dataset:
    """MNIST's files: train and t10k (the split `test`), images and labels, gzip or plain."""
    pixels, labels, keys, splits = [], [], [], []
    for stem, split in (("train", "train"), ("t10k", "test")):
        files = _idx_file(root, stem, "images"), _idx_file(root, stem, "labels")
        if files == (None, None):
            continue
        if files[0] is None or files[1] is None:
            raise ValueError(f"{root} has only one of {stem}-images and {stem}-labels")
        images, numbers = read_idx(files[0]), read_idx(files[1])
        pictures = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))
        if not pictures or numbers.ndim != 1 or len(images) != len(numbers):
            raise ValueError(
                f"{files[0]} holds {images.shape} and {files[1].name} {numbers.shape}: not images and their labels"
            )
        pixels.append(images)
        labels += [str(number) for number in numbers.tolist()]
        keys += [f"{stem}/{index:06}" for index in range(len(images))]
        splits += [split] * len(images)
    if len({images.shape[1:] for images in pixels}) != 1:
        raise ValueError(f"the IDX files of {root} hold images of several sizes")
    return _labelled(root.resolve().name, ArrayImages(np.concatenate(pixels), keys), labels, splits, {})


def read_idx(path: Path) -> np.ndarray:
    """One IDX file of unsigned bytes, plain or gzip. Raises ValueError if it isn't one, or is cut off."""
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path} is a damaged gzip file: {error}") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in IDX_KINDS:
        raise ValueError(f"{path} is no IDX file of unsigned bytes")
    shape = np.frombuffer(data, ">u4", data[3], 4).astype(np.int64) if len(data) >= 4 + 4 * data[3] else None
    if shape is None or len(data) != 4 + 4 * data[3] + int(shape.prod()):
        raise ValueError(f"{path} is cut off or too long: {len(data)} bytes don't hold what its header says")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def digits() -> Dataset:
    """1,797 handwritten digits of 8×8 pixels, grey (Alpaydin and Kaynak 1998; see digits.LICENCE)."""
    with resources.files("resnets.data").joinpath("digits.npz").open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        pixels, labels = arrays["images"], arrays["labels"]
    keys = [f"{index:04}" for index in range(len(labels))]
    data = _labelled("digits", ArrayImages(pixels, keys), [str(label) for label in labels.tolist()], [""] * len(labels), {})
    return Dataset(data.name, data.images, data.classes, data.labels, mirrors=False)


def _labelled(name: str, images: FileImages | ArrayImages, names, splits, empty: dict[str, tuple[str, ...]]) -> Dataset:
    """A Dataset from one class name and one split ("" for none) an image."""
    classes = tuple(sorted(set(names), key=natural))
    place = {label: index for index, label in enumerate(classes)}
    labels = np.array([place[label] for label in names], np.int64)
    which = np.array(splits)
    order = ("train", "val", "test", *sorted(set(splits) - {"train", "val", "test"}))
    divided = {split: np.flatnonzero(which == split) for split in order if split and (which == split).any()}
    return Dataset(name, images, classes, labels, divided, empty)


def _table(path: Path, needed: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, list[str]]:
    """Columns of a CSV or Parquet file as strings. Raises ValueError where one is missing or the file can't be read."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    try:
        if path.suffix.lower() == ".parquet":
            table = parquet.read_table(path)
        else:
            kinds = dict.fromkeys(needed + optional, pa.string())  # a label 007 stays 007
            table = csv.read_csv(path, convert_options=csv.ConvertOptions(column_types=kinds))
        for name in needed:
            if name not in table.column_names:
                raise ValueError(f"{path} has no column {name!r}; its columns: {', '.join(table.column_names)}")
        wanted = [name for name in needed + optional if name in table.column_names]
        for name in wanted:
            if table.column_names.count(name) > 1:
                raise ValueError(f"{path} has two columns {name!r}")
        return {name: table[name].cast(pa.string()).to_pylist() for name in wanted}
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} can't be read as a table: {error}") from None


def _idx_file(root: Path, stem: str, part: str) -> Path | None:
    """The file of MNIST's naming, `train-images-idx3-ubyte.gz` or with a dot in place of the second hyphen."""
    return next((path for path in sorted(root.glob(f"{stem}-{part}[-.]idx?-ubyte*")) if path.suffix in ("", ".gz") or
                 path.suffix.endswith("-ubyte")), None)  # fmt: skip


def _subfolders(place: Path) -> list[str]:
    """Names of the folders in a folder, hidden ones left out, in natural order."""
    with os.scandir(place) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and not _hidden(entry.name)]
    return sorted(names, key=natural)


def images_below(root: Path, top: str) -> Iterator[str]:
    """Relative paths of the image files in and below a folder, by their suffix, in natural order."""
    for place, folders, files in os.walk(root / top):
        folders[:] = sorted((name for name in folders if not _hidden(name)), key=natural)
        for name in sorted(files, key=natural):
            if not _hidden(name) and Path(name).suffix.lower() in SUFFIXES:
                yield Path(place, name).relative_to(root).as_posix()


def _hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


def _nothing_in(root: Path, inside: list[str]) -> str:
    """The sentence for a folder that holds no class folder with an image."""
    with os.scandir(root) as entries:
        loose = [entry.name for entry in entries if entry.is_file() and Path(entry.name).suffix.lower() in SUFFIXES]
    if loose:
        return f"{root} holds images but no class folders; put each class's images into a folder with the class's name"
    if next(images_below(root, "."), None):
        return f"the splits of {root} hold images but no class folders; put each class's images into a folder with its name"
    if inside:
        return f"none of the {len(inside)} folders in {root} holds an image; each class is a folder of images"
    if any(root.glob("*idx?-ubyte*")):
        return f"the IDX files in {root} aren't called as MNIST's: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-…"
    what = "holds no images" if any(root.iterdir()) else "is empty"
    return f"{root} {what}; data is a folder with one folder of images for each class"
