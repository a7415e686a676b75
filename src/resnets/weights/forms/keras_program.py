"""Keras as a program of its own, with PyTorch beneath: `python -m resnets.weights.forms.keras_program WEIGHTS OUT NETWORK`.

Keras takes its backend once, from the environment, and TensorFlow's isn't wanted here: so a whole model is built, filled
and saved in a child process, and nothing else of the library imports Keras.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from resnets.architecture import Architecture
from resnets.errors import MissingExtra, WorkFailed, need
from resnets.weights.ecosystems.keras import BLOCKS

LACKING = 3  # exit status where a library isn't installed


def write_whole(weights: Path, out: Path, net: Architecture) -> Path:
    """Let Keras save the whole model with the weights of a `.weights.h5` as `out`, `.keras` or `.h5`; `out`.

    Raises MissingExtra where Keras or PyTorch isn't installed, and WorkFailed where Keras fails.
    """
    command = [sys.executable, "-m", __name__, str(weights), str(out), json.dumps(net.to_json())]
    environment = {
        **os.environ,
        "KERAS_BACKEND": "torch",
        "MALLOC_MMAP_THRESHOLD_": "65536",  # glibc then gives back what is freed
    }
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)
    if done.returncode == 0 and out.is_file():
        return out
    last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
    if done.returncode == LACKING:
        raise MissingExtra(last)
    raise WorkFailed(f"Keras could not save the whole model: {last}; as .weights.h5 it is written without Keras")


def keras_on_torch(purpose: str) -> ModuleType:
    """Keras over PyTorch, whatever the environment and ~/.keras say; images are [n, height, width, channels] there.

    For a process that hasn't imported Keras, which imports TensorFlow too where it finds it: here it doesn't. Raises
    MissingExtra where Keras or PyTorch isn't installed.
    """
    os.environ["KERAS_BACKEND"] = "torch"
    sys.modules.setdefault("tensorflow", cast(Any, None))
    need("torch", "convert", purpose)
    keras = need("keras", "convert", purpose)
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    return keras


def built(keras: ModuleType, net: Architecture, activation: str | None) -> Any:
    """Keras Applications' network of these blocks, channels and classes, for images of any size from 32 pixels up."""
    how = {"input_tensor": keras.Input((None, None, net.channels)), "classes": net.classes, "weights": None}
    how |= {"classifier_activation": activation}
    model = getattr(keras.applications, BLOCKS[net.blocks])(**how) if net.blocks in BLOCKS else _of_other_blocks(net, how)
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)  # else it takes a list of one tensor


def _of_other_blocks(net: Architecture, how: dict[str, Any]) -> Any:
    application = need(
        "keras.src.applications.resnet", "convert", "a ResNet of other blocks"
    )  # what its ResNet50 is made by

    def stages(x: Any) -> Any:
        for stage, blocks in enumerate(net.blocks):
            stride = 2 if stage else 1
            x = application.stack_residual_blocks_v1(x, 64 * 2**stage, blocks, stride1=stride, name=f"conv{stage + 2}")
        return x

    return application.ResNet(stages, preact=False, use_bias=True, **how)


def main() -> int:
    weights, out, net = Path(sys.argv[1]), Path(sys.argv[2]), Architecture.from_json(json.loads(sys.argv[3]))
    try:
        keras = keras_on_torch(f"writing {out.suffix}")
    except MissingExtra as error:
        print(error, file=sys.stderr)
        return LACKING
    with keras.device("cpu"):
        model = built(keras, net, "softmax")
        model.load_weights(weights)
        if out.suffix == ".keras":
            _save_zipped(model, out)
        else:
            model.save(out)
    return 0


def _save_zipped(model: Any, out: Path) -> None:
    """A .keras file by way of a folder: what Keras zips itself, it holds in memory twice."""
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        model.save(folder, zipped=False)
        with zipfile.ZipFile(out, "w") as archive:
            for name in ("metadata.json", "config.json", "model.weights.h5"):
                with (Path(folder) / name).open("rb") as source, archive.open(name, "w", force_zip64=True) as target:
                    shutil.copyfileobj(source, target, 1 << 20)


if __name__ == "__main__":
    sys.exit(main())
