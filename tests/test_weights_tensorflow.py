"""TensorFlow 1's weights: names, layouts and companions, and equal logits, in evaluation and over training steps, both ways.

Without TensorFlow against what it once computed (recorded/tensorflow.json); with it (marker `convert`) against itself.
"""

import base64
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recorded_tensorflow import RECORDED, TINY, ask, assert_same, unpacked
from seeded import images, seeded

from resnets.architecture import NAMED, named
from resnets.data.preprocessing import Preprocessing
from resnets.model import Model
from resnets.networks import network
from resnets.weights.ecosystems.tensorflow import ECOSYSTEM, from_ours, recognises, to_ours, why_not
from resnets.weights.forms.tensor_bundle import read_bundle, write_bundle
from resnets.weights.shapes import architecture_of


def assert_close(found, expected, what, relative=1e-4):
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape, what
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    assert difference <= relative, f"{what}: {difference:.2g}"


def architecture(state):
    (net,) = ECOSYSTEM.candidates(architecture_of({name: array.shape for name, array in state.items()}))
    return net


def as_network(state):
    """Our network with these weights, in their kind of number."""
    net = network(architecture(state)).to(torch.from_numpy(np.array(state["fc.bias"])).dtype)
    net.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in state.items()})
    return net


def as_state(net):
    return {name: tensor.numpy().copy() for name, tensor in net.state_dict().items()}


def given(net, spec, seed):
    """A batch of images, in the network's kind of number."""
    return torch.from_numpy(images(spec["batch"], spec.get("channels", 3), spec["size"], seed)).to(net.fc.weight.dtype)


@torch.no_grad()
def evaluated(net, spec):
    return net.eval()(given(net, spec, 0)).numpy()


def step(net, spec, seed):
    """One step of gradient descent; the logits before it."""
    logits = net.train()(given(net, spec, seed))
    net.zero_grad()
    F.cross_entropy(logits, torch.arange(spec["batch"]) % spec["classes"]).backward()
    torch.optim.SGD(net.parameters(), spec["rate"]).step()
    return logits.detach().numpy()


def averages(state, scope):
    """Moving averages under TensorFlow's names."""
    theirs = from_ours(state, architecture(state))
    own = next(iter(theirs)).split("/")[0]
    return {name.replace(f"{own}/", f"{scope}/", 1): array for name, array in theirs.items()
            if name.endswith(("moving_mean", "moving_variance"))}  # fmt: skip


@pytest.fixture
def checkpoint(tmp_path):
    """What TensorFlow wrote of a tiny network after a step of training; its prefix."""
    return unpacked(TINY["files"], tmp_path)


# Names and layouts


def reference(kind="training"):
    """The names and shapes of ResNet-50 as TensorFlow wrote them."""
    listed = {name: (kind, tuple(shape)) for name, kind, shape in RECORDED["resnet50"]["training"]}
    return listed if kind == "training" else {name: listed[name] for name in RECORDED["resnet50"]["inference"]}


@pytest.fixture
def tiny(checkpoint):
    return read_bundle(checkpoint)


def test_as_many_variables_as_the_reference_has():
    assert len(reference("inference")) == 267
    names = reference()
    slots = [name for name in names if name.endswith("/Momentum")]
    companions = [name for name in names if name.endswith(("/biased", "/local_step"))]
    assert (len(slots), len(companions), len(names)) == (161, 212, 267 + 212 + 161 + 1)
    assert "resnet50/block2/bottlencek1/resnet50/block2/bottlencek1/bn_1/moving_mean/biased" in companions
    assert "resnet50/resnet50/bn1/moving_mean/local_step" in companions


def test_every_variable_of_resnet50_has_its_place():
    weights = {name: np.zeros(shape, kind) for name, (kind, shape) in reference().items()}
    taken = to_ours(weights)
    assert architecture(taken.state) == named("resnet50-tf")
    model = Model(named("resnet50-tf"), tuple(map(str, range(1000))), None, taken.state)
    assert {name for name in weights if name.endswith(("/Momentum", "global_step"))} == set(taken.dropped)
    assert {name for name in weights if name.endswith(("/biased", "/local_step"))} == set(taken.folded)
    trained = {name: np.ones_like(array) if "tracked" in name else array for name, array in model.state.items()}
    back = from_ours(trained, model.architecture)
    assert {name: array.shape for name, array in back.items()} == {
        name: shape for name, (_, shape) in reference().items() if name not in taken.dropped
    }
    assert {name: array.shape for name, array in from_ours(model.state, model.architecture).items()} == {
        name: shape for name, (_, shape) in reference("inference").items()
    }
    assert {array.dtype for array in back.values()} == {np.dtype(np.float32)}


def test_logits_of_resnet50_are_tensorflows():
    weights = {name: seeded(name, shape) for name, (_, shape) in reference("inference").items()}
    net = as_network(to_ours(weights).state)
    assert_close(evaluated(net, RECORDED["resnet50"]["spec"]), RECORDED["resnet50"]["logits"], "logits")


@pytest.mark.parametrize("size", ["101", "152"])
def test_the_deeper_networks_are_named_by_their_depth(size):
    net = named(f"resnet{size}-tf", classes=7, channels=1)
    shapes = {
        name: np.zeros(array.shape, np.float32) for name, array in as_state(network(net)).items() if "tracked" not in name
    }
    theirs = from_ours(shapes, net)
    assert {name.split("/")[0] for name in theirs} == {f"resnet{size}"}
    assert architecture(to_ours(theirs).state) == net


@pytest.mark.parametrize("scope", ["", "resnet50/", "mine/", "a/b/", "block2/", "conv1/"])
def test_any_scope_is_read(tiny, scope):
    plain = to_ours(tiny)
    renamed = {name.replace("resnet17/", scope): array for name, array in tiny.items()}
    assert recognises(renamed)
    taken = to_ours(renamed)
    assert_same(taken.state, plain.state)
    assert len(taken.folded) == len(plain.folded) > 0


def test_the_checkpoint_of_the_first_step_goes_both_ways(tiny):
    taken = to_ours(tiny)
    assert all(array == 1 and array.dtype == np.int64 for name, array in taken.state.items() if "tracked" in name)
    assert taken.dropped == ("global_step",)
    back = from_ours(taken.state, architecture(taken.state))
    assert back.keys() | {"global_step"} == tiny.keys()
    for name, array in back.items():
        if name.endswith("/biased"):
            assert_close(array, tiny[name], name, 1e-6)
        else:
            assert np.array_equal(array, tiny[name]) and array.dtype == tiny[name].dtype, name


def test_what_optimizers_and_averages_keep_is_dropped(tiny):
    more = {}
    for slot in ("Momentum", "Adam", "Adam_1", "RMSProp", "RMSProp_1", "Adagrad", "Ftrl_1", "ExponentialMovingAverage"):
        more |= {f"{where}resnet17/block3/bottlencek2/conv_2/kernel/{slot}": np.zeros(1) for where in ("", "train/")}
    more |= {
        name: np.zeros(()) for name in ("beta1_power", "train/beta2_power", "resnet17/beta1_power_1", "train/global_step")
    }
    more["train/resnet17/bn1/gamma/ExponentialMovingAverage/biased"] = np.zeros(1)
    taken = to_ours(tiny | more)
    assert set(taken.dropped) == {"global_step", *more}
    assert_same(taken.state, to_ours(tiny).state)


@pytest.mark.parametrize(
    "name",
    [
        "learning_rate",
        "resnet17/conv1/bias",
        "resnet17/fc6/gamma",
        "resnet17/bn1/moving_mean/biased_1",
        "resnet17/bn1/gamma/Mine",
        "resnet17/bn1/gamma/Momentum/more",
        "resnet17/bn7/gamma/Momentum",
        "resnet17/block1/bottlencek1/conv_1/kernel",
        "resnet17/block2/bottlencek1/conv_5/kernel",
        "resnet17/block2/bottlencek01/conv_1/kernel",
        "resnet17/bn1/gamma/biased",
    ],
)
def test_an_unknown_name_is_refused(tiny, name):
    with pytest.raises(ValueError, match=f"^{name} is no weight of this network"):
        to_ours(tiny | {name: np.zeros(2, np.float32)})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet17/conv1/kernel", "resnet17/conv1/kernel"),
        ("resnet17/bn1/moving_variance", "resnet17/bn1/moving_variance"),
        ("resnet17/block3/bottlencek1/conv_4/kernel", "resnet17/block3/bottlencek1/conv_4/kernel"),
        ("resnet17/block4/bottlencek1/bn_2/beta", "resnet17/block4/bottlencek1/bn_2/beta"),
    ],
)
def test_a_missing_weight_is_named(tiny, name, said):
    del tiny[name]
    with pytest.raises(ValueError, match=f"lacks {said}"):
        to_ours(tiny)


def test_a_missing_block_is_named(tiny):
    deeper = {name.replace("bottlencek2", "bottlencek3"): array for name, array in tiny.items()}
    with pytest.raises(ValueError, match="lacks resnet17/block3/bottlencek2/conv_1/kernel"):
        to_ours(deeper)
    with pytest.raises(ValueError, match="lacks resnet17/block4/bottlencek1/conv_1/kernel"):
        to_ours({name: array for name, array in tiny.items() if "block4" not in name})


def test_a_missing_head_is_said_of_the_shapes(tiny):
    state = to_ours({name: array for name, array in tiny.items() if "fc6" not in name}).state
    with pytest.raises(ValueError, match="features without classes"):
        architecture(state)


def test_two_networks_in_one_checkpoint_are_refused(tiny):
    both = tiny | {f"teacher/{name}": array for name, array in tiny.items() if name.startswith("resnet17/conv1")}
    with pytest.raises(ValueError, match="several networks, in the scopes 'resnet17', 'teacher/resnet17'"):
        to_ours(both)


@pytest.mark.parametrize("name", ["resnet_v1_50/block1/unit_1/bottleneck_v1/conv1/weights", "resnet_v2_50/conv1/weights"])
def test_tf_slims_network_is_refused(name):
    assert not recognises([name])
    with pytest.raises(ValueError, match=f"{name} is a name of TF-Slim's network, which isn't read: it halves"):
        to_ours({name: np.zeros((1, 1, 2, 2), np.float32), "global_step": np.zeros(())})


def test_another_networks_checkpoint_is_refused():
    with pytest.raises(ValueError, match="no network whose blocks are called bottlencek"):
        to_ours({"vgg/conv1/kernel": np.zeros((3, 3, 3, 8))})


def test_a_weight_of_other_sides_is_named(tiny):
    tiny["resnet17/conv1/kernel"] = tiny["resnet17/conv1/kernel"].reshape(49, -1)
    with pytest.raises(ValueError, match=r"resnet17/conv1/kernel is \[49, 6\], where 4 numbers are wanted"):
        to_ours(tiny)


@pytest.mark.parametrize(
    "names", [["layer1.0.conv1.weight"], ["resnet50/conv1/kernel"], ["x/bottlencek1/conv_1/kernel/Momentum"], []]
)
def test_other_names_are_not_recognised(names):
    assert not recognises(names)


# The companions

BN1 = "resnet17/bn1/moving_"
COMPANIONS = "resnet17/resnet17/bn1/moving_"


def test_the_counters_are_the_steps(tiny):
    for name in [name for name in tiny if name.endswith("/local_step")]:
        tiny[name] = np.float32(5000)
        biased = name.replace("local_step", "biased")
        tiny[biased] = tiny[biased] / np.float32(0.001) * np.float32(1 - 0.999**5000)
    taken = to_ours(tiny)
    counters = {name: array for name, array in taken.state.items() if "tracked" in name}
    assert len(counters) == 20 and all(array == 5000 for array in counters.values())
    assert taken.dropped == ("global_step",)


def test_without_companions_there_are_no_counters(tiny):
    plain = {name: array for name, array in tiny.items() if not name.endswith(("biased", "local_step"))}
    taken = to_ours(plain)
    assert not any("tracked" in name for name in taken.state) and taken.folded == ()
    assert from_ours(taken.state, architecture(taken.state)).keys() == plain.keys() - {"global_step"}


def test_a_norm_alone_may_lack_companions(tiny):
    frozen = {name: array for name, array in tiny.items() if not name.startswith(COMPANIONS)}
    taken = to_ours(frozen)
    assert "bn1.num_batches_tracked" not in taken.state and len(taken.state) == len(to_ours(tiny).state) - 1


def test_companions_at_their_start(tiny):
    for name in tiny:
        if name.endswith(("biased", "local_step")):
            tiny[name] = np.zeros_like(tiny[name])
    taken = to_ours(tiny)
    assert all(array == 0 for name, array in taken.state.items() if "tracked" in name)
    assert not any(name.endswith("biased") for name in taken.dropped)


def test_another_decay_is_dropped_and_listed(tiny):
    for name in [f"{COMPANIONS}mean/biased", f"{COMPANIONS}variance/biased"]:
        tiny[name] = tiny[name] * np.float32(10)  # decay 0.99
    taken = to_ours(tiny)
    assert taken.dropped == ("global_step", f"{COMPANIONS}mean/biased", f"{COMPANIONS}variance/biased")
    assert taken.state["bn1.num_batches_tracked"] == 1


def spoilt_step(tiny):
    tiny[f"{COMPANIONS}variance/local_step"] = np.float32(2)


def spoilt_biased(tiny):
    tiny[f"{COMPANIONS}mean/biased"] = tiny[f"{COMPANIONS}mean/biased"][::-1].copy()


def spoilt_sign(tiny):
    tiny[f"{COMPANIONS}variance/biased"] = -tiny[f"{COMPANIONS}variance/biased"]


def spoilt_average(tiny):
    tiny[f"{BN1}variance"] = tiny[f"{BN1}variance"] * np.float32([1, 1.01])


def spoilt_shape(tiny):
    tiny[f"{COMPANIONS}mean/biased"] = np.zeros(3, np.float32)


def half_a_step(tiny):
    tiny[f"{COMPANIONS}variance/local_step"] = np.float32(1.5)


def a_step_before_the_first(tiny):
    tiny[f"{COMPANIONS}variance/local_step"] = np.float32(-1)


def no_number(tiny):
    tiny[f"{COMPANIONS}variance/local_step"] = np.float32("nan")


def no_biased(tiny):
    del tiny[f"{COMPANIONS}mean/biased"]


def no_step(tiny):
    del tiny[f"{COMPANIONS}mean/local_step"]


def none_of_the_mean(tiny):
    no_biased(tiny)
    no_step(tiny)


def twice(tiny):
    tiny[f"again/{BN1}mean/biased"] = tiny[f"{COMPANIONS}mean/biased"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoilt_step, "bn1/moving_variance/local_step is 2, and the same norm's other is 1"),
        (spoilt_biased, "bn1/moving_mean isn't .*/biased debiased"),
        (spoilt_sign, "bn1/moving_variance isn't .*/biased debiased"),
        (spoilt_average, "bn1/moving_variance isn't .*/biased debiased"),
        (spoilt_shape, r"biased is \[3\], and resnet17/bn1/moving_mean is \[2\]"),
        (half_a_step, r"local_step is 1\.5, and a number of updates is whole"),
        (a_step_before_the_first, r"local_step is -1\.0, and a number of updates is whole"),
        (no_number, "local_step is nan, and a number of updates is whole"),
        (no_biased, "bn1/moving_mean lacks its biased"),
        (no_step, "bn1/moving_mean lacks its local_step"),
        (none_of_the_mean, "bn1/moving_mean lacks its biased"),
        (twice, "are both the biased of resnet17/bn1/moving_mean"),
    ],
)
def test_companions_that_contradict_are_refused(tiny, spoil, said):
    spoil(tiny)
    with pytest.raises(ValueError, match=said):
        to_ours(tiny)


def test_numbers_that_are_none_are_no_contradiction(tiny):
    for name in (f"{BN1}mean", f"{COMPANIONS}mean/biased"):
        tiny[name][0] = np.nan
    assert np.isnan(to_ours(tiny).state["bn1.running_mean"][0])


# What can be represented


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("resnet50-tf", {}, None),
        ("resnet50-tf", {"channels": 1, "classes": 10}, None),
        ("resnet101-tf", {"norm_epsilon": 1e-5, "norm_momentum": 0.1, "norm_debias": False, "initialisation": "he"}, None),
        ("resnet152-tf", {}, None),
        ("resnet50-tf", {"blocks": (1, 1, 1, 1)}, None),
        ("resnet18-tf", {}, "its blocks are bottlenecks, and these are basic"),
        ("resnet50", {}, "it pads as TensorFlow's SAME, these symmetrically"),
        ("resnet50-tf", {"shortcut": "A"}, "its shortcuts are option B, and these are A"),
        ("resnet50-tf", {"shortcut": "none"}, "its shortcuts are option B, and these are none"),
        ("resnet50-tf", {"stride_in_3x3": True}, "its bottlenecks stride in the first 1×1, these in the 3×3"),
        ("resnet50-tf", {"stem": "deep"}, "its stem is the 7×7 convolution and a pool, and this one's is 'deep'"),
        ("resnet50-tf", {"preactivation": True}, "its blocks normalise after the convolution, not before (pre-activation)"),
        (
            "resnet50-tf",
            {"pool_shortcut": True},
            "its projections stride themselves, and before these a pool does (ResNet-D)",
        ),
        (
            "resnet50-tf",
            {"width_factor": 2},
            "its 3×3 convolutions are of one group and as wide as their stage, and these aren't",
        ),
        ("resnet50-tf", {"groups": 2}, "its 3×3 convolutions are of one group and as wide as their stage, and these aren't"),
        ("resnet50-tf", {"width": 32}, "it has four stages from 64 channels"),
        ("resnet50-tf", {"blocks": (3, 4, 6)}, "it has four stages from 64 channels"),
    ],
)
def test_why_a_network_cannot_be_tensorflows(name, changes, said):
    assert why_not(named(name, **changes)) == said


@pytest.mark.parametrize("name", sorted(NAMED))
def test_of_the_named_networks_three_can(name):
    assert (why_not(NAMED[name]) is None) == (name in ("resnet50-tf", "resnet101-tf", "resnet152-tf"))


def test_what_a_checkpoint_does_not_carry():
    net = replace(named("resnet50-tf"), classes=2)
    state = as_state(network(net))
    assert ECOSYSTEM.not_carried(Model(net, ("0", "1"), None, state)) == ()
    assert ECOSYSTEM.not_carried(Model(net, ("cat", "dog"), Preprocessing(), state)) == (
        "the names of the classes",
        "the preprocessing",
    )
    other = replace(net, norm_momentum=0.1)
    assert "decay 0.999" in ECOSYSTEM.not_carried(Model(other, ("0", "1"), None, state))[0]


# Training, against what TensorFlow did once


def assert_step(net, spec, found, seed, relative=1e-4):
    """That a step of training has TensorFlow's logits, and leaves its moving averages."""
    assert_close(step(net, spec, seed), found[f"training {seed}"], f"training {seed}", relative)
    own = averages(as_state(net), spec["scope"])
    assert len([name for name in found if "/moving_" in name and name.endswith(f" {seed}")]) == len(own) > 30
    for name, array in own.items():
        assert_close(array, found[f"{name} {seed}"], f"{name}, step {seed}", relative)


def test_training_from_seeded_weights_is_tensorflows(tiny):
    spec, found = TINY["spec"], TINY["float64"]
    weights = {name: array for name, array in tiny.items() if not name.endswith(("biased", "local_step"))}
    net = as_network(to_ours({name: seeded(name, array.shape).astype(float) for name, array in weights.items()}).state)
    for seed in (0, 1, 2, 3):
        if seed > 0:
            assert_step(net, spec, found, seed, 1e-8)
        assert_close(evaluated(net, spec), found[f"logits {seed}"], f"logits {seed}", 1e-8)
    assert all(array == 3 for name, array in as_state(net).items() if "tracked" in name)


def test_training_goes_on_from_a_checkpoint_as_in_tensorflow(tiny):
    spec, found = TINY["spec"], TINY["float32"]
    net = as_network(to_ours(tiny).state)
    assert_close(evaluated(net, spec), found["logits 1"], "logits 1")
    assert_step(net, spec, found, 2)
    assert_step(net, spec, found, 3)
    assert all(array == 3 for name, array in as_state(net).items() if "tracked" in name)


# TensorFlow itself


WHOLE = {"width": 64, "classes": 10, "size": 224, "batch": 4, "rate": 2**-14}
GREY = {"blocks": [2, 1, 3, 1], "width": 4, "classes": 3, "scope": "mine/net", "size": 75, "batch": 6, "channels": 1}
SPECS = {
    "tiny": TINY["spec"],
    "grey, another scope": GREY | {"rate": 1 / 64},
    "resnet50": WHOLE | {"blocks": [3, 4, 6, 3], "scope": "resnet50"},
    "resnet101": WHOLE | {"blocks": [3, 4, 23, 3], "scope": "resnet101"},
    "resnet152": WHOLE | {"blocks": [3, 8, 36, 3], "scope": "resnet152"},
}
ROUNDING = {
    "resnet101": 1e-3,
    "resnet152": 3e-3,
}  # float32, after a step from fresh weights; in float64 all are equal to 1e-8


def each(*slow):
    return pytest.mark.parametrize(
        "name", [pytest.param(name, marks=[pytest.mark.slow] if name in slow else []) for name in SPECS]
    )


@pytest.mark.convert
@each("resnet101", "resnet152")
def test_each_of_tensorflows_steps_and_back(tmp_path, name):
    """Its own initialisers and three steps of its own, each compared from the checkpoint before it; from ours another."""
    spec, result = SPECS[name], tmp_path / "result.npz"
    relative = ROUNDING.get(name, 1e-4)
    prefixes = {str(seed): tmp_path / f"ckpt-{seed}" for seed in range(4)}
    found = ask("run", spec=spec, result=result, steps=[1, 2, 3], save=prefixes)
    for seed in range(4):
        net = as_network(to_ours(read_bundle(prefixes[str(seed)])).state)
        assert {int(array) for part, array in as_state(net).items() if "tracked" in part} == {seed}
        assert_close(evaluated(net, spec), found[f"logits {seed}"], f"logits {seed}", relative if seed else 1e-4)
        if seed < 3:
            assert_step(net, spec, found, seed + 1, relative)
    if spec["width"] == 64:
        assert net.architecture == named(f"{spec['scope']}-tf", classes=10)
    assert_way_back(net, spec, tmp_path, relative)


@pytest.mark.convert
@each("resnet50", "resnet101", "resnet152")
def test_three_of_tensorflows_steps_at_a_stretch_and_back(tmp_path, name):
    """Without a new start, two of them from its own checkpoint; in float64, as 50 layers make much of every rounding."""
    spec, result = SPECS[name] | {"kind": "float64"}, tmp_path / "result.npz"
    found = ask("run", spec=spec, result=result, steps=[1, 2, 3], save={"0": tmp_path / "ckpt-0", "1": tmp_path / "ckpt-1"})
    precise = 1e-7  # 152 layers, three steps: 2e-8 between one thread and two
    fresh, net = (as_network(to_ours(read_bundle(tmp_path / f"ckpt-{seed}")).state) for seed in (0, 1))
    assert_close(evaluated(fresh, spec), found["logits 0"], "logits 0", precise)
    assert_step(fresh, spec, found, 1, precise)
    for seed in (1, 2, 3):
        if seed > 1:
            assert_step(net, spec, found, seed, precise)
        assert_close(evaluated(net, spec), found[f"logits {seed}"], f"logits {seed}", precise)
    assert_way_back(net, spec, tmp_path, precise)


def assert_way_back(net, spec, folder, relative):
    """That TensorFlow restores a training graph from our checkpoint, gets our logits, and trains on as we do."""
    spec = spec | {"scope": f"resnet{net.architecture.depth}"}
    steps = {int(array) for part, array in as_state(net).items() if "tracked" in part}
    assert steps == {3}
    write_bundle(folder / "ours", from_ours(as_state(net), net.architecture) | {"global_step": np.array(3, np.int64)})
    found = ask(
        "run", spec=spec, result=folder / "result.npz", start=folder / "ours", steps=[4], save={"4": folder / "ckpt-4"}
    )
    assert_close(evaluated(net, spec), found["logits 0"], "our logits in TensorFlow", relative)
    assert_step(net, spec, found, 4, relative)
    assert {float(array) for name, array in read_bundle(folder / "ckpt-4").items() if name.endswith("_step")} == {4.0}


@pytest.mark.convert
def test_adams_checkpoint_is_read(tmp_path):
    ask(
        "run",
        spec=TINY["spec"],
        result=tmp_path / "result.npz",
        steps=[1],
        save={"1": tmp_path / "adam"},
        optimizer="AdamOptimizer",
    )
    weights = read_bundle(tmp_path / "adam")
    taken = to_ours(weights)
    assert set(taken.dropped) == {name for name in weights if "Adam" in name or "power" in name or name == "global_step"}
    assert len(taken.dropped) > 100


@pytest.mark.convert
def test_the_recorded_checkpoints_are_what_tensorflow_writes(tmp_path):
    for action in ("kinds", "partitioned"):
        ask(action, prefix=tmp_path / action)
        for name, content in RECORDED[action].items():
            assert (tmp_path / name).read_bytes() == base64.b64decode(content), name
    spec = RECORDED["resnet50"]["spec"] | {"training": True}
    ask("run", spec=spec, result=tmp_path / "r.npz", save={"0": tmp_path / "whole"}, optimizer="MomentumOptimizer")
    found = read_bundle(tmp_path / "whole")
    assert {name: (array.dtype.name, array.shape) for name, array in found.items()} == reference()


@pytest.mark.convert
def test_the_witness_gets_our_logits(tmp_path):
    net = replace(named("resnet50-tf"), blocks=(1, 2, 1, 1), classes=6, channels=1)
    state = to_ours(
        {name: seeded(name, array.shape) for name, array in from_ours(as_state(network(net)), net).items()}
    ).state
    model = Model(net, tuple("abcdef"), None, state)
    write_bundle(tmp_path / "model", from_ours(model.state, net))
    given = images(17, 1, 96)
    np.save(tmp_path / "given.npy", given)
    program = (
        "import sys, json, numpy as np; from pathlib import Path; from resnets.architecture import Architecture\n"
        "from resnets.conversion.witnesses import tensorflow as witness\n"
        "place, net = Path(sys.argv[1]), Architecture.from_json(json.loads(sys.argv[2]))\n"
        "given = np.load(place / 'given.npy')\n"
        "np.save(place / 'found.npy', witness.logits(place / 'model', net, given))\n"
        "assert witness.tensors(place / 'model', [np.zeros((4, 4, 1), np.uint8)]) is None\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path, json.dumps(net.to_json())], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = np.load(tmp_path / "found.npy")
    with torch.no_grad():
        expected = model.network()(torch.from_numpy(given)).numpy()
    assert found.dtype == np.float32
    assert_close(found, expected, "logits")
