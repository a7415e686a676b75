"""What a network or a model is, layer by layer: behind `resnets summary`."""

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from resnets import complexity
from resnets.architecture import Architecture, name_of, named
from resnets.complexity import Layer, layers
from resnets.model import Model, load
from resnets.weights.hub import names_of


def table(every: bool = False) -> list[dict[str, Any]]:
    """Table 1 of the paper: a row for 18, 34, 50, 101 and 152. With `every`: every named network, each with the names of
    pretrained weights that `convert` and `train --init` fetch."""
    rows = complexity.table(every)
    return [{**row, "pretrained": names_of(row["name"])} for row in rows] if every else rows


@dataclass(frozen=True)
class Summary:
    """The layers of a network, and of a model also its classes, preprocessing, training and accuracy."""

    net: Architecture
    size: int  # pixels of the input
    layers: list[Layer]
    model: Model | None = None

    @property
    def title(self) -> str:
        """One line."""
        return f"{name_of(self.net)}, {self.net.classes} classes, {self.size}×{self.size} input"

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What the model file says beyond its layers."""
        if self.model is None:
            return []
        model, recipe, data, accuracy = self.model, self.model.recipe, self.model.data, self.model.accuracy
        how = model.preprocessing
        shown = ", ".join(model.classes[:20]) + (f" and {len(model.classes) - 20} more" if len(model.classes) > 20 else "")
        found = [("classes", shown)]
        found.append(("preprocessing", "not known" if how is None else how.in_words))
        if recipe:
            length = f"{recipe['epochs']:g} epochs" if recipe.get("epochs") else f"{recipe.get('steps')} steps"
            found.append(
                ("trained", f"recipe {recipe.get('name')}, {length}, seed {recipe.get('seed')}, from {recipe.get('init')}")
            )
        if data:
            found.append(
                ("data", f"{data.get('name')}, {data.get('images')} images, fingerprint {str(data.get('fingerprint'))[:12]}")
            )
        if accuracy:
            low, high = accuracy["interval"]
            said = (
                f"top-1 {accuracy['top1']:.2%} ({low:.1%} – {high:.1%}) on {accuracy['images']} images, {accuracy['split']}"
            )
            found.append(("measured", f"{said} of {accuracy['data']}"))
        return [*found, ("sha256", model.sha256)]

    def to_json(self) -> dict[str, Any]:
        """The JSON document of `resnets summary`."""
        document = {
            "name": name_of(self.net),
            "architecture": self.net.to_json(),
            "input": [self.net.channels, self.size, self.size],
            "parameters": sum(layer.parameters for layer in self.layers),
            "macs": sum(layer.macs for layer in self.layers),
            "layers": [{**asdict(layer), "output": list(layer.output)} for layer in self.layers],
        }
        if self.model is not None:
            own = self.model.document()
            document |= {
                key: own[key] for key in ("classes", "preprocessing", "recipe", "data", "accuracy", "versions", "sha256")
            }
        return document


def summarise(network: str | os.PathLike[str], size: int | None = None, shortcut: str | None = None) -> Summary:
    """A named network, or a model file or run folder, at an input of `size` pixels (its own if not given).

    Raises ValueError for an unknown name or a file that is no model.
    """
    if isinstance(network, str) and not Path(network).exists() and not network.endswith(".safetensors"):
        changes = {} if shortcut is None else {"shortcut": shortcut}
        net, model = named(network, **changes), None
    else:
        model = load(network)
        net = model.architecture
        if shortcut is not None:
            net = replace(net, shortcut=cast(Literal["A", "B", "C"], shortcut))
        if size is None and model.preprocessing is not None:
            size = model.preprocessing.size
    size = net.natural_input if size is None else size
    return Summary(net, size, layers(net, size), model)
