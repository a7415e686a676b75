"""The OpenVINO graph, built by the walk from the weights, gives the module's logits and features."""

import numpy as np
import openvino as ov
import pytest
import torch
from random_norms import randomised

from resnets.architecture import NAMED, named
from resnets.networks import network
from resnets.prediction.openvino.graph import graph

SLOW = [pytest.param(name, marks=pytest.mark.slow) if "1202" in name else name for name in NAMED]
SIZES = {"imagenet": ((65, 70), (64, 64)), "deep": ((65, 70), (64, 64)), "cifar": ((15, 18), (16, 16))}


def assert_close(found, expected):
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@torch.inference_mode()
def assert_same(net, sizes):
    """Logits and features for a batch of two at each size, from one compiled graph."""
    module = randomised(network(net, seed=0), max(sizes[0]))
    built = graph(net, {key: value.numpy() for key, value in module.state_dict().items()})
    compiled = ov.Core().compile_model(built, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for seed, (height, width) in enumerate(sizes):
        x = torch.randn(2, net.channels, height, width, generator=torch.Generator().manual_seed(seed))
        answer = compiled([x.numpy()])
        features, logits = module.features(x).numpy(), module(x).numpy()
        if net != named("plain1202", classes=10):  # the image fades in 1,200 plain layers
            assert np.abs(logits[0] - logits[1]).max() > 2e-3 * np.abs(logits).max(), "two images, two answers"
        assert_close(answer["features"], features)
        assert_close(answer["logits"], logits)


@pytest.mark.parametrize("name", SLOW)
def test_every_named_network(name):
    net = named(name, classes=10)
    assert_same(net, SIZES[net.stem])


@pytest.mark.parametrize("shortcut", ["A", "B", "C", "none"])
@pytest.mark.parametrize(
    "name",
    [
        *("resnet18", "resnet50", "resnet50-v1.5", "resnet18-tf", "resnet50-tf", "resnet20", "resnext50-32x4d", "resnet50d"),
        *("preact-resnet18", "preact-resnet50", "preact-resnet20"),
    ],
)
def test_every_shortcut_of_every_kind_of_block(name, shortcut):
    stages = len(NAMED[name].blocks)
    net = named(name, shortcut=shortcut, blocks=(2,) * stages, width=16, channels=4, classes=10)
    assert_same(net, SIZES[net.stem])


@pytest.mark.parametrize("name", ["resnet18", "resnet18-tf", "resnet50d", "resnet20", "preact-resnet20"])
def test_smallest_input(name):
    least = named(name).smallest_input
    assert_same(named(name, width=8, classes=10), [(least, least), (least + 1, least)])


@pytest.mark.parametrize("name", ["preact-resnet18", "resnet50d", "preact-resnet20"])
def test_tensorflows_padding_of_other_networks(name):
    stages = len(NAMED[name].blocks)
    net = named(name, padding="same", norm_epsilon=1e-3, blocks=(1,) * stages, width=16, classes=10)
    assert_same(net, SIZES[net.stem])


def test_a_graph_for_one_size_has_that_size():
    net = named("resnet20")
    state = {key: value.numpy() for key, value in network(net, seed=0).state_dict().items()}
    assert list(graph(net, state, 32, 24).input("tensor").partial_shape)[1:] == [3, 32, 24]


def test_weights_are_not_changed_by_building():
    net = named("resnet20")
    state = {key: value.numpy() for key, value in randomised(network(net, seed=0)).state_dict().items()}
    before = {key: value.copy() for key, value in state.items()}
    graph(net, state)
    for key, value in before.items():
        np.testing.assert_array_equal(state[key], value)
