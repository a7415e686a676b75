"""Recipe: a frozen value that says how to train. The shipped ones are TOML documents in the package."""

import difflib
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from resnets.data.augmentation import Augmentation

SECONDS = {"s": 1, "min": 60, "h": 3600}
SAVING = re.compile(r"([1-9]\d*)(s|min|h)?")


@dataclass(frozen=True)
class Recipe:
    """How to train. Raises ValueError, naming the field, where a value cannot be.

    The run's length is `epochs` or `steps`, one of the two; inside training there is one clock, the step.
    """

    name: str = "custom"
    epochs: float | None = None
    steps: int | None = None
    batch_size: int = 128  # images a step
    learning_rate: float = 0.1  # at the top of the schedule, of the fully connected layer
    backbone_rate: float = 1.0  # of everything below it, as a share of `learning_rate`
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    warmup: float = 0.0  # the share of the run in which the rate rises from 0
    milestones: tuple[float, ...] = ()  # "step": shares of the run at which the rate is multiplied by `drop`
    drop: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    decay_norm_and_bias: bool = True  # whether weight decay also takes the norms and the biases
    label_smoothing: float = 0.0  # Szegedy et al. 2016, section 7
    freeze_statistics: bool = False  # norms use, and keep, the averages they came with
    zero_gamma: bool = False  # the last norm of each block starts at 0 (Goyal et al. 2017)
    crop: Literal["auto", "resized", "padded", "short-side", "none"] = "auto"  # padded up to 64 pixels, resized above
    crop_scale: tuple[float, float] = (0.08, 1.0)  # see Augmentation
    crop_padding: float = 0.125  # a share of the image's size: 4 pixels of 32
    crop_short_side: tuple[int, int] = (256, 480)
    flip: Literal["auto", "on", "off"] = "auto"  # on, but for data whose mirror images are something else
    lighting: float = 0.0
    precision: Literal["auto", "float32", "bf16"] = "auto"
    save_every: str = "5min"  # a checkpoint every so many steps ("500") or so long ("30s", "5min", "1h"), and each epoch

    def __post_init__(self) -> None:
        if isinstance(self.save_every, int) and not isinstance(self.save_every, bool):
            object.__setattr__(self, "save_every", str(self.save_every))
        for field in fields(self):
            value = getattr(self, field.name)
            object.__setattr__(self, field.name, _fitting(field.name, value))
        if not SAVING.fullmatch(str(self.save_every)):
            raise ValueError(f"save_every is a number of steps, or a time like 30s, 5min or 1h, not {self.save_every!r}")
        if self.epochs == 0:
            raise ValueError("epochs is above 0; a part of an epoch can be given, 0.5")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(
                f"crop_scale is two shares of the area, above 0 and to 1, the lower first, not {self.crop_scale}"
            )
        if not 8 <= self.crop_short_side[0] <= self.crop_short_side[1]:
            raise ValueError(
                f"crop_short_side is two numbers of pixels from 8 up, the lower first, not {self.crop_short_side}"
            )
        if not all(0 <= share <= 1 for share in self.milestones):
            raise ValueError(f"milestones are shares of the run from 0 to 1, not {self.milestones}")
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("a recipe says its length as epochs or as steps, one of the two")

    @property
    def saving(self) -> tuple[float, float]:
        """Steps and seconds from one checkpoint to the next; infinity for the one that isn't said."""
        number, unit = SAVING.fullmatch(self.save_every).groups()  # type: ignore[union-attr]  (looked at when it was made)
        return (float(number), math.inf) if not unit else (math.inf, float(number) * SECONDS[unit])

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def total_steps(self, steps_per_epoch: int) -> int:
        """The run's length on the one clock."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, round(self.epochs * steps_per_epoch))

    def augmentation(self, size: int, mirrors: bool) -> Augmentation:
        """What training does to images of `size` pixels, of data that may be mirrored or not."""
        crop = self.crop if self.crop != "auto" else "padded" if size <= 64 else "resized"
        return Augmentation(
            crop=crop,
            scale=self.crop_scale,
            padding=max(1, round(self.crop_padding * size)),
            short_side=self.crop_short_side,
            flip=self.flip == "on" or (self.flip == "auto" and mirrors),
            lighting=self.lighting,
        )


LEAST = {"epochs": 0, "steps": 1, "batch_size": 1, "learning_rate": 0, "backbone_rate": 0, "warmup": 0, "drop": 0,
         "momentum": 0, "weight_decay": 0, "label_smoothing": 0, "crop_padding": 0, "lighting": 0}  # fmt: skip
MOST = {"warmup": 1, "momentum": 1, "label_smoothing": 1, "drop": 1, "crop_padding": 1}


def _fitting(name: str, value: Any) -> Any:
    """A field's value as its type has it. ValueError, naming the field, if it can't be."""
    kind: Any = get_type_hints(Recipe)[name]
    choices = [choice for choice in (*get_args(kind), kind) if choice is not type(None)]
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"{name} is one of {', '.join(get_args(kind))}, not {value!r}")
        return value
    if value is None:
        if type(None) in get_args(kind):
            return None
        raise ValueError(f"{name} has to have a value")
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple) or not all(_is_number(item) for item in value):
            raise ValueError(f"{name} is a list of numbers, not {value!r}")
        if ... not in get_args(kind) and len(value) != len(get_args(kind)):
            raise ValueError(f"{name} is a list of {len(get_args(kind))} numbers, not {value!r}")
        return tuple(value)
    if float in choices and _is_number(value):
        value = float(value)
    elif not any(type(value) is choice for choice in choices):
        wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        raise ValueError(f"{name} is {next(wanted[choice] for choice in choices if choice in wanted)}, not {value!r}")
    if name in LEAST and not (math.isfinite(value) and LEAST[name] <= value <= MOST.get(name, value)):
        most = f" to {MOST[name]}" if name in MOST else ""
        raise ValueError(f"{name} is a number from {LEAST[name]}{most}, not {value!r}")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def names() -> list[str]:
    """The recipes that ship with the package."""
    return sorted(file.name.removesuffix(".toml") for file in resources.files("resnets.recipes").iterdir()
                  if file.name.endswith(".toml"))  # fmt: skip


def recipe(name: str | Path, changes: Mapping[str, Any] | None = None) -> Recipe:
    """A shipped recipe by name, or one from a TOML file, with fields changed.

    A change of `epochs` takes the place of `steps`, and the other way round. Raises ValueError for an unknown name or
    field (with the nearest), a file that is no TOML, or a value that can't be.
    """
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise ValueError(f"there is no recipe file {path}")
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is no TOML: {error}") from None
    elif str(name) in names():
        text = resources.files("resnets.recipes").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    else:
        raise ValueError(f"no recipe is called {str(name)!r}; there are {', '.join(names())}, or a FILE.toml")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is no TOML: {error}") from None
    check_fields(document)
    return changed(Recipe(**{"name": path.stem, **document}), changes or {})


def changed(base: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """A recipe with fields changed; see `recipe`."""
    check_fields(changes)
    if "epochs" in changes and "steps" not in changes:
        changes = {**changes, "steps": None}
    elif "steps" in changes and "epochs" not in changes:
        changes = {**changes, "epochs": None}
    return replace(base, **changes)


def check_fields(changes: Mapping[str, Any]) -> None:
    """ValueError, with the nearest, for a field that a recipe hasn't."""
    known = [field.name for field in fields(Recipe)]
    for name in changes:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=2, cutoff=0.4)
            raise ValueError(f"a recipe has no field {name!r}; " + (f"did you mean {' or '.join(near)}?" if near else
                             f"its fields: {', '.join(known)}"))  # fmt: skip


def parse_setting(text: str) -> tuple[str, Any]:
    """`field=value` of the command line, the value as TOML has it, or else a text: "epochs=4", "flip=off"."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set takes field=value, not {text!r}")
    try:
        return name.strip(), tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()
