"""Keras Applications' weights: by what Keras wrote and computed (recorded/keras.json); with [convert], by Keras itself."""

import errno
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from seeded import images, seeded

from resnets.architecture import named
from resnets.data.preprocessing import Preprocessing
from resnets.graph import weight_shapes
from resnets.model import Model
from resnets.weights.ecosystems import ecosystems
from resnets.weights.ecosystems.keras import (
    PREPROCESSING,
    blocks_of,
    check_classes,
    check_layers,
    layers,
    layers_by_place,
    variables,
)
from resnets.weights.shapes import COUNTER, architecture_of

HERE = Path(__file__).parent
RECORD = HERE / "recorded" / "record_keras.py"
RECORDED = json.loads((HERE / "recorded" / "keras.json").read_text())
KERAS = ecosystems()["keras"]
BLOCKS = {"ResNet50": (3, 4, 6, 3), "ResNet101": (3, 4, 23, 3), "ResNet152": (3, 8, 36, 3), "small": (2, 1)}
FORMS = (".weights.h5", ".keras", ".h5")
SMALL = named("resnet50", blocks=(2, 1), classes=5)


def weights_of_small():
    """As record_keras.py fills the small network."""
    return {
        name: seeded(name, tuple(shape)) * np.float32(0.2 if name.endswith("_3_bn/gamma") else 1)
        for name, shape in RECORDED["variables"]
    }


def model_of(weights):
    """What the names and shapes of Keras' weights say alone."""
    state = KERAS.to_ours(weights).state
    (net,) = KERAS.candidates(architecture_of({name: array.shape for name, array in state.items()}))
    return Model(net, tuple(map(str, range(net.classes))), None, state)


def logits_of(model, size):
    with torch.no_grad():
        return model.network()(torch.from_numpy(images(2, model.architecture.channels, size))).numpy()


def assert_same_logits(found, wanted):
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


def seeded_state(net):
    shapes = {name: shape for name, shape in weight_shapes(net).items() if not name.endswith(COUNTER)}
    last = ".bn3.weight"
    return {name: seeded(name, shape) * np.float32(0.2 if name.endswith(last) else 1) for name, shape in shapes.items()}


# Names, order and layouts, by what Keras wrote


@pytest.mark.parametrize("name", BLOCKS)
def test_layers_are_in_keras_order(name):
    assert [layer for _, layer, _ in RECORDED["layers"][name]] == list(layers(BLOCKS[name]))


@pytest.mark.parametrize("name", BLOCKS)
def test_names_follow_from_places_and_shapes(name):
    rows = RECORDED["layers"][name]
    kernels = {place: tuple(shapes[0]) for place, _, shapes in sorted(rows)}
    assert layers_by_place(kernels) == {place: layer for place, layer, _ in rows}
    check_classes({place: len(shapes) for place, _, shapes in rows})


def test_a_layers_variables_are_in_keras_order():
    found = [f"{layer}/{variable}" for layer in layers(SMALL.blocks) for variable in variables(layer)]
    assert found == [name for name, _ in RECORDED["variables"]]
    assert found == [
        f"{layer}/{path.split('/')[-1]}" for layer, paths in RECORDED["by_name"] for path in paths
    ]  # as the older form has them


@pytest.mark.parametrize("name", ["ResNet50", "ResNet101", "ResNet152"])
def test_every_layer_is_known(name):
    check_layers([*RECORDED["weightless"][name], *(layer for _, layer, _ in RECORDED["layers"][name])])


def test_logits_are_keras():
    model = model_of(weights_of_small())
    assert model.architecture == replace(SMALL, norm_epsilon=1.001e-5, norm_momentum=0.01, initialisation="xavier")
    assert_same_logits(logits_of(model, 64), np.array(RECORDED["logits"], np.float32))


def test_a_bias_goes_into_the_mean_of_its_norm():
    weights = weights_of_small()
    taken = KERAS.to_ours(weights)
    mean = weights["conv2_block1_0_bn/moving_mean"] - weights["conv2_block1_0_conv/bias"]
    assert np.array_equal(taken.state["layer1.0.downsample.1.running_mean"], mean)
    assert set(taken.folded) == {name for name in weights if name.endswith("_conv/bias")} and len(taken.folded) == 12


def test_weights_without_biases_are_taken():
    weights = {name: array for name, array in weights_of_small().items() if not name.endswith("_conv/bias")}
    taken = KERAS.to_ours(weights)
    assert taken.folded == () and np.array_equal(taken.state["bn1.running_mean"], weights["conv1_bn/moving_mean"])


@pytest.mark.parametrize("name", BLOCKS)
def test_there_and_back_is_the_same(name):
    net = replace(SMALL, blocks=BLOCKS[name])
    state = {key: np.zeros(shape, np.float32) for key, shape in weight_shapes(net).items()} if name != "small" else {
        **seeded_state(net), "bn1.num_batches_tracked": np.int64(7)}  # fmt: skip
    theirs = KERAS.from_ours(state, net)
    shapes = [tuple(shape) for _, layer, shapes in RECORDED["layers"][name] for shape in shapes]
    if name != "small":
        shapes[-2:] = [(2048, 5), (5,)]
    assert [array.shape for array in theirs.values()] == shapes
    back = KERAS.to_ours(theirs).state
    assert back.keys() == {key for key in state if not key.endswith(COUNTER)}
    assert all(np.array_equal(back[key], state[key]) for key in back)


def test_kernels_are_not_copied():
    state = seeded_state(SMALL)
    theirs = KERAS.from_ours(state, SMALL)
    assert np.shares_memory(theirs["conv2_block1_2_conv/kernel"], state["layer1.0.conv2.weight"])
    assert np.shares_memory(KERAS.to_ours(theirs).state["fc.weight"], state["fc.weight"])


def test_the_head_of_keras_2_is_known():
    weights = {name.replace("predictions/", "probs/"): array for name, array in weights_of_small().items()}
    assert_same_logits(logits_of(model_of(weights), 64), np.array(RECORDED["logits"], np.float32))


def test_slots_of_an_optimizer_are_dropped_by_name():
    slots = {
        name: np.zeros(3)
        for name in ("optimizer/vars/0", "_loss_tracker/vars/1", "optimizer_weights/Adam/m/conv1_conv/kernel:0")
    }
    taken = KERAS.to_ours(weights_of_small() | slots)
    assert taken.dropped == tuple(slots)
    assert len(taken.state) == len(KERAS.to_ours(weights_of_small()).state)


# What is refused, and as what


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            [layer for _, layer, _ in RECORDED["layers"]["ResNet50V2"]],
            r"ResNet50V2 \(pre-activation\); of Keras Applications",
        ),
        (["conv1_conv", "conv2_block1_0_bn", "conv2_block1_1_conv", "pool2_conv"], "a DenseNet"),
        (["conv1_conv", "conv2_block1_2_conv", "conv2_block1_2_reduce"], "a ResNeXt"),
        (["conv1", "bn_conv1", "res2a_branch2a"], "the ResNet50 of Keras before 2.3"),
        (["block1_conv1", "block1_conv1_bn", "block2_sepconv1"], "an Xception"),
        (["block1_conv1", "block1_conv2"], "a VGG"),
        (["conv2_block1_1_conv", "dense_2"], "has the layer 'dense_2'.*last is 'predictions'.*`classes`"),
        (["conv2_block1_1_conv", "dense", "dense_1"], "has the layer 'dense' and 1 more"),
        (["rescaling", "conv1_conv"], "has the layer 'rescaling'"),
        (["conv1_block1_1_conv"], "has the layer 'conv1_block1_1_conv'"),
        (["conv2_block0_1_conv"], "has the layer 'conv2_block0_1_conv'"),
    ],
)
def test_other_layers_are_named(names, said):
    with pytest.raises(ValueError, match=said):
        check_layers(names)
    with pytest.raises(ValueError, match=said):
        KERAS.to_ours({f"{name}/kernel": np.zeros((1, 1, 1, 1)) for name in names})


def test_a_resnet_v2_without_names_is_named():
    kernels = {place: tuple(shapes[0]) for place, _, shapes in RECORDED["layers"]["ResNet50V2"]}
    with pytest.raises(ValueError, match="ResNet50V2"):
        layers_by_place(kernels)


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ({"conv2d": 2, "depthwise_conv2d": 1}, "a MobileNet, an EfficientNet or a ResNeXt"),
        ({"conv2d": 2, "concatenate_3": 0}, "a DenseNet"),
        ({"functional": 0}, "have a layer of the class 'functional'"),
        ({"rescaling_1": 0}, "'rescaling'"),
        ({"conv2d_7": 3}, "layer at 'conv2d_7' has 3 variables"),
        ({"batch_normalization": 3}, "layer at 'batch_normalization' has 3 variables"),
        ({"activation": 1}, "layer at 'activation' has 1 variables"),
    ],
)
def test_other_classes_are_named(places, said):
    with pytest.raises(ValueError, match=said):
        check_classes(places)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda kernels: {**kernels, "dense_1": (5, 5)}, "2 dense layers"),
        (lambda kernels: {**kernels, "batch_normalization_99": (64,)}, "13 norms for 12 convolutions"),
        (lambda kernels: {**kernels, "conv2d_12": (1, 1, 512, 64)}, "no block begins with convolution 13, 1×1×512×64"),
        (lambda kernels: {**kernels, "conv2d_2": (3, 3, 64, 32)}, "no block begins with convolution 2, 1×1×64×64"),
        (lambda kernels: {"conv2d": (7, 7, 3, 64), "batch_normalization": (64,)}, "no convolutions of blocks"),
        (lambda kernels: {}, "no convolutions of blocks"),
        (lambda kernels: {**kernels, "conv2d_3": ()}, "hasn.t four axes"),
    ],
)
def test_other_numbers_of_layers_are_refused(change, said):
    kernels = {place: tuple(shapes[0]) for place, _, shapes in RECORDED["layers"]["small"]}
    with pytest.raises(ValueError, match=said):
        layers_by_place(change(kernels))


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("conv1_conv/gamma", np.zeros(64), "has the weight 'conv1_conv/gamma'; the layer 'conv1_conv' has kernel, bias"),
        ("conv1_bn/kernel", np.zeros(64), "the layer 'conv1_bn' has gamma, beta, moving_mean, moving_variance"),
        ("conv1_conv/kernel", np.zeros((3, 64)), r"conv1_conv/kernel has the shape \[3, 64\]"),
        ("predictions/kernel", np.zeros((1, 1, 3, 64)), r"predictions/kernel has the shape \[1, 1, 3, 64\]"),
        ("conv1_conv/bias", np.zeros(32), r"conv1_conv/bias \[32\] has no conv1_bn/moving_mean"),
        ("kernel", np.zeros(3), "has the layer ''"),
    ],
)
def test_other_weights_are_refused(name, array, said):
    with pytest.raises(ValueError, match=said):
        KERAS.to_ours({**weights_of_small(), name: array})


def test_a_network_without_its_head_is_features():
    weights = {name: array for name, array in weights_of_small().items() if not name.startswith("predictions")}
    with pytest.raises(ValueError, match="end before the fully connected layer"):
        model_of(weights)


# What it can be there, and what its files say


@pytest.mark.parametrize("name", ["resnet50", "resnet101", "resnet152"])
@pytest.mark.parametrize("changes", [{}, {"classes": 3}, {"channels": 1}, {"norm_epsilon": 1e-3}, {"norm_debias": True}])
def test_the_three_can_be_keras(name, changes):
    assert KERAS.why_not(named(name, **changes)) is None


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("resnet34", {}, "these are basic"),
        ("resnet50-v1.5", {}, "stride in the first 1×1, these in the 3×3"),
        ("resnet50-tf", {}, "not as TensorFlow's SAME"),
        ("preact-resnet50", {}, "pre-activation"),
        ("resnet50d", {}, "this one's is 'deep'"),
        ("resnet50", {"stem": "cifar"}, "this one's is 'cifar'"),
        ("resnet50", {"shortcut": "A"}, "these are A"),
        ("plain50", {}, "these are none"),
        ("resnet50", {"pool_shortcut": True}, "ResNet-D"),
        ("wide-resnet50-2", {}, "as wide as its stage"),
        ("resnext50-32x4d", {}, "these of 32"),
        ("resnet50", {"width": 32}, "this one with 32"),
        ("resnet50", {"blocks": (3, 4, 6, 4)}, "none has 3-4-6-4 blocks"),
    ],
)
def test_why_another_network_is_not_keras(name, changes, said):
    assert said in KERAS.why_not(named(name, **changes))


def test_preprocessing_is_imagenets_with_its_classes_alone():
    shapes = weight_shapes(named("resnet50"))
    assert KERAS.configured({}, shapes).preprocessing == PREPROCESSING
    for changes in ({"classes": 999}, {"channels": 1}):
        assert KERAS.configured({}, weight_shapes(named("resnet50", **changes))).preprocessing is None
    assert KERAS.configured({}, {}).preprocessing is None


def test_what_a_file_of_keras_has_no_place_for():
    model = Model(SMALL, tuple("abcde"), PREPROCESSING, seeded_state(SMALL))
    assert KERAS.not_carried(model) == ("the names of the classes",)
    assert KERAS.not_carried(replace(model, preprocessing=None)) == ("the names of the classes",)
    assert KERAS.not_carried(replace(model, preprocessing=Preprocessing())) == (
        "the names of the classes",
        "the preprocessing",
    )


def test_its_names_are_recognised_and_only_they():
    assert KERAS.recognises(weights_of_small())
    assert KERAS.recognises(f"{layer}/gamma" for _, layer, _ in RECORDED["layers"]["ResNet50V2"])
    assert not KERAS.recognises(weight_shapes(named("resnet50")))
    assert not KERAS.recognises(["resnet_v1_50/conv1/weights", "conv1/kernel", "dense/kernel"])
    assert blocks_of(
        [tuple(shapes[0]) for _, layer, shapes in RECORDED["layers"]["small"] if "conv" in layer and "bn" not in layer]
    ) == (2, 1)


# Files


def test_without_h5py_it_is_said_what_brings_it(tmp_path, monkeypatch):
    from resnets.errors import MissingExtra
    from resnets.weights.forms.hdf5 import read_keras, write_keras

    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "small.keras").write_bytes(b"PK\x03\x04")
    with pytest.raises(MissingExtra, match=r'reading small.keras needs h5py.*pip install "resnets\[convert\]"'):
        read_keras(tmp_path / "small.keras")
    with pytest.raises(MissingExtra, match=r"writing out\.h5 needs h5py"):
        write_keras(tmp_path / "out.h5", {}, SMALL)


def run(*command, **environment):
    """A program of this Python with Keras over PyTorch, or as `environment` says; its output."""
    env = {**os.environ, "KERAS_BACKEND": "torch", "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """What Keras saves of the small network and of others, in every form."""
    folder = tmp_path_factory.mktemp("keras")
    run(RECORD, "small", folder)
    return folder


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py")


def read(path):
    from resnets.weights.forms.hdf5 import read_keras

    return read_keras(path)


def write(path, state=None, net=SMALL):
    from resnets.weights.forms.hdf5 import write_keras

    write_keras(path, KERAS.from_ours(state or seeded_state(net), net), net)
    return path


def without_names(h5py, path, folder):
    """The file as Keras wrote it before it said the names of layers."""
    copy = Path(shutil.copy(path, folder / path.name))
    inside = copy
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder / "all")
        inside = folder / "all" / "model.weights.h5"
    with h5py.File(inside, "r+") as file:
        file.visititems(lambda name, item: item.attrs.pop("name", None) and None)
    if path.suffix == ".keras":
        with zipfile.ZipFile(copy, "w") as archive:
            for name in (folder / "all").iterdir():
                archive.write(name, name.name)
    return copy


@pytest.mark.convert
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["small", "trained"])
def test_every_form_gives_keras_logits(saved, name, form):
    weights = read(saved / f"{name}{form}")
    assert_same_logits(logits_of(model_of(weights), 64), np.load(saved / f"{name}.npy"))
    dropped = KERAS.to_ours(weights).dropped
    assert bool(dropped) == (name == "trained") and all("optimizer" in each or "_" in each for each in dropped)


@pytest.mark.convert
@pytest.mark.parametrize("form", [".weights.h5", ".keras"])
@pytest.mark.parametrize("name", ["small", "trained"])
def test_files_that_say_no_names_are_read_by_order(saved, tmp_path, h5py, name, form):
    weights, named = read(without_names(h5py, saved / f"{name}{form}", tmp_path)), read(saved / f"{name}{form}")
    assert weights.keys() == named.keys()
    assert all(np.array_equal(weights[key], named[key]) for key in named)


def write_as_keras_2(h5py, path, weights, chunks=1, cast=np.float32, given="any_image", beside=("avg_pool",)):
    """Weights alone, as Keras 2 and Keras Applications' downloads have them; names as bytes, layers in another order."""
    names = sorted({name.split("/")[0] for name in weights}, reverse=True)
    layers_of_file = [given, *names, "conv1_relu", *beside]
    with h5py.File(path, "w") as file:
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.2.4"
        for number, part in enumerate(np.array_split(np.array(layers_of_file, "S"), chunks)):
            file.attrs[f"layer_names{number}" if chunks > 1 else "layer_names"] = part
        for layer in layers_of_file:
            own = [name for name in reversed(list(weights)) if name.split("/")[0] == layer]
            group = file.create_group(layer)
            group.attrs["weight_names"] = np.array([f"{layer}/{name}:0" for name in own], "S")
            for name in own:
                group[f"{layer}/{name}:0"] = weights[name].astype(cast)
    return path


@pytest.mark.convert
@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize("cast", [np.float32, np.float64])
def test_the_form_of_keras_2(tmp_path, h5py, chunks, cast):
    weights = weights_of_small()
    found = read(write_as_keras_2(h5py, tmp_path / "weights.h5", weights, chunks, cast))
    assert found.keys() == weights.keys()
    assert all(np.array_equal(found[name], weights[name]) and found[name].dtype == np.float32 for name in weights)


@pytest.mark.convert
def test_a_layer_without_weights_that_changes_what_is_computed_is_refused(tmp_path, h5py):
    old = write_as_keras_2(h5py, tmp_path / "old.h5", weights_of_small(), beside=["rescaling"])
    with pytest.raises(ValueError, match="has the layer 'rescaling'"):
        read(old)
    new = write(tmp_path / "new.weights.h5")
    with h5py.File(new, "r+") as file:
        file.create_group("layers/rescaling/vars")
    with pytest.raises(ValueError, match="a layer of the class 'rescaling'"):
        read(new)


@pytest.mark.convert
def test_where_names_are_said_they_count_and_not_the_order(tmp_path, h5py):
    path = write(tmp_path / "out.weights.h5")
    wanted = read(path)
    with h5py.File(path, "r+") as file:
        for old, new in (("conv2d_3", "other"), ("conv2d_4", "conv2d_3"), ("other", "conv2d_4")):
            file["layers"].move(old, new)
    found = read(path)
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    with h5py.File(path, "r+") as file:
        file["layers/conv2d_3/vars"].attrs["name"] = "conv2_block1_0_conv"
    with pytest.raises(ValueError, match="two of its layers have the same name"):
        read(path)


@pytest.mark.convert
def test_layers_are_written_where_keras_writes_them(tmp_path, h5py):
    with h5py.File(write(tmp_path / "out.weights.h5"), "r") as file:
        found = {place: inside["vars"] for place, inside in file["layers"].items()}
        said = {(p, v.attrs["name"], tuple(v[str(i)].shape for i in range(len(v)))) for p, v in found.items()}
    assert said == {(p, name, tuple(map(tuple, shapes))) for p, name, shapes in RECORDED["layers"]["small"]}


@pytest.mark.convert
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("features", "end before the fully connected layer"),
        ("head", "has the layer 'my_head'.*last is 'predictions'"),
        ("nested", "is a model of its own"),
        ("wrapped", "is a model of its own|has the layer 'rescaling'"),
        ("preact", r"of ResNet17V2 \(pre-activation\)"),
        ("mobilenet", "of a MobileNet"),
    ],
)
def test_other_models_are_refused_by_what_they_are(saved, tmp_path, h5py, name, said, form):
    with pytest.raises(ValueError, match=said):
        model_of(read(saved / f"{name}{form}"))
    if form != ".h5" and name != "head":  # without names any head is a head
        with pytest.raises(ValueError, match=said):
            model_of(read(without_names(h5py, saved / f"{name}{form}", tmp_path)))


# Files that are hostile or damaged


def links(h5py, elsewhere):
    """Ways to put what lies elsewhere into a file, each a function of a group and a name there."""
    layout = h5py.VirtualLayout((7, 7, 3, 64), "f4")
    layout[:] = h5py.VirtualSource(elsewhere, "stolen", (7, 7, 3, 64))
    return {
        "external link": lambda group, name: group.__setitem__(name, h5py.ExternalLink(elsewhere, "stolen")),
        "soft link": lambda group, name: group.__setitem__(name, h5py.SoftLink("/layers/conv2d_1/vars/0")),
        "external storage": lambda group, name: group.create_dataset(
            name, (7, 7, 3, 64), "f4", external=[(elsewhere, 0, h5py.h5f.UNLIMITED)]
        ),
        "virtual": lambda group, name: group.create_virtual_dataset(name, layout),
    }


@pytest.mark.convert
@pytest.mark.parametrize("kind", ["external link", "soft link", "external storage", "virtual"])
def test_nothing_outside_a_file_is_read(tmp_path, h5py, kind):
    elsewhere = str(tmp_path / "elsewhere.h5")
    with h5py.File(elsewhere, "w") as file:
        file["stolen"] = np.ones((7, 7, 3, 64), np.float32)
    path = write(tmp_path / "linked.weights.h5")
    with h5py.File(path, "r+") as file:
        del file["layers/conv2d/vars/0"]
        links(h5py, elsewhere)[kind](file["layers/conv2d/vars"], "0")
    with pytest.raises(ValueError, match=r"isn't followed|lies in another file, which isn't read"):
        read(path)
    old = write_as_keras_2(h5py, tmp_path / "old.h5", weights_of_small())
    with h5py.File(old, "r+") as file:
        del file["conv1_conv/conv1_conv/conv1_conv/kernel:0"]
        links(h5py, elsewhere)[kind](file["conv1_conv/conv1_conv/conv1_conv"], "kernel:0")
    with pytest.raises(ValueError, match=r"isn't followed|lies in another file, which isn't read"):
        read(old)


@pytest.mark.convert
@pytest.mark.parametrize("place", ["layers", "layers/conv2d", "layers/conv2d/vars", "optimizer", "model_weights"])
def test_no_group_outside_a_file_is_read(tmp_path, h5py, place):
    other = write(tmp_path / "other.weights.h5")
    path = write(tmp_path / "linked.weights.h5")
    with h5py.File(path, "r+") as file:
        if place == "model_weights":
            del file["layers"]
        elif place in file:
            del file[place]
        file[place] = h5py.ExternalLink(str(other), place if place.startswith("layers") else "/layers/conv2d")
    with pytest.raises(ValueError, match="is a link to elsewhere, which isn't followed"):
        read(path)


@pytest.mark.convert
@pytest.mark.parametrize(
    "change",
    [
        lambda vars_: vars_.create_dataset("0", (1 << 20, 1 << 20, 1, 64), "f4", chunks=(1, 1, 1, 64)),
        lambda vars_: vars_.create_dataset("0", data=np.array([b"text"])),
        lambda vars_: vars_.create_dataset("0", data=np.zeros((7, 7, 3, 64), "c8")),
        lambda vars_: vars_.create_group("0"),
        lambda vars_: vars_.create_dataset("kernel", data=np.zeros(3, "f4")),
        lambda vars_: vars_.create_dataset("0", dtype="f4"),
    ],
)
def test_what_is_no_kernel_is_refused(tmp_path, h5py, change):
    path = write(tmp_path / "other.weights.h5")
    with h5py.File(path, "r+") as file:
        del file["layers/conv2d/vars/0"]
        try:
            change(file["layers/conv2d/vars"])
        except TypeError:
            file["layers/conv2d/vars"]["0"] = h5py.Empty("f4")
    with pytest.raises(ValueError, match=r"other\.weights\.h5"):
        model_of(read(path))


@pytest.mark.convert
@pytest.mark.parametrize("form", FORMS)
def test_a_file_cut_anywhere_is_refused(saved, tmp_path, form):
    content, path = (saved / f"small{form}").read_bytes(), tmp_path / f"cut{form}"
    for length in {0, 1, 8, 9, 100, 600, *np.linspace(1000, len(content) - 100, 40).astype(int).tolist()}:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=rf"cut\{form}"):
            read(path)


@pytest.mark.convert
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "neither HDF5 nor a zip"),
        (b"<html>404</html>", "neither HDF5 nor a zip"),
        (b"version https://git-lfs.github.com/1", "neither HDF5 nor a zip"),
        (b"PK\x03\x04 but no zip", "no whole Keras file"),
        (b"\x89HDF\r\n\x1a\n but no more", "no whole Keras file"),
    ],
)
def test_other_content_is_refused(tmp_path, content, said):
    (tmp_path / "weights.h5").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read(tmp_path / "weights.h5")


@pytest.mark.convert
def test_other_zips_and_other_hdf5_are_refused(saved, tmp_path, h5py):
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ValueError, match=r"holds no model\.weights\.h5"):
        read(tmp_path / "other.keras")
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n" + bytes(50_000_000))
    with pytest.raises(ValueError, match="claims more than 100 times its size"):
        read(tmp_path / "bomb.keras")
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["x"] = np.zeros(3)
    with pytest.raises(ValueError, match="not of a Keras model"):
        read(tmp_path / "data.h5")
    with pytest.raises(ValueError, match="there is no file"):
        read(tmp_path / "none.h5")


@pytest.mark.convert
def test_a_full_disk_is_not_called_damage(saved, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space left"):
        read(saved / "small.keras")


@pytest.mark.convert
def test_a_configuration_is_not_looked_at(saved, tmp_path):
    with zipfile.ZipFile(saved / "small.keras") as archive:
        archive.extract("model.weights.h5", tmp_path)
    with zipfile.ZipFile(tmp_path / "evil.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", '{"module": "os", "class_name": "system", "config": "exit 1"')
        archive.write(tmp_path / "model.weights.h5", "model.weights.h5")
    assert_same_logits(logits_of(model_of(read(tmp_path / "evil.keras")), 64), np.load(saved / "small.npy"))


# Writing


WITNESS = """
import sys, json, numpy as np
from pathlib import Path
from resnets.architecture import Architecture
from resnets.conversion.witnesses import keras as witness
net = Architecture.from_json(json.loads(sys.argv[2]))
assert witness.tensors(Path(sys.argv[1]), []) is None
np.save(sys.argv[4], witness.logits(Path(sys.argv[1]), net, np.load(sys.argv[3])))
"""


def witnessed(path, net, size, folder, **environment):
    """The witness's logits of a file."""
    np.save(folder / "asked.npy", images(2, net.channels, size))
    run("-c", WITNESS, path, json.dumps(net.to_json()), folder / "asked.npy", folder / "answer.npy", **environment)
    return np.load(folder / "answer.npy")


def as_keras(net, state):
    (net,) = KERAS.candidates(net)
    return Model(net, tuple(map(str, range(net.classes))), None, state)


@pytest.mark.convert
@pytest.mark.parametrize(("form", "channels"), [(".weights.h5", 3), (".keras", 3), (".h5", 3), (".keras", 1)])
def test_keras_gets_our_logits_from_what_is_written(tmp_path, form, channels):
    net = replace(SMALL, channels=channels)
    state = seeded_state(net)
    (tmp_path / "place").mkdir()
    path = write(tmp_path / "place" / f"out{form}", state, net)
    assert list(path.parent.iterdir()) == [path]
    back = KERAS.to_ours(read(path)).state
    assert all(np.array_equal(back[name], state[name]) for name in state)
    ours = logits_of(as_keras(net, state), 64)
    assert_same_logits(witnessed(path, net, 64, tmp_path), ours)
    if form != ".weights.h5" and channels == 3:
        renamed = path.rename(path.with_name(f"small{form}"))
        run(RECORD, "logits", renamed, tmp_path / "whole.npy")
        assert_same_logits(np.load(tmp_path / "whole.npy"), ours)


@pytest.mark.convert
def test_the_witness_tells_a_form_by_its_content(saved, tmp_path, h5py):
    old = write_as_keras_2(h5py, tmp_path / "old.weights.h5", weights_of_small())
    new = shutil.copy(saved / "small.weights.h5", tmp_path / "new.hdf5")
    with h5py.File(old, "r+") as file:  # Keras loads this form in the order of layers
        file.attrs["layer_names"] = np.array(["any_image", *layers(SMALL.blocks)], "S")
        for layer in layers(SMALL.blocks):
            names = [f"{layer}/{layer}/{variable}:0" for variable in variables(layer)]
            file[layer].attrs["weight_names"] = np.array(names, "S")
    for path in (old, new):
        assert_same_logits(witnessed(path, SMALL, 64, tmp_path), np.load(saved / "small.npy"))


@pytest.mark.convert
def test_the_same_weights_give_the_same_bytes(tmp_path):
    first, second = write(tmp_path / "first.weights.h5"), write(tmp_path / "second.weights.h5")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.convert
def test_tensorflow_is_never_imported(tmp_path):
    trace = tmp_path / "trace"
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text(f"open({str(trace)!r}, 'w').close()\nraise ImportError")
    home = tmp_path / "home"
    home.mkdir()
    (home / "keras.json").write_text('{"floatx": "float16", "image_data_format": "channels_first", "backend": "tensorflow"}')
    said = {
        "KERAS_BACKEND": "tensorflow",
        "KERAS_HOME": str(home),
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
    }
    program = f"import sys; from pathlib import Path; sys.path.append({str(HERE)!r}); import test_weights_keras as t\n"
    run("-c", program + "for path in sys.argv[1:]: t.write(Path(path))", tmp_path / "out.keras", tmp_path / "out.h5", **said)
    ours = logits_of(as_keras(SMALL, seeded_state(SMALL)), 64)
    assert_same_logits(witnessed(tmp_path / "out.keras", SMALL, 64, tmp_path, **said), ours)
    assert not trace.exists()


@pytest.mark.convert
@pytest.mark.parametrize(
    ("program", "error", "said"),
    [
        ("echo first >&2; echo 'ValueError: no layer' >&2; exit 1", "WorkFailed", "whole model: ValueError: no layer"),
        ("exit 7", "WorkFailed", "it ended with 7"),
        ("exit 0", "WorkFailed", "it ended with 0"),
        ("echo 'writing .keras needs keras' >&2; exit 3", "MissingExtra", "writing .keras needs keras"),
    ],
)
def test_where_keras_fails_nothing_is_left(tmp_path, monkeypatch, program, error, said):
    import resnets.errors

    (tmp_path / "python").write_text(f"#!/bin/sh\n{program}\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "out.keras").write_text("what was there")
    with pytest.raises(getattr(resnets.errors, error), match=said):
        write(tmp_path / "place" / "out.keras")
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["out.keras"]
    assert (tmp_path / "place" / "out.keras").read_text() == "what was there"


@pytest.mark.convert
@pytest.mark.parametrize(
    ("name", "said"), [("out.pth", "written as .weights.h5, .keras or .h5"), ("no/out.h5", "no folder")]
)
def test_where_nothing_can_be_written(tmp_path, name, said):
    with pytest.raises(ValueError, match=said):
        write(tmp_path / name)


@pytest.mark.convert
def test_preprocessing_is_keras(tmp_path):
    from resnets.data.preprocessing import normalise

    crops = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    np.save(tmp_path / "crops.npy", crops)
    program = (
        "import sys, numpy as np; from keras.applications.resnet import preprocess_input as p; "
        "np.save(sys.argv[2], p(np.load(sys.argv[1])))"
    )
    run("-c", program, tmp_path / "crops.npy", tmp_path / "theirs.npy")
    theirs = np.load(tmp_path / "theirs.npy").transpose(0, 3, 1, 2)
    assert np.abs(normalise(crops, PREPROCESSING) - theirs).max() < 1e-4


# The three at full size, both ways


SIZES = {"ResNet50": 224, "ResNet101": 96, "ResNet152": 96}  # as record_keras.py has them


@pytest.fixture(scope="module", params=["ResNet50", "ResNet101", "ResNet152", "ResNet50 of TensorFlow"])
def full(request, tmp_path_factory):
    name, _, other = request.param.partition(" of ")
    if other:
        pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp(name)
    run(RECORD, "full", folder, name, KERAS_BACKEND=other.lower() or "torch")
    with pytest.importorskip("h5py").File(folder / f"{name}.h5", "r") as file:
        assert file["model_weights"].attrs["backend"] == (other.lower() or "torch")
    yield name, folder
    shutil.rmtree(folder)


@pytest.mark.convert
@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_full_models_give_keras_logits(full, form):
    name, folder = full
    model = model_of(read(folder / f"{name}{form}"))
    assert replace(model.architecture, norm_epsilon=1e-5, norm_momentum=0.1, initialisation="he") == named(name)
    assert_same_logits(logits_of(model, SIZES[name]), np.load(folder / f"{name}.npy"))


@pytest.mark.convert
@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SIZES)
def test_keras_gets_our_logits_from_full_models(tmp_path, name, form):
    state = seeded_state(named(name))
    path = write(tmp_path / f"{name}{form}", state, named(name))
    run(RECORD, "logits", path, tmp_path / "whole.npy")
    ours = logits_of(as_keras(named(name), state), SIZES[name])
    assert_same_logits(np.load(tmp_path / "whole.npy"), ours)
    assert_same_logits(witnessed(path, named(name), SIZES[name], tmp_path), ours)


MEMORY = """
import sys, resource
from pathlib import Path
import h5py
from resnets.architecture import named
from resnets.weights.ecosystems.keras import ECOSYSTEM
from resnets.weights.forms.hdf5 import read_keras, write_keras
from resnets.weights.forms.keras_program import keras_on_torch

def most():  # the largest size so far; ru_maxrss begins with the parent's
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

before = most()
if len(sys.argv) == 3:
    state = ECOSYSTEM.to_ours(read_keras(Path(sys.argv[1]))).state
    write_keras(Path(sys.argv[2]), ECOSYSTEM.from_ours(state, named("resnet152")), named("resnet152"))
else:
    keras_on_torch("a test")
print(most() - before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.convert
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says how large a process was")
@pytest.mark.parametrize("form", FORMS)
def test_memory_is_below_three_times_the_file(tmp_path, form):
    source = write(tmp_path / f"source{form}", net=named("resnet152"))
    own, child = map(int, run("-c", MEMORY, source, tmp_path / f"out{form}").split())
    keras, _ = map(int, run("-c", MEMORY).split())  # and PyTorch, with nothing done
    size = source.stat().st_size / 1024
    assert own < 1.5 * size, (own, size)
    if form != ".weights.h5":
        assert own + child - keras < 3 * size, (own, child, keras, size)
