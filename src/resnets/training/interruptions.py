"""What is asked of a run from outside: to stop (Ctrl-C), or to end (SIGTERM, as before a machine is taken away)."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from resnets.errors import Terminated, WorkFailed


class Stopped(WorkFailed):
    """Ctrl-C: the step in hand was finished and saved."""


class Interruptions:
    """The signal that came, if one did."""

    def __init__(self) -> None:
        self.number: int | None = None

    def asked(self, number: int) -> bool:
        """Whether it is this one."""
        return self.number == number


def stop(terminate: bool, step: int, steps: int) -> None:
    """Raise Terminated or Stopped, saying where the run is."""
    raise (Terminated if terminate else Stopped)(f"stopped after step {step} of {steps}")


@contextmanager
def interruptions() -> Iterator[Interruptions]:
    """Within the block Ctrl-C and SIGTERM are noted; a second Ctrl-C does what it ever does.

    A second SIGTERM doesn't: a scheduler sends it to a process and to the one that started it, which passes it on.
    """
    asked = Interruptions()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: Any) -> None:
        asked.number = number
        if number == signal.SIGINT:
            signal.signal(number, before[signal.SIGINT])

    for number in before:
        signal.signal(number, note)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
