"""`resnets convert`: from any source to any target, with a certificate; or nothing at all."""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import resnets
from resnets.architecture import name_of
from resnets.conversion import proof, writing
from resnets.data.preprocessing import Preprocessing
from resnets.files import sha256, write_json
from resnets.weights import hub, reading
from resnets.weights.ecosystem import Ecosystem
from resnets.weights.ecosystems import ecosystems
from resnets.weights.reading import Reading, Wishes

log = logging.getLogger("resnets")

FORMAT = 1
CERTIFICATE = "certificate.json"
DIRECT = ("folder", "Keras", "TensorFlow")  # forms of a source that its own library opens as they are


@dataclass(frozen=True)
class Target:
    """What is written."""

    out: Path
    to: str  # resnets, or an ecosystem's name
    keep_half: bool = False  # half precision stays, where the form can
    licence: str | None = None  # for the model card
    check: bool = True


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    to: str = writing.OURS,
    classes: str | os.PathLike[str] | None = None,
    preprocessing: str | os.PathLike[str] | Preprocessing | None = None,
    licence: str | None = None,
    check: bool = True,
    **said: Any,
) -> dict[str, Any]:
    """Move weights from `source` to `out` and prove that they predict the same; the certificate, which is written too.

    `source` is a model of ours, a file or folder of another ecosystem, or a name to fetch (`timm:resnet50.a1_in1k`). `to` is
    resnets, torchvision, timm, huggingface, keras, tensorflow or cifar; `out`'s suffix chooses the form, and it isn't there
    yet. What the source doesn't say itself: `ecosystem` (as --from), `architecture` (--arch), `weights` ("plain" or "ema"),
    `classes` (a text file with a name a line, or "imagenet"), `preprocessing` (a name, a JSON file or a value). `keep_half`
    writes float16 or bfloat16 where the source has it; `licence` is for the model card. Without `check` nothing is proven,
    and the certificate says so.

    Raises ValueError where the source isn't a residual network's, or may be several; where the target can't have this
    network; or where `out` exists. Raises WorkFailed where the proof fails, and then leaves nothing.
    """
    said = {name: None if value == "auto" else value for name, value in said.items()}
    keep_half = bool(said.pop("keep_half", False))
    target = Target(Path(out), to, keep_half, licence, check)
    _check_target(target)
    given = preprocessing if isinstance(preprocessing, Preprocessing | None) else _preprocessing(preprocessing)
    wishes = Wishes(classes=classes, preprocessing=given, **said)
    found = reading.read(source, wishes)
    writing.check_representable(found.model, to)
    if to != writing.OURS:
        for words in ecosystems()[to].not_carried(found.model):
            log.warning("%s: not carried over: %s", to, words)
    with _beside(target.out) as place:
        made = place / target.out.name
        writing.write(found.model, made, to, _stored(found, target), licence)
        document = _certificate(str(source), found, target, made)
        _put(place, made, target, document)
    return document


def _check_target(target: Target) -> None:
    names = (writing.OURS, *ecosystems())
    if target.to not in names:
        raise ValueError(f"--to is one of {', '.join(names)}, not {target.to!r}")
    form = writing.form_of(target.out, target.to)
    if not target.out.parent.is_dir():
        raise ValueError(f"there is no folder {target.out.parent} to write {target.out.name} in")
    there = [target.out, target.out.with_name(f"{target.out.name}.index")] if form == "prefix" else [target.out]
    for path in there:
        if os.path.lexists(path) and not (form == "folder" and path.is_dir() and not any(path.iterdir())):
            raise ValueError(f"{path} exists; remove it, or give another OUT")


def _preprocessing(given: str | os.PathLike[str]) -> Preprocessing:
    from resnets.prediction.preparing import preprocessing_of

    return preprocessing_of(given)


def _stored(found: Reading, target: Target) -> str:
    """The kind of number that is written: float32, or the source's half precision where that is asked for."""
    stored = "float32" if found.source is None else found.source.stored
    if not target.keep_half:
        if stored in ("float16", "bf16"):
            log.info("stored in %s, written in float32, which changes no number", stored)
        return "float32"
    if target.to in (writing.OURS, "keras", "tensorflow"):
        raise ValueError(f"weights for {target.to} are float32; leave --keep-half out")
    return stored


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A folder beside `out` where everything is made; it is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.", suffix=".part") as place:
        yield Path(place)


def _put(place: Path, made: Path, target: Target, document: dict[str, Any]) -> None:
    """Bring what was made to its place; the certificate comes last."""
    if made.is_dir():
        write_json(made / CERTIFICATE, document)
        made.replace(target.out)
        return
    files = sorted(path for path in place.iterdir() if path.name.startswith(made.name))
    for path in sorted(files, key=lambda path: path.suffix == ".index"):  # an index after what it lists
        path.replace(target.out.with_name(path.name))
    write_json(target.out.with_name(f"{target.out.name}.{CERTIFICATE}"), document)


def _certificate(name: str, found: Reading, target: Target, made: Path) -> dict[str, Any]:
    """What was read, what was written, what became of everything, and the proofs."""
    model, source = found.model, found.source
    ecosystem = found.ecosystem
    files = (
        [path for path in made.rglob("*") if path.is_file()] if made.is_dir() else sorted(made.parent.glob(f"{made.name}*"))
    )
    proofs = _proofs(found, target, made) if target.check else []
    return {
        "format": FORMAT,
        "source": {
            "name": name if hub.is_name(name) else Path(name).name,
            "ecosystem": "resnets" if source is None else ecosystem.name if ecosystem else "PyTorch",
            "form": "model of resnets" if source is None else source.form,
            "stored": "float32" if source is None else source.stored,
        },
        "target": {
            "name": target.out.name,
            "ecosystem": target.to,
            "form": writing.form_of(target.out, target.to),
            "files": {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in files},
        },
        "architecture": {"name": name_of(model.architecture), **model.architecture.to_json()},
        "classes": list(model.classes),
        "preprocessing": model.preprocessing and model.preprocessing.to_json(),
        "weights_sha256": model.sha256,
        "parameters": sum(array.size for name, array in model.state.items() if not name.endswith(_BUFFERS)),
        "peeled": [] if source is None else list(source.peeled),
        "folded": list(found.taken.folded),
        "dropped": list(found.taken.dropped),
        "not_carried": [] if target.to == writing.OURS else list(ecosystems()[target.to].not_carried(model)),
        "not_finite": found.not_finite,
        "proof": _strength(proofs),
        "proofs": proofs,
        "licence": target.licence,
        "versions": {name: version(name) for name in ("numpy", "safetensors")} | {"resnets": resnets.__version__},
    }


_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def _strength(proofs: list[dict[str, Any]]) -> str:
    """In a word what the proofs together hold: the weakest of them."""
    if not proofs:
        return "none"
    return "parity" if all(each["kind"] == "parity" for each in proofs) else "round trip"


def _proofs(found: Reading, target: Target, made: Path) -> list[dict[str, Any]]:
    """A proof of the source and one of the target, each by its own library where that is installed."""
    proofs = []
    if found.source is not None:
        proofs.append({"of": "source", **_of_source(found, made.parent)})
    if target.to != writing.OURS:
        ecosystem = ecosystems()[target.to]
        if found.not_finite or proof.library(ecosystem) is None:
            proofs.append({"of": "target", **proof.there_and_back(found.model, ecosystem, made)})
        else:
            proofs.append({"of": "target", **proof.parity(found.model, ecosystem, made)})
    elif found.source is None:
        proofs.append({"of": "target", **proof.round_trip(found.model.state, reading.read(made).model.state)})
    return proofs


def _of_source(found: Reading, place: Path) -> dict[str, Any]:
    """Whether the source's library gets our logits; where it can't be asked, whether the numbers come back as they were."""
    source, ecosystem, model = found.source, found.ecosystem, found.model
    assert source is not None
    witness: Ecosystem = ecosystem or ecosystems()["torchvision"]
    direct = any(word in source.form for word in DIRECT)
    can = (
        witness is not None
        and proof.library(witness) is not None
        and (direct or witness.why_not(model.architecture) is None)
    )
    if not can or found.not_finite or witness is None:
        return proof.back_and_forth(found)
    if direct:
        return proof.parity(model, witness, source.path)
    form = witness.forms[0]
    path = place / "source" / (f"weights{form}" if form.startswith(".") else "weights")
    path.parent.mkdir()
    try:
        writing.write(model, path, witness.name)
        return proof.parity(model, witness, path)
    finally:
        shutil.rmtree(path.parent)
