"""Data by its name or its path."""

import os
from pathlib import Path

from resnets.data.dataset import Dataset
from resnets.data.shards import names_shards, open_shards
from resnets.data.sources.folder import folder
from resnets.data.sources.hub import hub_dataset, is_name
from resnets.data.sources.idx import digits, idx, is_idx
from resnets.data.sources.manifest import MANIFESTS, manifest
from resnets.data.sources.parquet import files_below, has_images, parquet_images
from resnets.data.sources.saved import is_saved, saved

BUILT_IN = ("digits",)


def open_dataset(data: str | os.PathLike[str], tolerate: bool = False) -> Dataset:
    """Labelled images by the name of a built-in set ("digits") or a path: a folder, a manifest, or a folder of IDX files.

    - A folder of class folders, or of train/val/test (also training, valid, validation) with class folders in each.
      Images may lie deeper; hidden files and folders are no classes and no images.
    - A CSV or Parquet manifest with the columns `path` (relative to it) and `label`, and `split` if there are splits.
    - Parquet files with the images inside, one or a folder of them: columns `image` (or `img`; bytes, or struct {bytes,
      path}) and `label`, splits by the files' names (`train-00000-of-00002.parquet`). Unpacked once into the cache folder.
    - A folder that the library `datasets` saved.
    - A dataset of the Hugging Face hub, `hf:ORG/NAME`, as `resnets.data.sources.hub` says.
    - Tar shards in WebDataset's layout, those of `pack` among them: `shards/`, `data/{000000..000099}.tar`, one .tar, and
      the same at `http://…` or another address that fsspec knows.
    - IDX files, plain or gzip, named as MNIST's: `train-images-idx3-ubyte.gz`, …; `t10k` is the split `test`.

    With `tolerate`, shards that are missing or cut off are left out, and said. Raises ValueError, naming the place, where
    there is no such thing, fewer than one class, or a file is damaged.
    """
    path = Path(data)
    if str(data) in BUILT_IN and not path.exists():
        return digits()
    if is_name(data):
        return hub_dataset(str(data))
    if names_shards(str(data)):
        return open_shards(str(data), tolerate)
    if path.is_dir():
        return _of_folder(path)
    if path.suffix.lower() == ".parquet" and path.is_file() and has_images(path):
        return parquet_images(path.stem, [path])
    if path.suffix.lower() in MANIFESTS and path.is_file():
        return manifest(path)
    if path.is_file():
        raise ValueError(f"{path} is a file; data is a folder of class folders, a .csv or .parquet manifest, or IDX files")
    raise ValueError(f"there is no data at {path}; give a folder, a manifest, or the name of a built-in set (digits)")


def _of_folder(path: Path) -> Dataset:
    """A folder by what lies in it."""
    if is_idx(path):
        return idx(path)
    if is_saved(path):
        return saved(path)
    if files := files_below(path):
        return parquet_images(path.resolve().name, files, path)
    return folder(path)
