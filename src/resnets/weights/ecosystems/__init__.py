"""The ecosystems that weights move between, one file each; each file has an `ECOSYSTEM`, and is found by lying here."""

import importlib
import pkgutil
from functools import cache

from resnets.weights.ecosystem import Ecosystem


@cache
def ecosystems() -> dict[str, Ecosystem]:
    """Every ecosystem by its name."""
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found = [importlib.import_module(f"{__name__}.{module}").ECOSYSTEM for module in modules]
    return {ecosystem.name: ecosystem for ecosystem in found}
