"""The ONNX graph reads as the network, and its engine agrees with OpenVINO's."""

import numpy as np
import pytest
from onnx import numpy_helper
from PIL import Image
from random_norms import assert_close, randomised, state_of

from resnets.architecture import named
from resnets.data.preprocessing import Preprocessing
from resnets.model import Model
from resnets.networks import network
from resnets.prediction.onnx.graph import graph
from resnets.prediction.predictor import Predictor


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
