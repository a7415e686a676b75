"""Recipes by name or from a TOML file, and changes of their fields as a command line gives them."""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from resnets.training.recipe import Recipe


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
