import hashlib
import io
import logging
import pickle
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from serving import serving

from resnets.architecture import NAMED, named
from resnets.graph import weight_shapes
from resnets.networks import network
from resnets.weights import pretrained, read_weights
from resnets.weights.pretrained import Pretrained, pretrained_for, pretrained_state

SMALL = named("resnet20", blocks=(1, 1, 1), width=4, classes=3)


@pytest.fixture(scope="module")
def state():
    return network(SMALL, seed=0).state_dict()


def prefixed(state, prefix):
    return {prefix + name: tensor for name, tensor in state.items()}


def as_linear(state):
    return {name.replace("fc.", "linear."): tensor for name, tensor in state.items()}


def assert_same(found, state):
    assert list(found) == list(state)
    for name, tensor in state.items():
        assert isinstance(found[name], np.ndarray)
        assert np.array_equal(found[name], tensor.numpy()), name


# Reading


WRITTEN = {  # how people's files hold a state dictionary
    "bare": lambda state: state,
    "module.": lambda state: prefixed(state, "module."),
    "model.": lambda state: prefixed(state, "model."),
    "net.": lambda state: prefixed(state, "net."),
    "_orig_mod.": lambda state: prefixed(state, "_orig_mod."),
    "two prefixes": lambda state: prefixed(state, "module._orig_mod."),
    "state_dict": lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
    "model": lambda state: {"model": state, "args": {"lr": 0.1}},
    "model_state_dict": lambda state: {"model_state_dict": state},
    "a wrapper in a wrapper": lambda state: {"state_dict": {"model": state}},
    "akamaster's": lambda state: {"state_dict": prefixed(as_linear(state), "module."), "best_prec1": 91.7},
    "best_prec1 beside the weights": lambda state: {**state, "best_prec1": 91.7, "epoch": 3, "arch": "resnet20"},
    "linear": as_linear,
    "parameters": lambda state: {name: torch.nn.Parameter(x) if x.is_floating_point() else x for name, x in state.items()},
}


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".th"])
@pytest.mark.parametrize("kind", WRITTEN)
def test_a_pytorch_file_however_it_holds_them(tmp_path, state, kind, suffix):
    torch.save(WRITTEN[kind](state), tmp_path / f"weights{suffix}")
    assert_same(read_weights(tmp_path / f"weights{suffix}"), state)


@pytest.mark.parametrize("kind", ["bare", "akamaster's"])
def test_a_file_of_pytorch_before_1_6(tmp_path, state, kind):
    torch.save(WRITTEN[kind](state), tmp_path / "old.th", _use_new_zipfile_serialization=False)
    assert_same(read_weights(str(tmp_path / "old.th")), state)


@pytest.mark.parametrize("kind", ["bare", "module.", "linear"])
def test_a_safetensors_file(tmp_path, state, kind):
    save_file(WRITTEN[kind](state), tmp_path / "weights.safetensors")
    found = read_weights(tmp_path / "weights.safetensors")
    assert_same({name: found[name] for name in state}, state)
    assert found.keys() == state.keys()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_of_other_precisions(tmp_path, kind, suffix):
    weight = {"fc.weight": torch.arange(12).reshape(3, 4).to(kind) / 8}
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(weight, path)
    assert np.array_equal(read_weights(path)["fc.weight"], np.arange(12, dtype=np.float32).reshape(3, 4) / 8)


def test_a_prefix_that_only_some_names_have_stays(tmp_path, state):
    mixed = {**prefixed(state, "model."), "temperature": torch.ones(1)}
    torch.save(mixed, tmp_path / "weights.pth")
    assert read_weights(tmp_path / "weights.pth").keys() == mixed.keys()


def test_what_is_peeled_off_is_said(tmp_path, state, caplog):
    torch.save({"state_dict": prefixed(state, "module.")}, tmp_path / "weights.pth")
    with caplog.at_level(logging.INFO, "resnets"):
        read_weights(tmp_path / "weights.pth")
    assert "'state_dict'" in caplog.text and "'module.'" in caplog.text


# What is refused


class Code:
    """Runs, when unpickled, what makes a folder."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.mkdir, (self.trace,)


@pytest.mark.parametrize("where", ["alone", "beside", "deep", "pickle"])
@pytest.mark.parametrize("suffix", [".pth", ".bin", ".ckpt"])
def test_a_file_with_code_is_refused_and_its_code_not_run(tmp_path, state, where, suffix):
    trace, path = tmp_path / "trace", tmp_path / f"weights{suffix}"
    code = Code(trace)
    document = {
        "alone": code,
        "beside": {**state, "extra": code},
        "deep": {"state_dict": state, "args": [code]},
        "pickle": code,
    }
    if where == "pickle":
        path.write_bytes(pickle.dumps(document[where], protocol=2))
    else:
        torch.save(document[where], path)
    with pytest.raises(ValueError, match=r"weights\.\w+ holds more than plain tensors, or is damaged"):
        read_weights(path)
    assert not trace.exists()
    torch.load(path, weights_only=False) if where != "pickle" else pickle.loads(path.read_bytes())
    assert trace.exists()  # so the file does hold code


def test_a_whole_module_is_refused(tmp_path):
    torch.save(network(SMALL, seed=0), tmp_path / "module.pth")
    with pytest.raises(ValueError, match="more than plain tensors"):
        read_weights(tmp_path / "module.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pytorch_file_cut_anywhere_is_refused(tmp_path, state, zipped):
    whole = io.BytesIO()
    torch.save(WRITTEN["akamaster's"](state), whole, _use_new_zipfile_serialization=zipped)
    content, path = whole.getvalue(), tmp_path / "cut.pth"
    for length in {0, 1, 2, 3, 10, 100, *np.linspace(200, len(content) - 1, 60).astype(int).tolist()}:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"cut\.pth"):
            read_weights(path)


def test_a_safetensors_file_cut_anywhere_is_refused(tmp_path, state):
    save_file(state, tmp_path / "whole.safetensors")
    content, path = (tmp_path / "whole.safetensors").read_bytes(), tmp_path / "cut.safetensors"
    for length in {0, 1, 8, 9, *np.linspace(10, len(content) - 1, 30).astype(int).tolist()}:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"cut\.safetensors is no whole safetensors file"):
            read_weights(path)


@pytest.mark.parametrize("suffix", [".pth", ".th", ".safetensors"])
@pytest.mark.parametrize(
    "content", ["", "not weights", "<html><body>404</body></html>\n", "version https://git-lfs.github.com/1"]
)
def test_a_text_file_is_refused(tmp_path, content, suffix):
    (tmp_path / f"weights{suffix}").write_text(content)
    with pytest.raises(ValueError, match=rf"weights\{suffix}"):
        read_weights(tmp_path / f"weights{suffix}")


@pytest.mark.parametrize(
    "document", [{}, [torch.zeros(2)], torch.zeros(2), {"epoch": 3}, {"state_dict": {}}, {0: torch.zeros(2)}]
)
def test_a_file_without_a_state_dictionary_is_refused(tmp_path, document):
    torch.save(document, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"weights\.pth holds no state dictionary"):
        read_weights(tmp_path / "weights.pth")


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors", "no/such/folder.pth"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(ValueError, match="there is no file"):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("name", ["weights.h5", "weights", "weights.zip"])
def test_another_suffix_says_which_are_read(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=r"\.pth, \.pt, \.th nor \.safetensors"):
        read_weights(tmp_path / name)


# Pretrained weights


@pytest.fixture
def weights(tmp_path, state, monkeypatch):
    """A file of weights in the folder `site`, an empty cache, and no other place where it could lie."""
    content = io.BytesIO()
    torch.save(state, content)
    file = f"small-{hashlib.sha256(content.getvalue()).hexdigest()[:8]}.pth"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / file).write_bytes(content.getvalue())
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("RESNETS_WEIGHTS_URL", "http://127.0.0.1:9")  # nobody answers there
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setitem(pretrained.IMAGENET, "resnet20", Pretrained(file, 0.5))
    return pretrained.IMAGENET["resnet20"]


def left_in(folder):
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("slash", ["", "/"])
def test_weights_are_fetched_once(tmp_path, weights, state, monkeypatch, caplog, slash):
    with serving(tmp_path / "site") as (address, asked):
        monkeypatch.setenv("RESNETS_WEIGHTS_URL", address + slash)
        assert_same(pretrained_state(weights), state)
        assert_same(pretrained_state(weights), state)
    assert asked == [f"/{weights.file}"]
    assert left_in(tmp_path / "cache") == [weights.file]
    assert_same(pretrained_state(weights), state)  # the server is gone
    assert warnings(caplog) == []


def test_weights_that_torchvision_fetched_are_found(tmp_path, weights, state):
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (tmp_path / "site" / weights.file).rename(folder / weights.file)
    assert_same(pretrained_state(weights), state)
    assert left_in(tmp_path / "cache") == []


def test_weights_in_torchvisions_usual_place_are_found(tmp_path, weights, state, monkeypatch):
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (tmp_path / "site" / weights.file).rename(folder / weights.file)
    assert_same(pretrained_state(weights), state)


def test_weights_brought_by_hand_are_found(tmp_path, weights, state, caplog):
    assert pretrained_state(weights) is None
    (said,) = warnings(caplog)
    assert str(tmp_path / "cache") in said
    (tmp_path / "site" / weights.file).rename(tmp_path / "cache" / weights.file)
    assert_same(pretrained_state(weights), state)


def put_other_bytes(site, file):
    (site / file).write_bytes(b"a page that a hotel shows")


def put_half(site, file):
    content = (site / file).read_bytes()
    (site / file).write_bytes(content[: len(content) // 2])


def put_nothing(site, file):
    (site / file).unlink()


@pytest.mark.parametrize("change", [put_other_bytes, put_half, put_nothing, None])
def test_what_cannot_be_fetched_is_said_once_and_leaves_nothing(tmp_path, weights, monkeypatch, caplog, change):
    with serving(tmp_path / "site") as (address, asked):
        monkeypatch.setenv("RESNETS_WEIGHTS_URL", address)
        if change:
            change(tmp_path / "site", weights.file)
            assert pretrained_state(weights) is None
            assert asked
    if not change:
        assert pretrained_state(weights) is None
    (said,) = warnings(caplog)
    assert "training from scratch" in said
    assert f"put {address}/{weights.file} into {tmp_path / 'cache'}" in said
    assert left_in(tmp_path / "cache") == []


def test_an_answer_that_breaks_off_leaves_nothing(tmp_path, weights, monkeypatch, caplog):
    monkeypatch.setattr(SimpleHTTPRequestHandler, "copyfile", lambda handler, source, out: out.write(source.read(1000)))
    with serving(tmp_path / "site") as (address, _):
        monkeypatch.setenv("RESNETS_WEIGHTS_URL", address)
        assert pretrained_state(weights) is None
    assert len(warnings(caplog)) == 1
    assert left_in(tmp_path / "cache") == []


@pytest.mark.parametrize("folder", ["cache", "torch/hub/checkpoints"])
def test_a_file_changed_in_the_cache_is_refused(tmp_path, weights, folder):
    (tmp_path / folder).mkdir(parents=True)
    content = bytearray((tmp_path / "site" / weights.file).read_bytes())
    content[-1] ^= 1
    (tmp_path / folder / weights.file).write_bytes(content)
    with pytest.raises(ValueError, match=f"{weights.file}.*SHA-256 differs.*delete it"):
        pretrained_state(weights)


# Which weights belong to which network


@pytest.mark.parametrize(
    ("name", "changes", "file"),
    [
        ("resnet18", {}, "resnet18-f37072fd.pth"),
        ("resnet18-v1.5", {}, "resnet18-f37072fd.pth"),
        ("resnet34-v1.5", {}, "resnet34-b627a593.pth"),
        ("resnet50-v1.5", {}, "resnet50-0676ba61.pth"),
        ("resnet50-v1.5", {"classes": 7}, "resnet50-0676ba61.pth"),
        ("resnet18", {"classes": 2}, "resnet18-f37072fd.pth"),
        ("wide-resnet50-2", {}, "wide_resnet50_2-95faca4d.pth"),
        ("resnext50-32x4d", {}, "resnext50_32x4d-7cdf4587.pth"),
        ("resnet50", {}, None),
        ("resnet101", {}, None),
        ("resnet18-tf", {}, None),
        ("resnet50-tf", {}, None),
        ("resnet18", {"shortcut": "A"}, None),
        ("resnet18", {"shortcut": "C"}, None),
        ("resnet50-v1.5", {"shortcut": "A"}, None),
        ("plain18", {}, None),
        ("preact-resnet18", {}, None),
        ("resnet50d", {}, None),
        ("resnet20", {}, None),
    ],
)
def test_weights_belong_to_a_network_of_the_same_layers(name, changes, file):
    found = pretrained_for(named(name, **changes))
    assert (found and found.file) == file


def test_a_network_of_other_widths_has_no_weights():
    assert pretrained_for(replace(named("resnet18"), width=32)) is None
    assert pretrained_for(replace(named("resnet18"), blocks=(2, 2, 2, 3))) is None


@pytest.mark.parametrize("name", sorted(NAMED))
def test_no_network_gets_weights_of_other_shapes(name):
    found = pretrained_for(NAMED[name])
    if found is not None:
        theirs = next(other for other, weights in pretrained.IMAGENET.items() if weights == found)
        assert weight_shapes(NAMED[name]) == weight_shapes(NAMED[theirs])
        assert name.removesuffix("-v1.5") == theirs.removesuffix("-v1.5")
