"""Recipe: a frozen value that says how to train. The shipped ones are TOML documents in the package."""

import functools
import math
import re
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from resnets.data.augmentation import Augmentation

SECONDS = {"s": 1, "min": 60, "h": 3600}
TIME = re.compile(r"([1-9]\d*)(s|min|h)")
STEPS = re.compile(r"[1-9]\d*")


@dataclass(frozen=True)
class Recipe:
    """How to train. Raises ValueError, naming the field, where a value cannot be.

    The run's length is `epochs` or `steps`, one of the two; inside training there is one clock, the step.
    """

    name: str = "custom"
    # length, and what ends a run before it
    epochs: float | None = None
    steps: int | None = None
    patience: int = 0  # epochs without a better one before the run ends; 0: it never does
    time_budget: str = ""  # "20min": the schedule comes to its end by then, wherever it is; "": no limit
    # steps
    batch_size: int = 128  # images a step, of all processes together
    accumulate: int = 1  # parts in which a batch goes through the network, where memory is short
    repeats: int = 1  # views of an image within a batch (repeated augmentation, Hoffer et al. 2020)
    skip_learned: float = 0.0  # of the images whose loss is below the mean, the share a pass leaves out (Qin et al. 2024)
    balance: Literal["none", "sample", "weight"] = "none"  # classes drawn equally often, or weighted equally in the loss
    optimizer: Literal["sgd", "adamw", "lamb", "muon"] = "sgd"
    learning_rate: float = 0.1  # at the top of the schedule, of the fully connected layer
    backbone_rate: float = 1.0  # of everything below it, as a share of `learning_rate`
    schedule: Literal["cosine", "linear", "step", "constant"] = "cosine"
    warmup: float = 0.0  # the share of the run in which the rate rises from 0
    milestones: tuple[float, ...] = ()  # "step": shares of the run at which the rate is multiplied by `drop`
    drop: float = 0.1
    momentum: float = 0.9  # of SGD and Muon
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)  # of AdamW and LAMB
    weight_decay: float = 1e-4
    decay_norm_and_bias: bool = True  # whether weight decay also takes the norms and the biases
    clip_gradient: float = 0.0  # the largest norm of all gradients together; 0: any
    ema_decay: float = 0.0  # of the average of the weights that is measured and kept, a step; 0: the weights themselves
    # loss
    loss: Literal["cross-entropy", "binary"] = "cross-entropy"  # binary: each class by itself (Wightman et al. 2021)
    label_smoothing: float = 0.0  # Szegedy et al. 2016, section 7
    teacher: str = ""  # a model whose answers are learned from too
    teacher_weight: float = 0.5  # their share of the loss
    teacher_temperature: float = 1.0
    # network
    freeze: Literal["none", "auto", "backbone", "staged"] = "none"  # auto: the backbone of small sets, see docs/recipes.md
    views: int = 4  # of each image, whose features are computed once where the backbone is frozen
    freeze_statistics: bool = False  # norms use, and keep, the averages they came with
    recompute_statistics: bool = False  # of the norms, over training images, at the end
    sync_batch_norm: bool = True  # norms see the batch of all processes
    zero_gamma: bool = False  # the last norm of each block starts at 0 (Goyal et al. 2017)
    drop_path: float = 0.0  # blocks left out at random, the last so often, the first never (Huang et al. 2016)
    # images
    train_input: tuple[float, ...] = (1.0,)  # size while training, as shares of the input, each for an equal part of the run
    crop: Literal["auto", "resized", "padded", "short-side", "none"] = "auto"  # padded up to 64 pixels, resized above
    crop_scale: tuple[float, float] = (0.08, 1.0)  # see Augmentation
    crop_padding: float = 0.125  # a share of the image's size: 4 pixels of 32
    crop_fill: Literal["mean", "black", "reflect"] = "mean"  # around a padded image
    crop_short_side: tuple[int, int] = (256, 480)
    flip: Literal["auto", "on", "off", "alternate"] = "auto"  # auto and alternate spare digits, whose mirror images are none
    lighting: float = 0.0
    colour_jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)  # of brightness, contrast, saturation, hue
    policy: Literal["none", "randaugment", "trivialaugment"] = "none"
    policy_operations: int = 2  # of RandAugment, an image
    policy_magnitude: float = 9.0  # of RandAugment, 0 to 10
    policy_spread: float = 0.0  # the deviation of that magnitude from image to image
    erasing: float = 0.0  # the probability of a random rectangle erased (Zhong et al. 2017)
    erasing_area: tuple[float, float] = (0.02, 0.4)  # its share of the image
    mixup: float = 0.0  # the α of MixUp (Zhang et al. 2018); 0: none
    cutmix: float = 0.0  # the α of CutMix (Yun et al. 2019); with both, each batch has one of the two
    mixing: float = 1.0  # the share of batches that are mixed
    tolerate: bool = False  # shards that are missing or cut off are left out, and said
    # the machine
    precision: Literal["auto", "float32", "bf16"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"  # auto: on a GPU
    cache: Literal["auto", "none"] = "auto"  # auto: images that every epoch decodes anew are kept decoded on disk
    save_every: str = "5min"  # a checkpoint every so many steps ("500") or so long ("30s", "5min", "1h"), and each epoch

    def __post_init__(self) -> None:
        if isinstance(self.save_every, int) and not isinstance(self.save_every, bool):
            object.__setattr__(self, "save_every", str(self.save_every))
        for field in fields(self):
            value = getattr(self, field.name)
            object.__setattr__(self, field.name, _fitting(field.name, value))
        self._check_times()
        self._check_images()
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("a recipe says its length as epochs or as steps, one of the two")
        if self.epochs == 0:
            raise ValueError("epochs is above 0; a part of an epoch can be given, 0.5")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        if self.optimizer == "muon" and self.momentum == 1:
            raise ValueError("muon needs a momentum below 1")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas are two numbers from 0 to below 1, not {self.betas}")
        if not all(0 <= share <= 1 for share in self.milestones):
            raise ValueError(f"milestones are shares of the run from 0 to 1, not {self.milestones}")
        if self.skip_learned and (self.mixup or self.cutmix or self.repeats > 1 or self.balance == "sample"):
            raise ValueError(
                "skip_learned goes by each image's own loss and chooses the epoch's images; mixup, cutmix, repeats and "
                "balance=sample can't go with it"
            )
        if self.recompute_statistics and (self.freeze_statistics or self.patience):
            raise ValueError(
                "recompute_statistics is done once, at the end of the run: freeze_statistics keeps what it would replace, "
                "and patience ends a run before"
            )
        if self.batch_size % self.repeats:
            raise ValueError(f"repeats divides the batch size, and {self.repeats} doesn't divide {self.batch_size}")

    def _check_times(self) -> None:
        if not (TIME.fullmatch(self.save_every) or STEPS.fullmatch(self.save_every)):
            raise ValueError(f"save_every is a number of steps, or a time like 30s, 5min or 1h, not {self.save_every!r}")
        if self.time_budget and not TIME.fullmatch(self.time_budget):
            raise ValueError(f"time_budget is a time like 90s, 20min or 2h, not {self.time_budget!r}")

    def _check_images(self) -> None:
        for name in ("crop_scale", "erasing_area"):
            low, high = getattr(self, name)
            if not 0 < low <= high <= 1:
                raise ValueError(f"{name} is two shares of the area, above 0 and to 1, the lower first, not {(low, high)}")
        if not 8 <= self.crop_short_side[0] <= self.crop_short_side[1]:
            raise ValueError(
                f"crop_short_side is two numbers of pixels from 8 up, the lower first, not {self.crop_short_side}"
            )
        if not self.train_input or not all(0 < share <= 2 for share in self.train_input):
            raise ValueError(f"train_input is a list of shares of the input size, above 0 to 2, not {self.train_input}")
        if not all(0 <= value <= 1 for value in self.colour_jitter) or self.colour_jitter[3] > 0.5:
            raise ValueError(f"colour_jitter is four numbers from 0 to 1, the last to 0.5, not {self.colour_jitter}")

    def train_sizes(self, size: int) -> tuple[int, ...]:
        """Pixels of the images while training, each for an equal part of the run, of an input of `size` pixels."""
        return tuple(max(8, round(size * share)) for share in self.train_input)

    @property
    def saving(self) -> tuple[float, float]:
        """Steps and seconds from one checkpoint to the next; infinity for the one that isn't said."""
        if STEPS.fullmatch(self.save_every):
            return float(self.save_every), math.inf
        return math.inf, seconds(self.save_every)

    @property
    def budget(self) -> float:
        """Seconds that the run may take; infinity where it may take any."""
        return seconds(self.time_budget) if self.time_budget else math.inf

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
        flips = {"on": True, "off": False, "auto": mirrors, "alternate": mirrors and "alternate"}
        return Augmentation(
            crop=crop,
            scale=self.crop_scale,
            padding=max(1, round(self.crop_padding * size)),
            fill=self.crop_fill,
            short_side=self.crop_short_side,
            flip=flips[self.flip],  # type: ignore[arg-type]  ("alternate" or a bool)
            lighting=self.lighting,
            policy=self.policy,
            operations=self.policy_operations,
            magnitude=self.policy_magnitude,
            spread=self.policy_spread,
            jitter=self.colour_jitter,
            erasing=self.erasing,
            erasing_area=self.erasing_area,
            repeats=self.repeats,
            balance="sample" if self.balance == "sample" else "none",
        )


def seconds(text: str) -> float:
    """Of a time like 30s, 5min or 1h."""
    number, unit = TIME.fullmatch(text).groups()  # type: ignore[union-attr]  (looked at when the recipe was made)
    return float(number) * SECONDS[unit]


LEAST = {"epochs": 0, "steps": 1, "patience": 0, "batch_size": 1, "accumulate": 1, "repeats": 1, "learning_rate": 0,
         "backbone_rate": 0, "warmup": 0, "drop": 0, "momentum": 0, "weight_decay": 0, "clip_gradient": 0, "ema_decay": 0,
         "label_smoothing": 0, "teacher_weight": 0, "teacher_temperature": 0.01, "views": 1, "drop_path": 0,
         "crop_padding": 0, "lighting": 0, "policy_operations": 0, "policy_magnitude": 0, "policy_spread": 0, "erasing": 0,
         "mixup": 0, "cutmix": 0, "mixing": 0, "skip_learned": 0}  # fmt: skip
MOST = {"warmup": 1, "momentum": 1, "ema_decay": 0.999999, "label_smoothing": 1, "teacher_weight": 1, "drop": 1,
        "drop_path": 0.9, "crop_padding": 1, "policy_magnitude": 10, "erasing": 1, "mixing": 1,
        "skip_learned": 0.95}  # fmt: skip


def _fitting(name: str, value: Any) -> Any:
    """A field's value as its type has it. ValueError, naming the field, if it can't be."""
    kind: Any = _kinds()[name]
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
            example = list(getattr(Recipe, name)) or [0.5, 0.75]
            raise ValueError(f"{name} is a list of numbers, such as {example}, not {value!r}")
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


@functools.cache
def _kinds() -> dict[str, Any]:
    return get_type_hints(Recipe)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
