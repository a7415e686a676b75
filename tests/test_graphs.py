"""Both graphs, built by the walk from the weights, give the module's logits and features; and change no weight."""

import numpy as np
import onnx
import openvino as ov
import pytest
import torch
from random_norms import assert_close, randomised, state_of

from resnets.architecture import NAMED, named
from resnets.networks import network
from resnets.prediction.onnx.engine import ONNXRuntimeEngine
from resnets.prediction.onnx.graph import graph as onnx_graph
from resnets.prediction.openvino.graph import graph as openvino_graph

LONG = ("1202", "wide-resnet101", "resnext101", "152")  # others with the same parts are quicker
SLOW = [pytest.param(name, marks=pytest.mark.slow) if any(part in name for part in LONG) else name for name in NAMED]
SIZES = {"imagenet": ((65, 70), (64, 64)), "deep": ((65, 70), (64, 64)), "cifar": ((15, 18), (16, 16))}


def with_openvino(net, state):
    """The network by OpenVINO: images → (logits, features)."""
    compiled = ov.Core().compile_model(openvino_graph(net, state), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def answers(x):
        answer = compiled([x])
        return answer["logits"], answer["features"]

    return answers


def with_onnx(net, state):
    """The network by ONNX Runtime, from a graph that the checker passes: images → (logits, features)."""
    built = onnx_graph(net, state)
    onnx.checker.check_model(built, full_check=True)
    return ONNXRuntimeEngine(built.SerializeToString(), "float32")


@torch.inference_mode()
def assert_same(net, sizes):
    """Logits and features for a batch of two at each size, from each runtime's one graph."""
    module = randomised(network(net, seed=0), max(sizes[0]))
    engines = [made(net, state_of(module)) for made in (with_openvino, with_onnx)]
    for seed, (height, width) in enumerate(sizes):
        x = torch.randn(2, net.channels, height, width, generator=torch.Generator().manual_seed(seed))
        features, logits = module.features(x).numpy(), module(x).numpy()
        if net != named("plain1202", classes=10):  # the image fades in 1,200 plain layers
            assert np.abs(logits[0] - logits[1]).max() > 2e-3 * np.abs(logits).max(), "two images, two answers"
        for engine in engines:
            found_logits, found_features = engine(x.numpy())
            assert_close(found_features, features)
            assert_close(found_logits, logits)


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


def test_every_size_of_odd_edges():
    """ResNet-D's pool at an odd edge, TensorFlow's SAME and a stride of 2, for every remainder of a size by 32."""
    for name in ("resnet50d", "resnet18-tf", "resnet18"):
        assert_same(named(name, blocks=(1,) * 4, width=8, classes=10), [(side, 97 - side) for side in range(33, 65)])


def test_a_graph_for_one_size_has_that_size():
    net = named("resnet20")
    state = state_of(network(net, seed=0))
    assert list(openvino_graph(net, state, 32, 24).input("tensor").partial_shape)[1:] == [3, 32, 24]


@pytest.mark.parametrize("graph", [openvino_graph, onnx_graph])
def test_weights_are_not_changed_by_building(graph):
    net = named("resnet20")
    state = state_of(randomised(network(net, seed=0)))
    before = {key: value.copy() for key, value in state.items()}
    graph(net, state)
    for key, value in before.items():
        np.testing.assert_array_equal(state[key], value)
