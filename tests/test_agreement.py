"""A trained network says the same of 1,797 images in every engine and precision: the digits, which are built in."""

import numpy as np
import pytest

import resnets
from resnets.exporting import certificate, making
from resnets.metrics import softmax
from resnets.prediction.engines import ENGINES
from resnets.prediction.exported import open_model
from resnets.prediction.predictor import Predictor


@pytest.fixture(scope="module")
def images():
    data = resnets.open_dataset("digits")
    return [data.images.read(index, grey=True) for index in range(len(data))]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A ResNet-20 that is often right and not always sure of itself."""
    return resnets.train("digits", model="resnet20", epochs=5, out=tmp_path_factory.mktemp("runs") / "digits")


def logits(model, images, **settings):
    return np.stack([output.logits for output in Predictor(model, **settings)(images)])


@pytest.fixture(scope="module")
def expected(model, images):
    found = logits(model, images, engine="openvino", precision="float32")
    data = resnets.open_dataset("digits")
    assert 0.8 < (found.argmax(1) == data.labels).mean() < 1, "trained, and not sure of all"
    return found


def agreement(found, expected):
    return (found.argmax(1) == expected.argmax(1)).mean()


@pytest.mark.parametrize("engine", ENGINES)
def test_float32_scores(model, images, expected, engine):
    found = logits(model, images, engine=engine, precision="float32")
    np.testing.assert_allclose(softmax(found), softmax(expected), rtol=0, atol=1e-4)


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_bf16_labels(model, images, expected, engine):
    found = logits(model, images, engine=engine, precision="bf16")
    assert agreement(found, expected) >= 0.995
    if engine == "torch":  # computes in bf16 on any processor; OpenVINO on those that have it
        assert np.abs(found - expected).max() > 1e-3


@pytest.mark.parametrize("format", ["openvino", "onnx"])
def test_int8_labels(model, images, expected, format, tmp_path, monkeypatch):
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(making, "CALIBRATION", 100)
    monkeypatch.setattr(certificate, "latency", lambda engine, batch: 1.0)
    monkeypatch.setattr(certificate, "throughput", lambda engine, batch, images: 1.0)
    out = resnets.export(model, tmp_path / "out", format=format, precision="int8", input="crops", data="digits")
    found = logits(open_model(out), images)
    assert agreement(found, expected) >= 0.985
    assert np.abs(found - expected).max() > 1e-3
