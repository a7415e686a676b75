"""ImageNet's 1,000 classes of 2012, in the order of every ImageNet model's logits: names, and synset ids of WordNet 3.0.

The table beside this file has a line a class. The ids are ILSVRC 2012's, sorted; a name is the synset's first lemma in
WordNet 3.0 (Princeton University, whose licence permits this use), and for "crane bird" and "maillot tank suit", whose first
lemmas other classes have too, what torchvision calls them.
"""

from pathlib import Path

_ROWS = [line.split("\t") for line in Path(__file__).with_suffix(".tsv").read_text(encoding="utf-8").splitlines()]
SYNSETS = tuple(row[0] for row in _ROWS)  # "n01440764", …
NAMES = tuple(row[1] for row in _ROWS)  # "tench", …
BACKGROUND = "background"  # what TensorFlow-Slim's models of 1,001 classes have first


def class_names(given: str | Path, classes: int) -> tuple[str, ...]:
    """The names that --classes means: a text file with a name a line, or "imagenet" (also of 1,001 logits).

    Raises ValueError where there are more or fewer than the network's logits.
    """
    if str(given) == "imagenet":
        names = (BACKGROUND, *NAMES) if classes == len(NAMES) + 1 else NAMES
    else:
        try:
            lines = Path(given).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
            raise ValueError(
                f"--classes {given} can't be read: {reason}; give a text file with a name a line, or imagenet"
            ) from None
        names = tuple(line.strip() for line in lines if line.strip())
    if len(names) != classes:
        extra = (
            "; the first of 1,001 is a background class, as TensorFlow-Slim's models have it: put its name first"
            if classes == len(NAMES) + 1 else ""
        )  # fmt: skip
        raise ValueError(f"--classes {given} has {len(names)} names, and the network {classes} logits{extra}")
    if len(set(names)) != len(names):
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise ValueError(f"--classes {given} names {twice!r} twice; a class is its name")
    return names
