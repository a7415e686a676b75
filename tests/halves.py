"""A small network and short runs of it, whole or killed in the middle and resumed."""

import contextlib
from dataclasses import replace

import pytest

from resnets import architecture
from resnets.training import train_run
from resnets.training.folder import checkpoint

SETTINGS = {"model": "resnet8", "init": "none", "epochs": 2, "batch_size": 128, "val": 0.2, "save_every": "1"}


@pytest.fixture(scope="module", autouse=True)
def small():
    """While it is there, "resnet8" is the name of a small network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(architecture.NAMED, "resnet8", replace(architecture.named("resnet20"), blocks=(1, 1, 1), width=4))
        yield


class Killed(BaseException):
    """What a kill is in one process."""


def whole(out, **options):
    """A run's folder."""
    return train_run("digits", out=out, **{**SETTINGS, **options})


def broken(out, step, **options):
    """A run that is killed right after the checkpoint of a step, and resumed; its folder."""
    begun(out, step, **options)
    return train_run(resume=out)


def begun(out, step, **options):
    """The folder of a run that was killed right after the checkpoint of a step."""
    real = checkpoint.save

    def save(folder, network, optimizer, progress, *others):
        real(folder, network, optimizer, progress, *others)
        if progress["step"] == step:
            raise Killed

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(checkpoint, "save", save)
        whole(out, **options)
        pytest.fail("the run ended before its kill")
    return out


def same_bytes(one, other):
    """Whether two runs kept the same models."""
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in ("best.safetensors", "last.safetensors"))
