"""Model: one file that carries everything needed to use it ten years from now.

`NAME.safetensors` holds the weights and, in its header under the single key `resnets`, a JSON document: format number,
architecture, class names, preprocessing, recipe, the training data's fingerprint and which part was held out, measured
accuracy, versions, and a hash of the tensors. No times, no paths, no host names: the same training gives the same bytes.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
from safetensors.numpy import save as to_bytes
from safetensors.numpy import save_file

from resnets import machine
from resnets.architecture import Architecture
from resnets.data.preprocessing import Preprocessing
from resnets.files import making
from resnets.graph import weight_shapes

if TYPE_CHECKING:
    from resnets.networks import ResNet

FORMAT = 1
KEY = "resnets"
NOT_OURS = "not a model of resnets"
COUNTER = ".num_batches_tracked"


@dataclass(frozen=True)
class Model:
    """An architecture with weights, and what belongs to them.

    Raises ValueError where the weights aren't the architecture's, or classes and logits differ in number.
    """

    architecture: Architecture
    classes: tuple[str, ...]  # names, in the order of the logits
    preprocessing: Preprocessing | None  # None: not known, as in weights from elsewhere
    state: dict[str, np.ndarray] = field(repr=False)  # torchvision's names; float32, the norms' counters int64
    recipe: dict[str, Any] = field(default_factory=dict)  # how it was trained
    data: dict[str, Any] = field(default_factory=dict)  # of the training data: name, fingerprint, images, what was held out
    accuracy: dict[str, Any] = field(default_factory=dict)  # measured: top1, top5, images, split, …
    versions: dict[str, str] = field(default_factory=dict)  # of the packages that trained it

    def __post_init__(self) -> None:
        if len(self.classes) != self.architecture.classes:
            raise ValueError(f"{len(self.classes)} class names for {self.architecture.classes} logits")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("two classes have the same name")
        how = self.preprocessing
        if how is not None and how.channels != self.architecture.channels:
            raise ValueError(
                f"preprocessing gives {how.channels} channels, and the network takes {self.architecture.channels}"
            )
        object.__setattr__(self, "state", _checked(self.architecture, self.state))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the one file: whole, by one rename, or not at all. The same model gives the same bytes."""
        target = Path(path)
        if target.suffix != ".safetensors":
            raise ValueError(f"a model is saved as NAME.safetensors, not {target.name}")
        if not target.parent.is_dir():
            raise ValueError(f"there is no folder {target.parent} to save {target.name} in")
        write_tensors(target, self.state, self._header())
        return target

    def to_bytes(self) -> bytes:
        """The file's content."""
        return to_bytes(self.state, self._header())

    def _header(self) -> dict[str, str]:
        return {KEY: json.dumps(self.document(), sort_keys=True, ensure_ascii=False)}

    def document(self) -> dict[str, Any]:
        """What the header says of the model, as plain values."""
        document = {
            "format": FORMAT,
            "architecture": self.architecture.to_json(),
            "classes": list(self.classes),
            "preprocessing": self.preprocessing and self.preprocessing.to_json(),
            "recipe": self.recipe,
            "data": self.data,
            "accuracy": self.accuracy,
            "versions": self.versions,
            "sha256": self.sha256,
        }
        return {**document, "document_sha256": _hash_of_document(document)}

    @property
    def sha256(self) -> str:
        """A hash of the tensors: names, kinds, shapes and numbers."""
        return hash_of(self.state)

    def network(self) -> "ResNet":
        """The model as a `torch.nn.Module` in evaluation mode, with its weights. Needs PyTorch."""
        from resnets.errors import need

        torch = need("torch", "train", "a network of PyTorch modules")
        from resnets.networks import ResNet

        with torch.device("meta"):
            net = ResNet(self.architecture)
        net.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in self.state.items()}, assign=True)
        return net.eval()


def write_tensors(path: Path, arrays: Mapping[str, np.ndarray], header: dict[str, str]) -> None:
    """A safetensors file of contiguous arrays: whole or not at all, and without a copy of the numbers in memory."""
    try:
        with making(path) as beside:
            save_file(dict(arrays), beside, header)
    except safetensors.SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))  # a full disk, say
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from None


def load(path: str | os.PathLike[str]) -> Model:
    """Read a model: a file, or a run folder, which means its `best.safetensors`. Runs no code of the file.

    Format number, shapes and the hashes of tensors and document are checked. Raises ValueError, in a sentence, where the
    file is missing, cut off, changed, of a newer format, or no model of ours.
    """
    source = resolve(path)
    try:
        with safetensors.safe_open(source, framework="numpy") as file:
            metadata = file.metadata() or {}
            if KEY not in metadata:
                raise ValueError(f"{source} holds tensors but no {KEY!r} document: {NOT_OURS}; --init reads such weights")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{source} is no whole safetensors file: {error}") from None
    try:
        return from_document(json.loads(metadata[KEY]), state)
    except (ValueError, KeyError, TypeError) as error:
        reason = f"its header lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{source}: {reason}") from None


def from_document(document: Mapping[str, Any], state: dict[str, np.ndarray]) -> Model:
    """The model of a header's document and tensors. Raises ValueError or KeyError where they don't fit."""
    if document["format"] > FORMAT:
        raise ValueError(f"format {document['format']} is newer than this resnets knows ({FORMAT}); update resnets")
    if hash_of(state) != document["sha256"] or _hash_of_document(document) != document["document_sha256"]:
        raise ValueError("its content isn't what was saved (a hash differs): the file is damaged, copy it again")
    how = document["preprocessing"]
    return Model(
        architecture=Architecture.from_json(document["architecture"]),
        classes=tuple(document["classes"]),
        preprocessing=None if how is None else Preprocessing.from_json(how),
        state=state,
        **{name: document[name] for name in ("recipe", "data", "accuracy", "versions")},
    )


def resolve(path: str | os.PathLike[str]) -> Path:
    """The model file that a path means. ValueError where there is none."""
    given = Path(path)
    source = given / "best.safetensors" if given.is_dir() else given
    if not source.is_file():
        what = f"the folder {given} holds no best.safetensors" if given.is_dir() else f"there is no file {given}"
        raise ValueError(f"{what}; a model is a .safetensors file of resnets, or a run folder")
    return source


def _checked(net: Architecture, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights as contiguous float32 (counters int64), every name and shape the architecture's."""
    shapes = weight_shapes(net)
    if not any(name.endswith(COUNTER) for name in state):  # files from before 2018
        state = {**state, **{name: np.zeros((), np.int64) for name in shapes if name.endswith(COUNTER)}}
    missing, extra = sorted(shapes.keys() - state.keys()), sorted(state.keys() - shapes.keys())
    if missing or extra:
        said = [f"{word} {names[0]}" + f" and {len(names) - 1} more" * (len(names) > 1)
                for word, names in (("lack", missing), ("have an unknown", extra)) if names]  # fmt: skip
        raise ValueError(f"the weights {' and '.join(said)}")
    for name, shape in shapes.items():
        if state[name].shape != shape:
            raise ValueError(f"the weight {name} is {list(state[name].shape)}, and the architecture's is {list(shape)}")
    return {
        name: np.ascontiguousarray(state[name], np.int64 if name.endswith(COUNTER) else np.float32).reshape(shapes[name])
        for name in shapes
    }


def _hash_of_document(document: Mapping[str, Any]) -> str:
    """A hash of what the header says, itself left out."""
    said = {key: value for key, value in document.items() if key != "document_sha256"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def hash_of(state: Mapping[str, np.ndarray]) -> str:
    """A hash of every tensor's name, kind, shape and own hash; the tensors' are made on all cores."""
    names = sorted(state)
    with ThreadPoolExecutor(machine.cores()) as pool:
        digests = list(pool.map(_hash_of_tensor, (state[name] for name in names)))
    lines = (
        f"{name} {state[name].dtype.str} {list(state[name].shape)} {digest}\n"
        for name, digest in zip(names, digests, strict=True)
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _hash_of_tensor(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data.cast("B") if array.size else b"").hexdigest()
