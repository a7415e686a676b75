"""What a user asks of `train`: one frozen value, kept in the run folder."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from resnets.training.shipped import check_fields

LENGTHS = {"epochs", "steps"}  # of which a recipe has one


@dataclass(frozen=True)
class Options:
    """The choices of one training run; "auto" and None are decided by rule, and said."""

    data: str  # a path, or the name of a built-in set
    model: str = "auto"  # a network's name; auto: resnet20 up to 64 pixels, resnet18 above
    init: str = "auto"  # auto (pretrained weights above 64 pixels), none, a model, or a file of weights
    recipe: str = "auto"  # a name or a TOML file; auto: finetune from weights, else quick
    settings: Mapping[str, Any] = field(default_factory=dict)  # fields of the recipe
    input: int | None = None  # pixels of the square that the network reads
    fit: Literal["crop", "pad", "squash"] | None = None
    val: float = 0.1  # the share held out, where the data has no split val; 0: none, and `best` is the last
    seed: int = 0
    exclude: str | None = None  # a file of relative paths to leave out, one a line
    workers: int = 0  # threads that decode; 0: one a core
    out: str | None = None  # the run folder; None: runs/<data>-<model>, then -2, …

    def __post_init__(self) -> None:
        for name in ("data", "init", "recipe", "exclude", "out"):
            if isinstance(value := getattr(self, name), os.PathLike):
                object.__setattr__(self, name, os.fspath(value))
        if not 0 <= self.val < 1:
            raise ValueError(f"--val is a share from 0 to below 1, not {self.val}")
        if self.fit is not None and self.fit not in get_args(Literal["crop", "pad", "squash"]):
            raise ValueError(f"--fit is crop, pad or squash, not {self.fit!r}")
        if self.input is not None and not 8 <= self.input <= 4096:
            raise ValueError(f"--input is from 8 to 4096 pixels, not {self.input}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"--seed is a whole number from 0 up, not {self.seed}")
        if not 0 <= self.workers <= 1024:
            raise ValueError(f"--workers is from 0 to 1024, not {self.workers}")

    @classmethod
    def parse(cls, data: str, given: Mapping[str, Any]) -> "Options":
        """Options by name; what is a field of a recipe (`epochs`, `precision`) goes there. ValueError for any other."""
        own = {item.name for item in fields(cls)}
        direct = {name: value for name, value in given.items() if name in own}
        settings = {name: value for name, value in given.items() if name not in own}
        check_fields(settings)
        direct["settings"] = {**direct.get("settings", {}), **settings}
        return cls(data, **direct)

    def with_changes(self, given: Mapping[str, Any]) -> "Options":
        """These with others in their place, by name, as `parse` takes them."""
        if not given:
            return self
        changed = Options.parse(self.data, given)
        own = {name: getattr(changed, name) for name in given if name in {item.name for item in fields(self)}}
        before = dict(self.settings)
        if changed.settings.keys() & LENGTHS:  # the new length takes the place of the old, whichever way it was said
            before = {name: value for name, value in before.items() if name not in LENGTHS}
        return replace(self, **{**own, "settings": {**before, **changed.settings}})

    def to_json(self) -> dict[str, Any]:
        """Plain values, with paths made absolute so that a run resumes from anywhere."""
        document = asdict(self)
        for name in ("data", "init", "recipe", "exclude"):
            if document[name] is not None and Path(document[name]).exists():
                document[name] = str(Path(document[name]).resolve())
        if (teacher := document["settings"].get("teacher")) and Path(teacher).exists():
            document["settings"] = {**document["settings"], "teacher": str(Path(teacher).resolve())}
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Options":
        """The inverse of `to_json`."""
        return cls(**{item.name: document[item.name] for item in fields(cls) if item.name in document})
