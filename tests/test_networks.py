"""The torch modules: held to the walk, to torchvision and timm, and to computations of our own."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from random_norms import randomised
from torch import nn

from resnets.architecture import NAMED, named
from resnets.graph import weight_shapes
from resnets.networks import network

TORCHVISION = {f"resnet{depth}-v1.5": f"resnet{depth}" for depth in (18, 34, 50, 101, 152)} | {
    name: name.replace("-", "_") for name in ("wide-resnet50-2", "wide-resnet101-2", "resnext50-32x4d", "resnext101-32x8d")
}
SMALL = {"blocks": (1, 1, 1, 1), "width": 8, "classes": 5}


def images(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def assert_close(found, expected, relative=1e-4):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= relative * expected.abs().max()


def assert_same_network(ours, theirs, x):
    """Logits in evaluation, then logits and moving averages of one step in training, from the same weights."""
    theirs.load_state_dict({name: value.clone() for name, value in ours.state_dict().items()}, assign=True)
    with torch.no_grad():
        assert_close(ours.eval()(x), theirs.eval()(x))
        assert_close(ours.train()(x), theirs.train()(x))
    expected = theirs.state_dict()
    for name, value in ours.state_dict().items():
        if "running" in name:
            assert_close(value, expected[name])
        assert "tracked" not in name or value == 1


# Names and shapes


@pytest.mark.parametrize("name", NAMED)
def test_state_has_the_names_and_shapes_of_the_walk(name):
    with torch.device("meta"):
        state = network(name).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == weight_shapes(NAMED[name])


@pytest.mark.parametrize("shortcut", ["A", "B", "C", "none"])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet20", "resnet50d", "preact-resnet18", "preact-resnet50"])
def test_state_has_the_names_and_shapes_of_the_walk_whatever_the_shortcut(name, shortcut):
    net = named(name, shortcut=shortcut, channels=1, classes=3)
    with torch.device("meta"):
        state = network(net).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == weight_shapes(net)


@pytest.mark.parametrize("name", TORCHVISION)
def test_state_has_torchvisions_names_and_shapes_in_its_order(name):
    with torch.device("meta"):
        ours, theirs = network(name).state_dict(), torchvision.models.get_model(TORCHVISION[name]).state_dict()
    assert [(key, value.shape) for key, value in ours.items()] == [(key, value.shape) for key, value in theirs.items()]


# Logits, beside torchvision's and timm's


@pytest.mark.parametrize("name", TORCHVISION)
def test_equal_to_torchvision_in_evaluation_and_training(name):
    with torch.device("meta"):
        theirs = torchvision.models.get_model(TORCHVISION[name])
    assert_same_network(randomised(network(name, seed=0)), theirs, images(2, 3, 65, 72))


def test_equal_to_timms_resnet50d_in_evaluation_and_training():
    timm = pytest.importorskip("timm")
    theirs = timm.create_model("resnet50d", pretrained=False)
    assert_same_network(randomised(network("resnet50d", seed=0)), theirs, images(2, 3, 65, 72))


# Shortcuts


@pytest.mark.parametrize(
    ("name", "layer", "changes", "width_in", "width_out", "stride"),
    [
        ("resnet50", "layer1.0", {}, 64, 256, 1),
        ("resnet18", "layer2.0", {}, 64, 128, 2),
        ("resnet50", "layer2.0", {}, 256, 512, 2),
        ("resnet18", "layer2.0", {"width": 5}, 5, 10, 2),
        ("resnet50", "layer1.0", {"width": 3}, 3, 12, 1),
    ],
)
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 2)])
def test_option_a_subsamples_and_pads_half_of_the_channels_before(name, layer, changes, width_in, width_out, stride, size):
    shortcut = network(name, shortcut="A", **changes).get_submodule(layer).downsample
    x = images(2, width_in, *size)
    rows, columns = (math.ceil(side / stride) for side in size)
    expected = np.zeros((2, width_out, rows, columns), np.float32)
    first = (width_out - width_in) // 2
    for row in range(rows):
        for column in range(columns):
            expected[:, first : first + width_in, row, column] = x[:, :, stride * row, stride * column]
    assert not list(shortcut.parameters())
    np.testing.assert_array_equal(shortcut(x).numpy(), expected)


@pytest.mark.parametrize(
    ("shortcut", "projections"), [("A", []), ("B", ["1.0", "2.0", "3.0", "4.0"]), ("C", ["1.0", "1.1", "2.0", "3.0", "4.0"])]
)
def test_projections_of_a_bottleneck_network(shortcut, projections):
    net = network("resnet50", blocks=(2, 1, 1, 1), shortcut=shortcut)
    assert [name for name, _ in net.named_modules() if name.endswith("downsample.0")] == [
        f"layer{place}.downsample.0" for place in projections
    ]


def plain_logits(state, x, blocks, bottleneck):
    """A plain network in functions: 3×3, 3×3 or 1×1, 3×3, 1×1 with the stride first, and nothing added."""

    def layer(x, conv, norm, stride, active=True):
        x = F.conv2d(x, state[f"{conv}.weight"], stride=stride, padding=state[f"{conv}.weight"].shape[-1] // 2)
        parts = [state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.relu(F.batch_norm(x, *parts)) if active else x

    x = layer(x, "conv1", "bn1", 2 if len(blocks) == 4 else 1)
    x = F.max_pool2d(x, 3, 2, 1) if len(blocks) == 4 else x
    for stage, count in enumerate(blocks, 1):
        for block in range(count):
            for index in range(1, 4 if bottleneck else 3):
                place = f"layer{stage}.{block}"
                x = layer(x, f"{place}.conv{index}", f"{place}.bn{index}", 1 + (stage > 1 and block == 0 and index == 1))
    return F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize(("name", "blocks"), [("plain18", (2, 2, 2, 2)), ("plain20", (3, 3, 3)), ("plain50", (2, 1, 2, 1))])
def test_a_plain_network_adds_nothing(name, blocks):
    net = randomised(network(name, blocks=blocks, width=8, classes=5, seed=0)).eval()
    x = images(2, 3, 65, 64)
    assert_close(net(x), plain_logits(net.state_dict(), x, blocks, name == "plain50"), 1e-5)


# Pre-activation


def preactivated_logits(state, x, blocks, bottleneck):
    """He et al. 2016, in functions: activate, convolve; the first shortcut and projections from the activated map."""

    def activate(x, norm):
        parts = [state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.relu(F.batch_norm(x, *parts))

    def conv(x, name, stride=1):
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def subsampled_and_padded(x, width, stride):
        x, missing = x[:, :, ::stride, ::stride], width - x.shape[1]
        before, after = (x.new_zeros(x.shape[0], n, *x.shape[2:]) for n in (missing // 2, missing - missing // 2))
        return torch.cat([before, x, after], 1)

    imagenet = len(blocks) == 4
    x = conv(x, "conv1", 2 if imagenet else 1)
    x = F.max_pool2d(x, 3, 2, 1) if imagenet else x
    for stage, count in enumerate(blocks, 1):
        for block in range(count):
            place, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            a = activate(x, f"{place}.bn1")
            if stage == 1 and block == 0:
                x = a
            if bottleneck:
                y = activate(conv(a, f"{place}.conv1"), f"{place}.bn2")
                y = activate(conv(y, f"{place}.conv2", stride), f"{place}.bn3")
                y = conv(y, f"{place}.conv3")
            else:
                y = activate(conv(a, f"{place}.conv1", stride), f"{place}.bn2")
                y = conv(y, f"{place}.conv2")
            if f"{place}.downsample.0.weight" in state:
                x = conv(a, f"{place}.downsample.0", stride) + y
            else:
                x = subsampled_and_padded(x, y.shape[1], stride) + y
    return F.linear(activate(x, "norm").mean((2, 3)), state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize("shortcut", ["A", "B", "C"])
@pytest.mark.parametrize(
    ("name", "blocks"),
    [("preact-resnet18", (2, 2, 2, 2)), ("preact-resnet20", (3, 3, 3)), ("preact-resnet50", (2, 1, 2, 1))],
)
def test_preactivation_is_he_et_al_2016(name, blocks, shortcut):
    net = randomised(network(name, blocks=blocks, width=8, classes=5, shortcut=shortcut, seed=0)).eval()
    x = images(2, 3, 65, 64)
    assert_close(net(x), preactivated_logits(net.state_dict(), x, blocks, name == "preact-resnet50"), 1e-5)


# What goes in


@pytest.mark.parametrize(("name", "channels", "classes"), [("resnet18", 1, 2), ("resnet50-tf", 4, 1), ("resnet20", 5, 100)])
def test_any_channels_and_classes(name, channels, classes):
    net = network(name, channels=channels, classes=classes)
    assert net(images(2, channels, 64, 64)).shape == (2, classes)


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet18-tf", "resnet50", "resnet50d", "preact-resnet18", "plain18", "resnet20"]
)
def test_smallest_input(name):
    net = network(name, seed=0, **(SMALL if NAMED[name].stem != "cifar" else {"classes": 5})).eval()
    least = 8 if name == "resnet20" else 32
    assert net(images(2, 3, least, least)).shape == (2, 5)
    with pytest.raises(ValueError, match=f"from {least}×{least} pixels up, and these have {least}×{least - 1}"):
        net(images(2, 3, least, least - 1))


def test_wrong_channels_are_an_error_that_says_both_numbers():
    with pytest.raises(ValueError, match="3 channels, and these have 1"):
        network("resnet18", **SMALL)(images(2, 1, 64, 64))


# State dictionaries


@pytest.mark.parametrize("name", ["resnet18", "resnet20", "resnet18-tf", "preact-resnet18"])
def test_an_old_state_without_counters_loads(name):
    net = network(name, width=8, seed=0)
    old = {key: value for key, value in network(name, width=8, seed=1).state_dict().items() if "num_batches" not in key}
    net.load_state_dict(old)
    state = net.state_dict()
    assert all(torch.equal(state[key], value) for key, value in old.items())
    assert all(value == 0 for key, value in state.items() if key.endswith("num_batches_tracked"))


def test_a_state_loads_whole_its_counters_included():
    trained, net = network("resnet20", seed=0).train(), network("resnet20", seed=1)
    trained(images(2, 3, 16, 16))
    net.load_state_dict(trained.state_dict())
    assert net.bn1.num_batches_tracked == 1
    assert all(torch.equal(net.state_dict()[key], value) for key, value in trained.state_dict().items())


@pytest.mark.parametrize("missing", ["conv1.weight", "bn1.running_var", "layer2.0.downsample.1.bias", "fc.bias"])
@pytest.mark.parametrize("old", [False, True])
def test_a_state_with_another_key_missing_is_refused(missing, old):
    net = network("resnet18", width=8)
    state = {key: value for key, value in net.state_dict().items() if not (old and "num_batches" in key)}
    del state[missing]
    with pytest.raises(RuntimeError, match=missing):
        net.load_state_dict(state)


def test_a_state_with_a_key_too_many_is_refused():
    net = network("resnet18", width=8)
    with pytest.raises(RuntimeError, match="layer9"):
        net.load_state_dict({**net.state_dict(), "layer9.weight": torch.zeros(1)})


# What comes out


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("resnet18", 65, {"stem": (8, 17), "layer1": (8, 17), "layer2": (16, 9), "layer3": (32, 5), "layer4": (64, 3)}),
        (
            "resnet50-tf",
            64,
            {"stem": (8, 16), "layer1": (32, 16), "layer2": (64, 8), "layer3": (128, 4), "layer4": (256, 2)},
        ),
        ("resnet20", 15, {"stem": (8, 15), "layer1": (8, 15), "layer2": (16, 8), "layer3": (32, 4)}),
        ("preact-resnet20", 16, {"stem": (8, 16), "layer1": (8, 16), "layer2": (16, 8), "layer3": (32, 4)}),
    ],
)
def test_maps_and_features(name, size, expected):
    net = network(name, width=8, classes=5, seed=0).eval()
    x = images(2, 3, size, size)
    maps, features = net.maps(x), net.features(x)
    assert {stage: tuple(found.shape) for stage, found in maps.items()} == {
        stage: (2, channels, side, side) for stage, (channels, side) in expected.items()
    }
    assert features.shape == (2, net.architecture.features)
    assert features.shape[1] == maps[net.stages[-1]].shape[1]
    torch.testing.assert_close(net.fc(features), net(x))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_maps_are_not_changed_after_they_are_given():
    net = randomised(network("resnet18", **SMALL, seed=0)).eval()
    maps = net.maps(images(2, 3, 64, 64))
    x = maps["stem"]
    for stage in net.stages:
        x = net.get_submodule(stage)(x.clone())
        torch.testing.assert_close(maps[stage], x)


# The start


def test_seed_makes_equal_weights_and_leaves_the_generator_alone():
    before = torch.get_rng_state()
    first, second, other = (network("resnet20", seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_without_a_seed_weights_come_from_the_generator():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        drawn = network("resnet20").state_dict()
    seeded = network("resnet20", seed=3).state_dict()
    assert all(torch.equal(drawn[key], seeded[key]) for key in drawn)


@torch.no_grad()
def test_he_initialisation_of_the_fan_out():
    net = network("resnext50-32x4d", seed=0)
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.weight.shape[0] * module.weight.shape[2] * module.weight.shape[3]
            deviation = math.sqrt(2 / fan_out)
            assert module.weight.std() == pytest.approx(deviation, rel=0.05), name
            assert abs(module.weight.mean()) < 0.05 * deviation, name


@torch.no_grad()
def test_glorot_initialisation_of_the_tf_reference():
    net = network("resnet50-tf", seed=0)
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            outputs, inputs, *kernel = module.weight.shape
            bound = math.sqrt(6 / ((inputs + outputs) * math.prod(kernel)))
            assert 0.99 * bound < module.weight.abs().max() <= bound, name
            assert module.weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.05), name


@pytest.mark.parametrize("name", ["resnet20", "resnet20-xavier", "preact-resnet20"])
def test_norms_start_at_one_and_zero_and_the_bias_of_fc_at_zero(name):
    net = network(name.removesuffix("-xavier"), initialisation="xavier" if name.endswith("xavier") else "he")
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 19
    assert all((norm.weight == 1).all() and (norm.bias == 0).all() for norm in norms)
    assert (net.fc.bias == 0).all()
    assert net.fc.weight.std() > 0


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50-v1.5", "resnet18-tf", "resnet50d"])
def test_zero_gamma_starts_blocks_as_identities(name):
    net = network(replace(named(name), blocks=(3, 2, 2, 2), width=8), seed=0, zero_gamma=True).train()
    x = images(2, net.architecture.features, 6, 6).relu()
    torch.testing.assert_close(net.layer4[1](x.clone()), x, rtol=0, atol=0)
    block = net.layer2[0]
    x = images(2, block.conv1.in_channels, 6, 6)
    torch.testing.assert_close(block(x.clone()), block.downsample(x).relu())


def test_without_zero_gamma_blocks_are_no_identities():
    x = images(2, 64, 6, 6).relu()
    assert not torch.allclose(network("resnet18", seed=0).layer1[0](x.clone()), x, atol=0.1)


@pytest.mark.parametrize("name", ["preact-resnet18", "preact-resnet50"])
def test_zero_gamma_is_refused_where_blocks_end_in_a_convolution(name):
    with pytest.raises(ValueError, match="zero_gamma"):
        network(name, zero_gamma=True)


@pytest.mark.parametrize("name", ["resnet18", "resnet18-tf"])
def test_trains_in_float64(name):
    net = network(name, **SMALL).double().train()
    assert net(images(2, 3, 64, 64).double()).dtype == torch.float64
    assert net.bn1.running_var.dtype == torch.float64
