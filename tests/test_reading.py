"""From a source to a model: what is found out, what is asked for, what is refused."""

import argparse
import json
import logging

import numpy as np
import pytest
import torch
from random_norms import randomised
from safetensors.torch import save_file

from resnets.architecture import named
from resnets.data.preprocessing import NAMED as PREPROCESSINGS
from resnets.model import Model
from resnets.networks import network
from resnets.weights.foreign import read_dictionary
from resnets.weights.imagenet import BACKGROUND, NAMES, SYNSETS
from resnets.weights.reading import Wishes, read

SMALL = {"blocks": (1, 1, 1, 1), "width": 8, "classes": 5}
CIFAR = {"blocks": (1, 1, 1), "width": 4, "classes": 3}


def state_of(name, **changes):
    return randomised(network(name, seed=0, **changes)).state_dict()


def saved(folder, state, name="weights.pth"):
    (save_file if name.endswith(".safetensors") else torch.save)(state, folder / name)
    return folder / name


def as_shared(state):
    """As CIFAR weights are shared."""
    return {"module." + name.replace("fc.", "linear.").replace(".downsample.", ".shortcut."): x for name, x in state.items()}


# The architecture


def test_a_bottleneck_of_unknown_stride_is_asked_for(tmp_path):
    path = saved(tmp_path, state_of("resnet50", classes=4))
    with pytest.raises(ValueError, match=r"resnet50 \(stride in the first 1×1.*resnet50-v1.5 \(stride in the 3×3\).*--arch"):
        read(path)


@pytest.mark.parametrize(
    ("wishes", "net"),
    [
        ({"ecosystem": "torchvision"}, "resnet50-v1.5"),
        ({"ecosystem": "timm"}, "resnet50-v1.5"),
        ({"architecture": "resnet50"}, "resnet50"),
        ({"architecture": "resnet50-v1.5"}, "resnet50-v1.5"),
        ({"architecture": "resnet50-tf"}, "resnet50-tf"),
        ({"architecture": "resnet50_v1.5", "ecosystem": "torchvision"}, "resnet50-v1.5"),
    ],
)
def test_what_settles_the_stride(tmp_path, wishes, net):
    path = saved(tmp_path, state_of("resnet50", classes=4))
    assert read(path, Wishes(**wishes)).model.architecture == named(net, classes=4)


def test_an_architecture_that_the_ecosystem_has_not_is_refused(tmp_path):
    path = saved(tmp_path, state_of("resnet50", classes=4))
    with pytest.raises(ValueError, match=r"torchvision's network with these weights is resnet50-v1.5.*not resnet50$"):
        read(path, Wishes(ecosystem="torchvision", architecture="resnet50"))


def test_an_architecture_of_other_weights_is_refused(tmp_path):
    path = saved(tmp_path, state_of("resnet18", classes=4))
    with pytest.raises(ValueError, match=r"lack layer1.0.bn3.bias"):
        read(path, Wishes(architecture="resnet50"))


@pytest.mark.parametrize("name", ["resnet18", "wide-resnet50-2", "resnext50-32x4d", "resnet50d", "preact-resnet50"])
def test_what_shapes_settle_is_not_asked_for(tmp_path, name):
    path = saved(tmp_path, state_of(name, classes=4))
    assert read(path).model.architecture == named(name, classes=4)


def test_without_projections_it_is_asked_for_unless_the_names_are_the_shared_ones(tmp_path):
    state = state_of("resnet20", **CIFAR)
    with pytest.raises(ValueError, match=r"shortcut A\) and .*shortcut none\)"):
        read(saved(tmp_path, state))
    assert read(saved(tmp_path, state), Wishes(ecosystem="cifar")).model.architecture == named("resnet20", **CIFAR)
    found = read(saved(tmp_path, as_shared(state), "shared.th"))
    assert found.model.architecture == named("resnet20", **CIFAR)
    assert found.ecosystem is not None and found.ecosystem.name == "cifar"


@pytest.mark.parametrize(
    "changes",
    [{"shortcut": "B", **CIFAR}, {"shortcut": "B", "blocks": (1, 1, 1, 1), "width": 8, "classes": 10}],
    ids=["three stages", "four stages"],
)
def test_cifar_networks_that_project(tmp_path, changes):
    state = state_of("resnet20", **changes)
    found = read(saved(tmp_path, as_shared(state), "shared.th"))
    assert found.model.architecture == named("resnet20", **changes)
    for name, array in found.model.state.items():
        assert np.array_equal(array, state[name].numpy())


# Wrappers


def test_plain_and_averaged_weights_are_asked_for(tmp_path):
    plain, averaged = state_of("resnet18", **SMALL), state_of("resnet18", **{**SMALL})
    averaged["fc.bias"] = averaged["fc.bias"] + 1
    for names in (("state_dict", "state_dict_ema"), ("model", "model_ema")):
        path = saved(tmp_path, {names[0]: plain, names[1]: {"n_averaged": torch.tensor(3), **as_module(averaged)},
                                "args": argparse.Namespace(lr=0.1), "epoch": 3})  # fmt: skip
        with pytest.raises(
            ValueError, match=f"plain weights and averaged ones \\({names[1]}\\).*--weights ema or --weights plain"
        ):
            read(path)
        assert np.array_equal(read(path, Wishes(weights="plain")).model.state["fc.bias"], plain["fc.bias"].numpy())
        found = read(path, Wishes(weights="ema"))
        assert np.array_equal(found.model.state["fc.bias"], averaged["fc.bias"].numpy())
        assert found.source is not None
        assert any("n_averaged" in words for words in found.source.peeled)
        assert any(names[1] in words for words in found.source.peeled)


def as_module(state):
    return {f"module.{name}": x for name, x in state.items()}


def test_averaged_weights_alone_are_taken(tmp_path):
    path = saved(tmp_path, {"state_dict_ema": state_of("resnet18", **SMALL), "epoch": 1})
    assert read(path).model.architecture == named("resnet18", **SMALL)


def test_averaged_weights_that_are_not_there_are_not_taken(tmp_path):
    path = saved(tmp_path, {"state_dict": state_of("resnet18", **SMALL)})
    with pytest.raises(ValueError, match="no averaged weights"):
        read(path, Wishes(weights="ema"))


def test_a_namespace_is_the_one_thing_that_may_lie_beside(tmp_path):
    state = state_of("resnet18", **SMALL)
    assert read(saved(tmp_path, {"model": state, "args": argparse.Namespace(a=[1], b="x")})).model.classes
    with pytest.raises(ValueError, match=r"more than plain tensors, or is damaged \(pathlib.*state_dict"):
        read(saved(tmp_path, {"model": state, "args": tmp_path}))


# Kinds of numbers


@pytest.mark.parametrize(
    ("kind", "said"), [(torch.float16, "float16"), (torch.bfloat16, "bf16"), (torch.float64, "float64")]
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_half_precision_is_widened_exactly_and_remembered(tmp_path, kind, said, suffix):
    state = {name: x.to(kind) if x.is_floating_point() else x for name, x in state_of("resnet18", **SMALL).items()}
    found = read(saved(tmp_path, state, f"weights{suffix}"))
    assert found.source is not None and found.source.stored == said
    for name, array in found.model.state.items():
        assert np.array_equal(array, state[name].float().numpy() if state[name].is_floating_point() else state[name].numpy())


def test_numbers_that_are_none_are_reported(tmp_path, caplog):
    state = state_of("resnet18", **SMALL)
    state["layer1.0.conv1.weight"][0, 0] = torch.nan
    state["fc.bias"][1] = torch.inf
    with caplog.at_level(logging.WARNING, "resnets"):
        assert read(saved(tmp_path, state)).not_finite == 10
    assert "10 of its numbers are NaN or infinite, first in layer1.0.conv1.weight" in caplog.text


@pytest.mark.parametrize("kind", [torch.int32, torch.complex64])
def test_weights_of_another_kind_are_refused(tmp_path, kind):
    state = state_of("resnet18", **SMALL)
    state["layer1.0.conv1.weight"] = state["layer1.0.conv1.weight"].to(kind)
    with pytest.raises(ValueError, match=r"layer1.0.conv1.weight is (of the kind int32|a quantised, sparse or complex)"):
        read(saved(tmp_path, state))


def test_a_counter_may_be_a_float(tmp_path):
    state = state_of("resnet18", **SMALL)
    state["bn1.num_batches_tracked"] = torch.tensor(7.0)
    assert read(saved(tmp_path, state)).model.state["bn1.num_batches_tracked"] == 7


def test_shards_are_read(tmp_path):
    state = state_of("resnet18", **SMALL)
    names = sorted(state)
    files = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in files.items():
        save_file({name: state[name] for name in part}, tmp_path / file)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: file for file, part in files.items() for name in part}}))
    found = read(index).model
    assert all(np.array_equal(found.state[name], state[name].numpy()) for name in names)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match="lacks the shard model-00002"):
        read(index)
    index.write_text(json.dumps({"weight_map": {"x": "../other.safetensors"}}))
    with pytest.raises(ValueError, match="isn't a file beside it"):
        read(index)


# Classes and preprocessing


def test_unknown_classes_are_indices_and_unknown_preprocessing_stays_unset(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "resnets"):
        model = read(saved(tmp_path, state_of("resnet18", **SMALL))).model
    assert model.classes == ("0", "1", "2", "3", "4")
    assert model.preprocessing is None
    assert "--preprocessing" in caplog.text and "--classes" in caplog.text


def test_classes_and_preprocessing_that_are_given(tmp_path):
    (tmp_path / "classes.txt").write_text("\ufeffone\ntwo\n\nthree \nfour\nfünf\n", encoding="utf-8")
    how = PREPROCESSINGS["imagenet"]
    model = read(
        saved(tmp_path, state_of("resnet18", **SMALL)), Wishes(classes=tmp_path / "classes.txt", preprocessing=how)
    ).model
    assert model.classes == ("one", "two", "three", "four", "fünf")
    assert model.preprocessing == how


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("a\nb", "has 2 names, and the network 5 logits"),
        ("a\nb\nc\nd\na", "names 'a' twice"),
        (None, "can't be read: No such"),
    ],
)
def test_classes_that_do_not_fit_are_refused(tmp_path, lines, said):
    if lines is not None:
        (tmp_path / "classes.txt").write_text(lines)
    with pytest.raises(ValueError, match=said):
        read(saved(tmp_path, state_of("resnet18", **SMALL)), Wishes(classes=tmp_path / "classes.txt"))


def test_imagenets_names_are_built_in(tmp_path):
    assert len(NAMES) == len(set(NAMES)) == len(SYNSETS) == len(set(SYNSETS)) == 1000
    assert (SYNSETS[0], NAMES[0], SYNSETS[-1], NAMES[-1]) == ("n01440764", "tench", "n15075141", "toilet tissue")
    assert list(SYNSETS) == sorted(SYNSETS)
    state = state_of("resnet18", **{**SMALL, "classes": 1000})
    assert read(saved(tmp_path, state), Wishes(classes="imagenet")).model.classes == NAMES


def test_they_are_torchvisions(tmp_path):
    from torchvision.models import ResNet18_Weights

    assert list(NAMES) == ResNet18_Weights.IMAGENET1K_V1.meta["categories"]


def test_a_background_class_is_asked_for(tmp_path):
    path = saved(tmp_path, state_of("resnet18", **{**SMALL, "classes": 1001}))
    with pytest.raises(ValueError, match=r"1001 logits.*background class"):
        read(path)
    assert read(path, Wishes(classes="imagenet")).model.classes == (BACKGROUND, *NAMES)
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    with pytest.raises(
        ValueError, match="1000 names, and the network 1001 logits; the first of 1,001 is a background class"
    ):
        read(path, Wishes(classes=tmp_path / "classes.txt"))


# Sources


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder / "nothing", "there is no file or checkpoint"),
        (lambda folder: folder / "nothing.pth", "there is no file"),
        (lambda folder: folder / "nothing.weights.h5", "there is no file"),
        (lambda folder: touched(folder / "photo.jpg"), "no form that weights are read from"),
        (lambda folder: made(folder / "empty"), "holds no weights that are known here"),
        (lambda folder: touched(made(folder / "f") / "config.json", "[]").parent, "no JSON object"),
        (lambda folder: touched(made(folder / "g") / "config.json", "{").parent, "no JSON file"),
        (lambda folder: touched(made(folder / "h") / "config.json", "{}").parent, "neither transformers'.*nor timm's"),
        (lambda folder: touched(made(folder / "i") / "config.json", '{"model_type": "resnet"}').parent, "no weights"),
    ],
)
def test_what_is_no_source_is_named(tmp_path, make, said):
    with pytest.raises(ValueError, match=said):
        read(make(tmp_path))


def touched(path, text=""):
    path.write_text(text)
    return path


def made(path):
    path.mkdir()
    return path


def test_a_model_of_ours_is_a_source(tmp_path):
    net = named("resnet18", **SMALL)
    state = {name: x.numpy() for name, x in state_of("resnet18", **SMALL).items()}
    Model(net, ("a", "b", "c", "d", "e"), None, state).save(tmp_path / "ours.safetensors")
    (tmp_path / "classes.txt").write_text("v\nw\nx\ny\nz")
    how = PREPROCESSINGS["imagenet"]
    found = read(tmp_path / "ours.safetensors", Wishes(classes=tmp_path / "classes.txt", preprocessing=how)).model
    assert found.classes == ("v", "w", "x", "y", "z") and found.preprocessing == how and found.architecture == net
    with pytest.raises(ValueError, match="leave --from and --weights out"):
        read(tmp_path / "ours.safetensors", Wishes(ecosystem="timm"))
    with pytest.raises(ValueError, match="this model is a custom, not a resnet50"):
        read(tmp_path / "ours.safetensors", Wishes(architecture="resnet50"))


def test_a_name_that_is_no_ecosystem_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no ecosystem is called 'caffe'; there are cifar, huggingface, keras"):
        read(saved(tmp_path, state_of("resnet18", **SMALL)), Wishes(ecosystem="caffe"))


def test_prefixes_and_wrappers_are_told_of_a_dictionary(tmp_path):
    path = saved(tmp_path, {"state_dict": {"model._orig_mod." + k: v for k, v in state_of("resnet18", **SMALL).items()}})
    assert len(read_dictionary(path).peeled) == 3
