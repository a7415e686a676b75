"""The ONNX graph, built by the walk from the weights, gives the module's logits and features; and so does its engine."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from random_norms import randomised

from resnets.architecture import NAMED, named
from resnets.data.preprocessing import Preprocessing
from resnets.model import Model
from resnets.networks import network
from resnets.prediction.onnx.engine import ONNXRuntimeEngine
from resnets.prediction.onnx.graph import graph
from resnets.prediction.predictor import Predictor

SLOW = [pytest.param(name, marks=pytest.mark.slow) if "1202" in name else name for name in NAMED]
SIZES = {"imagenet": ((65, 70), (64, 64)), "deep": ((65, 70), (64, 64)), "cifar": ((15, 18), (16, 16))}


def state_of(module):
    return {key: value.numpy() for key, value in module.state_dict().items()}


def assert_close(found, expected):
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@torch.inference_mode()
def assert_same(net, sizes):
    """Logits and features for a batch of two at each size, from one session."""
    module = randomised(network(net, seed=0), max(sizes[0]))
    built = graph(net, state_of(module))
    onnx.checker.check_model(built, full_check=True)
    engine = ONNXRuntimeEngine(built.SerializeToString(), "float32")
    for seed, (height, width) in enumerate(sizes):
        x = torch.randn(2, net.channels, height, width, generator=torch.Generator().manual_seed(seed))
        found_logits, found_features = engine(x.numpy())
        features, logits = module.features(x).numpy(), module(x).numpy()
        if net != named("plain1202", classes=10):  # the image fades in 1,200 plain layers
            assert np.abs(logits[0] - logits[1]).max() > 2e-3 * np.abs(logits).max(), "two images, two answers"
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


@pytest.mark.parametrize("name", ["resnet18", "resnet50d", "preact-resnet20", "plain20"])
def test_the_graph_reads_as_the_network(name):
    """Nodes are called as layers and weights as weights, once each; nothing is there that isn't used."""
    net = named(name, width=8, classes=10)
    state = state_of(network(net, seed=0))
    body = graph(net, state).graph
    nodes, weights = [node.name for node in body.node], [tensor.name for tensor in body.initializer]
    assert len(set(nodes)) == len(nodes) and len(set(weights)) == len(weights)
    layers = {key.removesuffix(".weight") for key, value in state.items() if key.endswith(".weight") and value.ndim > 1}
    assert layers == {node.name for node in body.node if node.op_type in ("Conv", "Gemm")}
    assert {f"{layer}.weight" for layer in layers} <= set(weights)
    read = {value for node in body.node for value in node.input}
    assert set(weights) <= read
    assert {value for node in body.node for value in node.output} - read == {"logits"}
    np.testing.assert_array_equal(
        numpy_helper.to_array(next(tensor for tensor in body.initializer if tensor.name == "fc.weight")), state["fc.weight"]
    )


def test_what_enters_and_leaves():
    net = named("resnet20", classes=7, channels=1)
    body = graph(net, state_of(network(net, seed=0))).graph
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*body.input, *body.output)
    }
    assert shapes == {"tensor": ["batch", 1, "height", "width"], "logits": ["batch", 7], "features": ["batch", 64]}


def test_weights_are_not_changed_by_building():
    net = named("resnet20")
    state = state_of(randomised(network(net, seed=0)))
    before = {key: value.copy() for key, value in state.items()}
    graph(net, state)
    for key, value in before.items():
        np.testing.assert_array_equal(state[key], value)


@pytest.fixture(scope="module")
def model():
    net = randomised(network("resnet20", classes=5, seed=0), 32)
    return Model(net.architecture, tuple("abcde"), Preprocessing(size=32), state_of(net))


@pytest.fixture(scope="module")
def photos():
    coarse = np.random.default_rng(0).integers(0, 256, (21, 5, 6, 3), np.uint8)
    return [np.asarray(Image.fromarray(image).resize((48, 40))) for image in coarse]


def answers(model, photos, **settings):
    outputs = list(Predictor(model, **settings)(photos))
    return np.stack([output.logits for output in outputs]), np.stack([output.features for output in outputs])


@pytest.fixture(scope="module")
def expected(model, photos):
    return answers(model, photos, engine="openvino", precision="float32")


@pytest.mark.parametrize(("batch", "lanes"), [(None, None), (1, 1), (8, 1), (4, 2), (3, 3), (32, 2), (1, 5)])
def test_the_engine_agrees_with_openvino(model, photos, expected, batch, lanes):
    predictor = Predictor(model, engine="onnxruntime", batch=batch, lanes=lanes)
    assert (predictor.engine, predictor.precision) == ("onnxruntime", "float32")
    for found, wanted in zip(answers(model, photos, engine="onnxruntime", batch=batch, lanes=lanes), expected, strict=True):
        assert found.dtype == np.float32
        assert_close(found, wanted)


def test_one_image_alone_agrees_with_openvino(model, photos, expected):
    for found, wanted in zip(answers(model, photos[:1], engine="onnxruntime"), expected, strict=True):
        assert_close(found, wanted[:1])


def test_a_batch_in_any_layout_of_memory(model):
    """A view whose pixels don't lie in order is read as what it shows."""
    engine = Predictor(model, engine="onnxruntime").compiled(1)
    batch = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), np.uint8).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(engine(batch)[0], engine(np.ascontiguousarray(batch))[0])


def test_bf16_is_refused(model):
    with pytest.raises(ValueError, match="no bf16"):
        Predictor(model, engine="onnxruntime", precision="bf16")
