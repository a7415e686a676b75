import errno
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
import safetensors
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import resnets
from resnets.architecture import named
from resnets.data.preprocessing import Preprocessing
from resnets.graph import weight_shapes
from resnets.model import Model, load, resolve

NET = named("resnet20", classes=3)
CIFAR = Preprocessing(size=32, crop=1.0, interpolation="bicubic")


def weights(net=NET, seed=0):
    random = np.random.default_rng(seed)
    return {
        name: np.array(7) if name.endswith("num_batches_tracked") else random.random(shape, np.float32) + 0.5
        for name, shape in weight_shapes(net).items()
    }


def model(**changes):
    given = {
        "architecture": NET,
        "classes": ("ant", "Käfer", "10"),
        "preprocessing": CIFAR,
        "state": weights(),
        "recipe": {"name": "quick", "epochs": 2},
        "data": {"name": "insects", "fingerprint": "ab12", "images": 9, "held_out": {"rule": "hash", "seed": 0}},
        "accuracy": {"top1": 0.75, "images": 4, "split": "held-out"},
        "versions": {"resnets": resnets.__version__},
    }
    return Model(**given | changes)


@pytest.fixture
def saved(tmp_path):
    return model().save(tmp_path / "best.safetensors")


def rewrite(path, **changes):
    """The file at `path` with fields of its document changed, as another program would write them: hashed anew."""
    with safe_open(path, "numpy") as file:
        document = json.loads(file.metadata()["resnets"]) | changes
    del document["document_sha256"]
    document["document_sha256"] = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    save_file(load_file(path), path, {"resnets": json.dumps(document)})


def test_what_is_loaded_is_what_was_saved(saved):
    before, after = model(), load(saved)
    for field in fields(Model):
        if field.name != "state":
            assert getattr(after, field.name) == getattr(before, field.name)
    assert after.state.keys() == before.state.keys()
    for name, array in before.state.items():
        np.testing.assert_array_equal(after.state[name], array)
        assert after.state[name].dtype == (np.int64 if name.endswith("num_batches_tracked") else np.float32)
    assert after.sha256 == before.sha256


def test_preprocessing_may_be_unknown(tmp_path):
    assert load(model(preprocessing=None).save(tmp_path / "a.safetensors")).preprocessing is None


def test_the_same_model_gives_the_same_bytes_wherever_it_lies(saved, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    again = load(saved).save(tmp_path / "elsewhere" / "b.safetensors")
    backwards = model(state=dict(reversed(weights().items()))).save(tmp_path / "c.safetensors")
    assert again.read_bytes() == saved.read_bytes() == backwards.read_bytes()
    assert str(tmp_path).encode() not in saved.read_bytes()


def test_any_safetensors_reader_opens_it(saved):
    with safe_open(saved, "numpy") as file:
        assert list(file.metadata()) == ["resnets"]
        document = json.loads(file.metadata()["resnets"])
        assert set(file.keys()) == set(weight_shapes(NET))
    assert document["classes"] == ["ant", "Käfer", "10"]
    assert set(document) == {  # neither times nor places
        "format", "architecture", "classes", "preprocessing", "recipe", "data", "accuracy", "versions", "sha256",
        "document_sha256",
    }  # fmt: skip
    np.testing.assert_array_equal(load_file(saved)["fc.bias"], weights()["fc.bias"])


@pytest.mark.parametrize("place", [-1, -5000, -100_000])
def test_a_flipped_byte_in_the_tensors_is_damage(saved, place):
    content = bytearray(saved.read_bytes())
    content[place] ^= 1
    saved.write_bytes(content)
    with pytest.raises(ValueError, match=r"best\.safetensors.*damaged"):
        load(saved)


def test_a_flipped_byte_in_the_document_is_damage(saved):
    content = saved.read_bytes()
    assert content.count(b"fer") == 1
    saved.write_bytes(content.replace(b"fer", b"der"))
    with pytest.raises(ValueError, match=r"best\.safetensors.*damaged"):
        load(saved)


@pytest.mark.parametrize("length", [0, 4, 500, -1])
def test_a_file_that_is_cut_off_is_no_whole_file(saved, length):
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"best\.safetensors is no whole safetensors file"):
        load(saved)


def test_a_newer_format_is_refused_by_its_number(saved):
    rewrite(saved, format=99)
    with pytest.raises(ValueError, match=r"best\.safetensors: format 99 is newer"):
        load(saved)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": ["a", "b"]}, "2 class names for 3 logits"),
        ({"architecture": {**NET.to_json(), "colour": 1}}, "unknown architecture field 'colour'"),
        ({"architecture": named("resnet32", classes=3).to_json()}, "the weights lack layer1.3"),
        ({"preprocessing": {**CIFAR.to_json(), "sharpen": 1}}, "unknown preprocessing field 'sharpen'"),
        ({"preprocessing": {**CIFAR.to_json(), "size": 1}}, "size"),
    ],
)
def test_a_document_that_does_not_fit_is_refused_with_the_file_named(saved, changes, said):
    rewrite(saved, **changes)
    with pytest.raises(ValueError, match=rf"best\.safetensors: .*{said}"):
        load(saved)


def test_a_document_that_lacks_a_field_is_refused_by_the_fields_name(saved):
    save_file(load_file(saved), saved, {"resnets": '{"format": 1}'})
    with pytest.raises(ValueError, match=r"best\.safetensors: .*lacks 'sha256'"):
        load(saved)


@pytest.mark.parametrize("document", ["{", "[]", "null", '"format"'])
def test_a_document_that_is_none_is_refused(saved, document):
    save_file(load_file(saved), saved, {"resnets": document})
    with pytest.raises(ValueError, match=r"best\.safetensors: "):
        load(saved)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_foreign_safetensors_file_is_no_model(tmp_path, metadata):
    save_file(weights(), tmp_path / "a.safetensors", metadata)
    with pytest.raises(ValueError, match=r"a\.safetensors .*not a model of resnets"):
        load(tmp_path / "a.safetensors")


def test_a_foreign_file_of_a_kind_that_numpy_lacks_is_no_model_either(tmp_path):
    import torch
    from safetensors.torch import save_file as save_torch

    save_torch({"fc.weight": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"a\.safetensors"):
        load(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fc.bias": None}, r"the weights lack fc\.bias"),
        ({"fc.bias": None, "conv1.weight": None, "fc.weight": None}, r"lack conv1\.weight and 2 more"),
        ({"layer4.0.conv1.weight": np.ones(1)}, r"unknown layer4\.0\.conv1\.weight"),
        ({"fc.bias": None, "fc.offset": np.ones(3)}, r"lack fc\.bias and have an unknown fc\.offset"),
        ({"fc.bias": np.ones(4)}, r"fc\.bias is \[4\], and the architecture's is \[3\]"),
        ({"fc.weight": np.ones((64, 3))}, r"fc\.weight is \[64, 3\]"),
        ({"bn1.num_batches_tracked": None}, r"lack bn1\.num_batches_tracked"),
    ],
)
def test_a_weight_that_does_not_fit_is_named(changes, said):
    state = {name: array for name, array in (weights() | changes).items() if array is not None}
    with pytest.raises(ValueError, match=said):
        model(state=state)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": ("a", "b")}, "2 class names for 3 logits"),
        ({"classes": ("a", "b", "a")}, "same name"),
        (
            {"preprocessing": Preprocessing(colour="grey", mean=(0.5,), deviation=(0.5,))},
            "1 channels, and the network takes 3",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        model(**changes)


def test_weights_from_before_the_norms_counted_batches():
    old = {name: array for name, array in weights().items() if not name.endswith("num_batches_tracked")}
    state = model(state=old).state
    assert state["bn1.num_batches_tracked"] == 0
    assert state.keys() == weights().keys()


def test_weights_of_other_kinds_become_float32():
    state = {name: array.astype(np.float64, order="F") for name, array in weights().items()}
    assert model(state=state).sha256 == model().sha256


def test_a_folder_means_its_best(saved, tmp_path):
    assert resolve(tmp_path) == saved
    assert load(tmp_path).classes == model().classes


def test_a_folder_without_a_model_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(ValueError, match=rf"{tmp_path} holds no best\.safetensors"):
        load(tmp_path)
    with pytest.raises(ValueError, match=r"there is no file .*no\.safetensors"):
        load(tmp_path / "no.safetensors")


@pytest.mark.parametrize(("name", "said"), [("a.pt", r"NAME\.safetensors, not a\.pt"), ("no/a.safetensors", "no folder")])
def test_a_place_where_no_model_can_be_is_refused(tmp_path, name, said):
    with pytest.raises(ValueError, match=said):
        model().save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_previous_model_and_nothing_beside_it(saved, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = saved.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        model(state=weights(seed=1)).save(saved)
    assert str(saved) in str(caught.value)
    assert saved.read_bytes() == before
    assert [entry.name for entry in saved.parent.iterdir()] == ["best.safetensors"]


def test_what_the_library_says_of_a_full_disk_is_an_error_of_the_system(saved, monkeypatch):
    def full(*_):
        raise safetensors.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("resnets.model.save_file", full)
    with pytest.raises(OSError, match=rf"No space left on device: '{saved}'"):
        model().save(saved)
    assert [entry.name for entry in saved.parent.iterdir()] == ["best.safetensors"]


def test_loading_and_saving_import_no_torch(saved):
    code = (
        "import sys, resnets; resnets.load(sys.argv[1]).save(sys.argv[1]); print({'torch', 'torchvision'} & {*sys.modules})"
    )
    answer = subprocess.run([sys.executable, "-c", code, str(saved)], capture_output=True, text=True, check=True)
    assert answer.stdout == "set()\n"


def test_the_network_has_the_models_weights_and_is_in_evaluation_mode():
    import torch

    own = model()
    net = own.network()
    assert not any(module.training for module in net.modules())
    assert net.state_dict().keys() == own.state.keys()
    for name, tensor in net.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), own.state[name])
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
    with torch.no_grad():
        net.fc.bias.zero_()
    assert own.state["fc.bias"].all()  # the model keeps its own


def test_a_saved_file_is_its_bytes_and_has_the_usual_permissions(tmp_path):
    path = model().save(tmp_path / "model.safetensors")
    (tmp_path / "other").touch()
    assert path.read_bytes() == model().to_bytes()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode
