"""What Keras itself writes and computes, for tests/test_weights_keras.py. Needs [convert].

`record_keras.py record` writes keras.json beside: the layers of Keras Applications' networks in Keras' order, as its own
files have them, and the logits of a small one. `small FOLDER` and `full FOLDER NAME` save models with seeded weights in
every form, and `logits FILE OUT` says what Keras gets from a file. KERAS_BACKEND chooses the backend, PyTorch by default.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")
sys.path.insert(0, str(Path(__file__).parents[1]))

import h5py
import keras
import numpy as np
from keras.src.applications import resnet
from seeded import images, seeded

BLOCKS, CLASSES, SIZE = (2, 1), 5, 64  # of the small network
FULL = {"ResNet50": 224, "ResNet101": 96, "ResNet152": 96}  # pixels of what is asked


def small(include_top=True, preact=False):
    """Two stages, the first with a block that doesn't project: two units of ResNet50's kind, or of ResNet50V2's."""
    stack = resnet.stack_residual_blocks_v2 if preact else resnet.stack_residual_blocks_v1

    def stages(x):
        for stage, blocks in enumerate(BLOCKS):
            x = stack(x, 64 * 2**stage, blocks + preact, stride1=1 if stage == 0 else 2, name=f"conv{stage + 2}")
        return x

    given = keras.Input((None, None, 3))
    how = {"weights": None, "input_tensor": given, "classes": CLASSES, "include_top": include_top}
    return fill(resnet.ResNet(stages, preact=preact, use_bias=True, **how))


def fill(model):
    """Every variable from its name; a block's last norm is small, so that a deep network's maps keep their size."""
    for layer in model.layers:
        for variable in layer.weights:
            name = f"{layer.name}/{variable.name}"
            variable.assign(seeded(name, tuple(variable.shape)) * (0.2 if name.endswith("_3_bn/gamma") else 1))
    return model


def logits(model, size):
    """Of a model whose last layer is its head, without the softmax."""
    model.layers[-1].activation = keras.activations.linear
    asked = images(2, model.input_shape[-1], size).transpose(0, 2, 3, 1)
    return keras.ops.convert_to_numpy(model(np.ascontiguousarray(asked), training=False))


def save(model, folder, name):
    for suffix in (".weights.h5", ".keras", ".h5"):
        (model.save_weights if suffix == ".weights.h5" else model.save)(Path(folder) / f"{name}{suffix}")


def save_small(folder):
    """The small network in every form, and models that people save which aren't it."""
    own = small()
    save(own, folder, "small")
    np.save(Path(folder) / "small.npy", logits(own, SIZE))
    trained = small()
    trained.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    trained.fit(np.zeros((2, 32, 32, 3), np.float32), np.eye(CLASSES)[:2], verbose=0)
    save(trained, folder, "trained")
    np.save(Path(folder) / "trained.npy", logits(trained, SIZE))
    base = small(include_top=False)
    save(base, folder, "features")
    pooled = keras.layers.GlobalAveragePooling2D()(base.output)
    save(keras.Model(base.input, keras.layers.Dense(7, name="my_head")(pooled)), folder, "head")
    save(
        keras.Sequential([small(include_top=False), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(7)]),
        folder,
        "nested",
    )
    given = keras.Input((None, None, 3))
    save(keras.Model(given, small()(keras.layers.Rescaling(1 / 255)(given))), folder, "wrapped")
    save(small(preact=True), folder, "preact")
    save(keras.applications.MobileNetV2(weights=None, alpha=0.35, input_shape=(32, 32, 3)), folder, "mobilenet")


def save_full(folder, name):
    model = fill(getattr(keras.applications, name)(weights=None))
    save(model, folder, name)
    asked = FULL[name]
    free = getattr(keras.applications, name)(weights=None, input_tensor=keras.Input((None, None, 3)))
    free.set_weights(model.get_weights())
    np.save(Path(folder) / f"{name}.npy", logits(free, asked))


def of_file(path, out):
    """The logits that Keras gets from a file; a file of weights alone is one of ResNet50, 101 or 152 by its name."""
    if path.name.endswith(".weights.h5"):
        model = getattr(keras.applications, path.name.removesuffix(".weights.h5"))(
            weights=None, input_tensor=keras.Input((None, None, 3))
        )
        model.load_weights(path)
    else:
        model = keras.saving.load_model(path, safe_mode=True)
    assert model.layers[-1].activation is keras.activations.softmax
    np.save(out, logits(model, FULL.get(path.name.split(".")[0], SIZE)))


def rows(model):
    """[place, name, shapes of variables] of every layer with weights, in Keras' order, as its file has them."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_weights(Path(folder) / "model.weights.h5")
        with h5py.File(Path(folder) / "model.weights.h5", "r") as file:
            found = {inside["vars"].attrs["name"]: (place, inside["vars"]) for place, inside in file["layers"].items()}
            return [
                [
                    found[layer.name][0],
                    layer.name,
                    [list(found[layer.name][1][str(i)].shape) for i in range(len(found[layer.name][1]))],
                ]
                for layer in model.layers
                if layer.weights
            ]


def by_name(model):
    """[layer, paths of its weights], as the older form has them."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.h5")
        with h5py.File(Path(folder) / "model.h5", "r") as file:
            group = file["model_weights"]
            return [[str(name), [str(n) for n in group[name].attrs["weight_names"]]] for name in group.attrs["layer_names"]]


def record():
    networks = {name: getattr(keras.applications, name)(weights=None) for name in (*FULL, "ResNet50V2")}
    document = {
        "keras": keras.__version__,
        "layers": {name: rows(model) for name, model in networks.items()} | {"small": rows(small())},
        "weightless": {
            name: [layer.name for layer in model.layers if not layer.weights] for name, model in networks.items()
        },
        "variables": [[f"{layer.name}/{v.name}", list(v.shape)] for layer in small().layers for v in layer.weights],
        "by_name": by_name(small()),
        "logits": logits(small(), SIZE).tolist(),
    }
    lines = json.dumps(document, separators=(",", ":")).replace("]],[", "]],\n[")
    Path(__file__).with_name("keras.json").write_text(lines + "\n")


if __name__ == "__main__":
    verb, *given = sys.argv[1:]
    if verb == "record":
        record()
    elif verb == "small":
        save_small(given[0])
    elif verb == "full":
        save_full(*given)
    else:
        of_file(Path(given[0]), given[1])
