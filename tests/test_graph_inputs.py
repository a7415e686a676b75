"""Preprocessing inside a graph, OpenVINO's and ONNX's, is `data.preprocessing` to a level or two of 255."""

import functools
from fractions import Fraction

import numpy as np
import onnx
import openvino as ov
import pytest
from onnx import TensorProto, helper
from openvino import opset15 as ops
from PIL import Image

from resnets.architecture import named
from resnets.data.preprocessing import Preprocessing, crop, middle, normalise
from resnets.metrics import softmax
from resnets.networks import network
from resnets.prediction import geometry
from resnets.prediction.onnx import graph as onnx_graph
from resnets.prediction.onnx import inputs as onnx_inputs
from resnets.prediction.onnx.engine import ONNXRuntimeEngine
from resnets.prediction.openvino import graph as openvino_graph
from resnets.prediction.openvino import inputs as openvino_inputs
from resnets.prediction.openvino.engine import OpenVINOEngine

INPUTS = {"openvino": openvino_inputs, "onnx": onnx_inputs}
GRAPHS = {"openvino": openvino_graph.graph, "onnx": onnx_graph.graph}
SIZES = [(100, 141), (375, 500), (333, 64), (64, 64), (30, 50), (1200, 801), (20, 300)]
LEVELS, MEAN = 3.01, 0.35  # which direction goes first is each resampler's choice, and each rounds after the first
TIES = 2 / 64  # "nearest": a row and a column of pixels may lie right between two of the image's, where floats decide
COLOURS = {
    "RGB": {"colour": "RGB", "mean": (0.4, 0.5, 0.3), "deviation": (0.2, 0.3, 0.25)},
    "BGR": {"colour": "BGR", "mean": (0.4, 0.5, 0.3), "deviation": (0.2, 0.3, 0.25)},
    "grey": {"colour": "grey", "mean": (0.4,), "deviation": (0.2,)},
}


def openvino_nothing(channels):
    """A network that gives as logits what it reads."""
    entry = ops.parameter([-1, channels, -1, -1], np.float32, "tensor")
    logits = ops.multiply(entry, np.float32(1)).output(0)
    features = ops.reduce_mean(logits, np.array([2, 3]), False).output(0)
    return openvino_graph.named_model(entry, {"logits": logits, "features": features}, "tensor")


def onnx_nothing(channels):
    """The same."""
    entry, logits, features = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", channels, *sides])
        for name, sides in (("tensor", ("height", "width")), ("logits", ("height", "width")), ("features", ()))
    )
    nodes = [
        helper.make_node("Identity", ["tensor"], ["logits"]),
        helper.make_node("ReduceMean", ["tensor", "axes"], ["features"], keepdims=0),
    ]
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    body = helper.make_graph(nodes, "nothing", [entry], [logits, features], [axes])
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


NOTHING = {"openvino": openvino_nothing, "onnx": onnx_nothing}


def engine_of(made):
    if isinstance(made, ov.Model):
        return OpenVINOEngine(made, "float32")
    onnx.checker.check_model(made, full_check=True)
    return ONNXRuntimeEngine(made.SerializeToString(), "float32")


def preparing(runtime, reads, how):
    """The engine of what goes before a network, and nothing else."""
    return engine_of(getattr(INPUTS[runtime], reads)(NOTHING[runtime](how.channels), how))


@functools.cache
def picture(height, width):
    """Blotches of every colour, not smooth and not noise."""
    coarse = np.random.default_rng(height * 10007 + width).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height)))


def differences(engine, image, how):
    """What an engine makes of an image against `normalise(crop(image))`, in levels of 255: [height, width, channels]."""
    (found, _), expected = engine(image), normalise(crop(image, how)[None], how)
    assert found.shape == expected.shape and found.dtype == np.float32
    levels = np.abs(found - expected)[0] * (np.array(how.deviation) / how.scale)[:, None, None]
    return levels.transpose(1, 2, 0)


def assert_like_preprocessing(runtime, how, sizes=SIZES):
    engine = preparing(runtime, "of_image", how)
    for height, width in sizes:
        found = differences(engine, np.ascontiguousarray(picture(height, width)[..., : how.channels]), how)
        if how.interpolation == "nearest":
            assert (found > 0.01).any(2).mean() <= TIES, (height, width)
        else:
            assert found.max() <= LEVELS and found.mean() <= MEAN, (height, width, found.max(), found.mean())


@pytest.mark.parametrize("runtime", INPUTS)
@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", pytest.param("bicubic", marks=pytest.mark.slow)])
@pytest.mark.parametrize("antialias", [True, False])
def test_an_image_of_any_size(runtime, fit, interpolation, antialias):
    how = Preprocessing(size=64, fit=fit, interpolation=interpolation, antialias=antialias, **COLOURS["RGB"])
    assert_like_preprocessing(runtime, how)


@pytest.mark.parametrize("runtime", INPUTS)
@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("colour", ["BGR", "grey"])
def test_colours_of_an_image(runtime, fit, interpolation, colour):
    how = Preprocessing(size=64, fit=fit, interpolation=interpolation, **COLOURS[colour])
    assert_like_preprocessing(runtime, how, SIZES[:3])


@pytest.mark.parametrize("runtime", INPUTS)
@pytest.mark.parametrize("share", [1.0, 0.9, 0.875])
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_every_place_of_the_square(runtime, fit, share):
    """A square one pixel off would differ by several levels on average."""
    generator = np.random.default_rng(0)
    sizes = [(1, 1), (1, 90), (90, 1), (24, 24), (25, 24), *generator.integers(1, 150, (25, 2)).tolist()]
    assert_like_preprocessing(runtime, Preprocessing(size=24, crop=share, fit=fit, **COLOURS["RGB"]), sizes)


@pytest.mark.parametrize("runtime", INPUTS)
@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("scale", [1 / 255, 1.0])
def test_ready_crops(runtime, colour, scale):
    how = Preprocessing(size=16, interpolation="lanczos", **(COLOURS[colour] | {"scale": scale}))
    engine = preparing(runtime, "of_images", how)
    for count in (1, 5):
        crops = np.random.default_rng(count).integers(0, 256, (count, 16, 16, how.channels), np.uint8)
        expected = normalise(crops, how)
        np.testing.assert_allclose(engine(crops)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("runtime", INPUTS)
def test_lanczos_is_refused(runtime):
    with pytest.raises(ValueError, match="lanczos interpolation can't be part of a graph; export with --input crops"):
        preparing(runtime, "of_image", Preprocessing(interpolation="lanczos"))


@pytest.mark.parametrize("runtime", INPUTS)
@pytest.mark.parametrize("reads", ["of_image", "of_images"])
def test_probabilities_come_first(runtime, reads):
    net, how = named("resnet20", width=8, classes=7), Preprocessing(size=32)
    state = {key: value.numpy() for key, value in network(net, seed=0).state_dict().items()}
    made = INPUTS[runtime].with_probabilities(getattr(INPUTS[runtime], reads)(GRAPHS[runtime](net, state), how))
    engine = engine_of(made)
    batch = picture(40, 50) if reads == "of_image" else np.stack([crop(picture(40, side), how) for side in (50, 60)])
    logits, features = engine(batch)
    assert features.shape == (len(logits), net.features)
    if runtime == "openvino":
        assert [output.any_name for output in made.outputs] == ["probabilities", "logits", "features"]
        probabilities = engine.compiled([batch])[0]
    else:
        assert [output.name for output in made.graph.output] == ["probabilities", "logits", "features"]
        probabilities = engine.session.run(None, {engine.entry: batch})[0]
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(probabilities, softmax(logits), rtol=1e-4)


def sides(count, largest):
    """Heights and widths, few and many pixels alike."""
    generator = np.random.default_rng(0)
    return [tuple(map(int, pair)) for pair in np.exp(generator.uniform(0, np.log(largest), (count, 2)))]


@pytest.mark.parametrize("size", [8, 33, 224])
@pytest.mark.parametrize("share", [1.0, 0.875, 0.9, 0.61])
def test_the_place_of_a_crop(size, share):
    how = Preprocessing(size=size, crop=share)
    for height, width in sides(2000, 10000):
        at = geometry.place(height, width, how, min, max)
        across, down = width / at.width, height / at.height
        box = (at.left * across, at.top * down, (at.left + size) * across, (at.top + size) * down)
        assert box == middle(height, width, how), (height, width)


@pytest.mark.parametrize("size", [8, 33, 224])
def test_the_place_in_a_padded_square(size):
    """Where a white image comes to lie on a black square."""
    how = Preprocessing(size=size, fit="pad", interpolation="nearest", colour="grey", mean=(0.0,), deviation=(1.0,))
    for height, width in sides(150, 2000):
        white = crop(np.full((height, width, 1), 255, np.uint8), how)[..., 0] == 255
        rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
        found = geometry.place(height, width, how, min, max)
        assert found == (len(rows), len(columns), rows[0], columns[0]), (height, width)


def test_the_place_of_a_squashed_image():
    assert geometry.place(30, 500, Preprocessing(size=40, fit="squash"), min, max) == (40, 40, 0, 0)


def test_whole_numbers_round_as_python_does():
    for x in range(1000):
        assert geometry.half(x) == round(Fraction(x, 2))
    for b in (2, 4, 6, 10, 32, 98, 1000):
        for a in range(3 * b + 2):
            assert geometry._rounded(a, b, max) == round(Fraction(a, b)), (a, b)
