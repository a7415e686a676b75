"""Labels and splits of a dataset from their names."""

import numpy as np

from resnets.data.columns import Coded
from resnets.data.dataset import Dataset, Images, natural

FIRST = ("train", "val", "test")  # splits in this order, others behind


def labelled(name: str, images: Images, labels: Coded, splits: Coded, empty: dict[str, tuple[str, ...]]) -> Dataset:
    """A Dataset from the names of each image's class and split, where "" is no split. A name that no image has is none."""
    classes = tuple(sorted({labels.names[code] for code in _used(labels)}, key=natural))
    place = {label: index for index, label in enumerate(classes)}
    of_code = np.array([place.get(label, -1) for label in labels.names], np.int64)
    used = {splits.names[code] for code in _used(splits)} - {""}
    divided = {}
    for split in (*(split for split in FIRST if split in used), *sorted(used.difference(FIRST))):
        codes = [code for code, called in enumerate(splits.names) if called == split]
        here = splits.codes == codes[0] if len(codes) == 1 else np.isin(splits.codes, codes)
        divided[split] = np.flatnonzero(here)
    return Dataset(name, images, classes, of_code[labels.codes], divided, empty)


def runs(counts: list[int], names: list[str]) -> Coded:
    """A column of so many times each name."""
    place = {name: index for index, name in enumerate(dict.fromkeys(names))}
    return Coded(np.repeat(np.array([place[name] for name in names], np.int32), counts), list(place))


def _used(column: Coded) -> list[int]:
    return np.flatnonzero(np.bincount(column.codes, minlength=len(column.names))).tolist()
