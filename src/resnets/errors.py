"""The errors that reach a user: one or two sentences that name what was given, what was wanted and what to do.

A request that can't be is a `ValueError` (exit status 2 of the command line). Work that failed though the request was
right is a `WorkFailed`, and a library that isn't installed a `MissingExtra` (both exit status 1).
"""

import importlib
from types import ModuleType


class WorkFailed(RuntimeError):
    """The request was right and the work failed: a loss that is no number, a full disk, no image that could be read."""


class Terminated(WorkFailed):
    """The work was asked to end (SIGTERM), and what was done is saved: exit status 0."""


class Lost(WorkFailed):
    """Another process that worked on it has ended, and its own message says why."""


class MissingExtra(ImportError):
    """A library of one of the extras is needed and not installed."""


def need(module: str, extra: str, purpose: str) -> ModuleType:
    """Import `module`, or raise `MissingExtra` with the command that brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtra(f'{purpose} needs {error.name}, which isn\'t installed: pip install "resnets[{extra}]"') from None
