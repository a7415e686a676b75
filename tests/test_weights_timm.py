import importlib
import json
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from photos import SHAPES, assert_alike, photo
from PIL import Image
from random_norms import assert_close, randomised, state_of
from safetensors.numpy import load_file
from safetensors.torch import save_file
from seeded import images
from timm.data import create_transform, resolve_model_data_config

from resnets.architecture import NAMED, Architecture, named
from resnets.conversion.witnesses import timm as witness
from resnets.data.preprocessing import Preprocessing, crop, normalise
from resnets.files import write_json
from resnets.graph import weight_shapes
from resnets.model import Model
from resnets.networks import network
from resnets.weights.ecosystems.timm import ECOSYSTEM, share_of
from resnets.weights.imagenet import NAMES, SYNSETS
from resnets.weights.shapes import architecture_of
from resnets.weights.timm_networks import TABLE, named_in_timm

QUICK = ("resnet18", "resnet50", "resnet18d", "resnet50d", "resnet50c", "wide_resnet50_2", "resnext50_32x4d")
EACH = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in TABLE]
WRITTEN = [
    pytest.param(name, marks=[] if name in ("resnet18d", "resnet50", "resnext50_32x4d") else pytest.mark.slow)
    for name in TABLE
]
TENSORS = images(2, 3, 64)
SMALL = Architecture("basic", (1, 1, 1, 1), classes=3)
VARIANTS = [  # of no name in timm: its arguments say them
    SMALL,
    replace(SMALL, channels=1),
    replace(SMALL, channels=4, stem="deep"),
    replace(SMALL, stem="deep", pool_shortcut=True),
    replace(SMALL, pool_shortcut=True),
    Architecture("bottleneck", (1, 2, 1, 1), stride_in_3x3=True, classes=5),
    Architecture("bottleneck", (1, 1, 1, 1), stride_in_3x3=True, width_factor=3, classes=5),
    Architecture("bottleneck", (1, 1, 1, 1), stride_in_3x3=True, groups=8, group_width=8, stem="deep", classes=5),
]


def theirs(name, **arguments):
    """A network of timm's with weights of its own and norms that matter, in evaluation."""
    torch.manual_seed(0)
    net = timm.create_model(name, **arguments)
    net.architecture = replace(TABLE[name], channels=arguments.get("in_chans", 3))
    return randomised(net)


@torch.inference_mode()
def logits(net, tensors=TENSORS):
    return net.eval()(torch.from_numpy(tensors)).numpy()


def configured(config):
    return ECOSYSTEM.configured({"config.json": config}, {})


def as_model(state, config):
    """The model of what timm saved."""
    found = configured(config)
    classes = found.classes or tuple(map(str, range(found.architecture.classes)))
    return Model(found.architecture, classes, found.preprocessing, ECOSYSTEM.to_ours(state).state)


def written(folder, model):
    """The model as a folder for timm."""
    folder.mkdir()
    for name, document in ECOSYSTEM.configuration(model).items():
        write_json(folder / name, document)
    state = ECOSYSTEM.from_ours(model.state, model.architecture)
    save_file({key: torch.from_numpy(array) for key, array in state.items()}, folder / "model.safetensors")
    return folder


def ours(net, how=None, classes=None):
    """A model of random weights."""
    state = state_of(randomised(network(net, seed=0)))
    return Model(net, classes or tuple(f"class {index}" for index in range(net.classes)), how, state)


# Networks


@pytest.mark.parametrize("name", TABLE)
def test_every_network_of_the_table_has_timms_weights(name):
    with torch.device("meta"):
        net = timm.create_model(name)
    assert {key: tuple(tensor.shape) for key, tensor in net.state_dict().items()} == weight_shapes(TABLE[name])


@pytest.mark.parametrize("name", EACH)
def test_a_network_that_timm_saved_is_ours_with_the_same_logits(tmp_path, name):
    net = theirs(name, num_classes=5)
    timm.models.save_for_hf(net, tmp_path, safe_serialization=True)
    model = as_model(state_of(net), json.loads((tmp_path / "config.json").read_text()))
    assert model.architecture == replace(TABLE[name], classes=5)
    assert_close(logits(model.network()), logits(net))
    assert_close(witness.logits(tmp_path, model.architecture, TENSORS), logits(net))


@pytest.mark.parametrize("name", EACH)
def test_without_its_configuration_too(name):
    with torch.device("meta"):
        net = timm.create_model(name, num_classes=5, in_chans=4)
    shapes = {key: tuple(tensor.shape) for key, tensor in net.state_dict().items()}
    (found,) = ECOSYSTEM.candidates(architecture_of(shapes))
    assert found == replace(TABLE[name], classes=5, channels=4)


@pytest.mark.parametrize(
    "arguments",
    [
        {"in_chans": 1},
        {"in_chans": 5},
        {"layers": (1, 2, 1, 1)},
        {"layers": [1, 1, 1, 1], "base_width": 128},
        {"layers": (1, 1, 1, 1), "cardinality": 4, "base_width": 24},
        {"layers": (1, 1, 1, 1), "base_width": 96},
        {"layers": (1, 1, 1, 1), "stem_type": "deep", "stem_width": 32},
        {"layers": (1, 1, 1, 1), "avg_down": True, "drop_rate": 0.5, "zero_init_last": False},
    ],
    ids=str,
)
def test_arguments_of_timms_are_read(tmp_path, arguments):
    net = theirs("resnet50", num_classes=5, **arguments)
    timm.models.save_for_hf(net, tmp_path, safe_serialization=True, model_args=arguments)
    model = as_model(state_of(net), json.loads((tmp_path / "config.json").read_text()))
    tensors = images(2, model.architecture.channels, 64)
    assert_close(logits(model.network(), tensors), logits(net, tensors))


@pytest.mark.parametrize("net", VARIANTS, ids=str)
def test_ours_is_a_folder_of_timms_with_the_same_logits(tmp_path, net):
    model = ours(net)
    tensors = images(2, net.channels, 64)
    folder = written(tmp_path / "folder", model)
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert_close(logits(loaded, tensors), logits(model.network(), tensors))
    assert_close(witness.logits(folder, net, tensors), logits(model.network(), tensors))
    again = configured(json.loads((folder / "config.json").read_text()))
    assert (again.architecture, again.classes, again.preprocessing) == (net, model.classes, None)


@pytest.mark.parametrize("name", WRITTEN)
def test_a_network_with_a_name_is_written_under_it(tmp_path, name):
    net = replace(TABLE[name], classes=5)
    assert named_in_timm(net) == (name, {})
    assert ECOSYSTEM.why_not(net) is None
    model = ours(net)
    loaded = timm.create_model(f"local-dir:{written(tmp_path / 'folder', model)}", pretrained=True)
    assert loaded.num_classes == 5
    assert_close(logits(loaded), logits(model.network()))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("net", VARIANTS[:1] + VARIANTS[3:6:2], ids=str)
def test_the_witness_reads_a_file(tmp_path, net, suffix):
    model = ours(net)
    state = {key: torch.from_numpy(array) for key, array in model.state.items()}
    (save_file if suffix == ".safetensors" else torch.save)(state, tmp_path / f"weights{suffix}")
    assert_close(witness.logits(tmp_path / f"weights{suffix}", net, TENSORS), logits(model.network()))
    assert witness.tensors(tmp_path / f"weights{suffix}", [photo(40, 50)]) is None


def test_the_witness_wants_every_weight(tmp_path):
    folder = written(tmp_path / "folder", ours(SMALL))
    state = {key: torch.from_numpy(array) for key, array in ours(SMALL).state.items() if key != "layer3.0.bn2.weight"}
    save_file(state, folder / "model.safetensors")
    with pytest.raises(RuntimeError, match=r"layer3\.0\.bn2\.weight"):
        witness.logits(folder, SMALL, TENSORS)


def test_names_that_only_timm_has():
    assert ECOSYSTEM.recognises(weight_shapes(NAMED["resnet50d"]))
    assert not ECOSYSTEM.recognises(weight_shapes(NAMED["resnet50"]))
    assert ECOSYSTEM.recognises(f"timm_model.{name}" for name in weight_shapes(NAMED["resnet50"]))


def test_names_of_a_timm_network_in_a_folder_of_transformers():
    state = {f"timm_model.{name}": np.zeros(shape) for name, shape in weight_shapes(SMALL).items()}
    assert ECOSYSTEM.to_ours(state).state.keys() == weight_shapes(SMALL).keys()


@pytest.mark.convert
def test_a_folder_that_transformers_wrote_of_a_timm_model_has_the_same_logits(tmp_path):
    transformers = importlib.import_module("transformers")
    config = transformers.TimmWrapperConfig(architecture="resnet18d", id2label={0: "cat", 1: "dog", 2: "owl"})
    wrapper = transformers.TimmWrapperForImageClassification(config)
    wrapper.timm_model.architecture = replace(TABLE["resnet18d"], classes=3)
    randomised(wrapper.timm_model)
    wrapper.save_pretrained(tmp_path)
    model = as_model(load_file(tmp_path / "model.safetensors"), json.loads((tmp_path / "config.json").read_text()))
    assert model.architecture == replace(TABLE["resnet18d"], classes=3)
    assert model.classes == ("cat", "dog", "owl")
    with torch.inference_mode():
        expected = wrapper.eval()(torch.from_numpy(TENSORS)).logits.numpy()
    assert_close(logits(model.network()), expected)
    assert_close(witness.logits(tmp_path, model.architecture, TENSORS), expected)
    assert witness.tensors(tmp_path, [photo(40, 50)]) is None


WHY_NOT = {
    "resnet50": "stride in the 3×3",
    "resnet18-tf": "pads symmetrically",
    "preact-resnet50": "pre-activation",
    "plain34": "option B",
    "resnet20": "7×7",
}


@pytest.mark.parametrize("name", WHY_NOT)
def test_what_it_cannot_be_is_said(name):
    assert WHY_NOT[name] in (ECOSYSTEM.why_not(NAMED[name]) or "")


def test_shapes_that_no_network_of_timms_has():
    with pytest.raises(ValueError, match="no weights of a ResNet of timm: its stem"):
        ECOSYSTEM.candidates(architecture_of(weight_shapes(NAMED["resnet20"])))


# What a configuration says


GOOD = {"architecture": "resnet18", "num_classes": 3, "pretrained_cfg": {"input_size": [3, 96, 96], "crop_pct": 0.9}}


@pytest.mark.parametrize(
    "name",
    [
        "vit_base_patch16_224",
        "resnet50_gn",
        "seresnet50",
        "resnetrs50",
        "resnetaa50",
        "resnet50t",
        "resnet50s",
        "resnetv2_50",
    ],
)
def test_another_network_is_refused_by_its_name(name):
    assert timm.is_model(name)
    with pytest.raises(ValueError, match=rf"architecture is '{name}', and of timm's networks these are read: resnet18, "):
        configured({**GOOD, "architecture": name})


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("resnet50.a1_in1k", "resnet50"),
        ("tv_resnet50", "resnet50"),
        ("gluon_resnet50_v1b", "resnet50"),
        ("gluon_resnet50_v1d", "resnet50d"),
        ("ssl_resnext50_32x4d", "resnext50_32x4d"),
        ("ig_resnext101_32x16d", "resnext101_32x16d"),
    ],
)
def test_tags_and_older_names_are_read(name, known):
    assert configured({**GOOD, "architecture": name}).architecture == replace(TABLE[known], classes=3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_args": {"output_stride": 8}}, "output_stride is 8, and a network here has 32"),
        ({"model_args": {"replace_stem_pool": True}}, "replace_stem_pool is True"),
        ({"model_args": {"norm_layer": "groupnorm"}}, "norm_layer is 'groupnorm'"),
        ({"model_args": {"act_layer": "silu"}}, "act_layer is 'silu'"),
        ({"model_args": {"global_pool": "max"}}, "global_pool is 'max'"),
        ({"global_pool": "catavgmax"}, "global_pool is 'catavgmax'"),
        ({"model_args": {"attn_layer": "se"}}, "attn_layer is 'se', which has no place"),
        ({"model_args": {"stem_type": "deep_tiered", "stem_width": 32}}, "stem_type is 'deep_tiered'"),
        ({"model_args": {"stem_type": "deep", "stem_width": 64}}, "stem_width 64"),
        ({"model_args": {"stem_type": "deep"}}, "stem_type is 'deep'"),
        ({"num_classes": 0}, "num_classes is 0: features without classes"),
        ({"label_names": ["a", "b"]}, "label_names has 2 names, and num_classes is 3"),
        ({"architecture": None}, "names no architecture"),
        ({"pretrained_cfg": {"input_size": [3, 96, 128], "mean": [0, 0, 0]}}, r"input_size is \[3, 96, 128\]"),
        ({"pretrained_cfg": {"interpolation": "random"}}, "interpolation is 'random'"),
        ({"pretrained_cfg": {"interpolation": "hamming"}}, "interpolation is 'hamming'"),
        ({"pretrained_cfg": {"crop_mode": "border", "crop_pct": 1.0}}, "crop_mode is 'border'"),
        ({"pretrained_cfg": {"crop_mode": "squash", "crop_pct": 0.875}}, "crop_mode is 'squash' and crop_pct 0.875"),
        ({"pretrained_cfg": {"crop_mode": "napkin"}}, "crop_mode is 'napkin'"),
        ({"pretrained_cfg": {"crop_pct": 1.2}}, "crop_pct 1.2"),
        ({"pretrained_cfg": {"crop_pct": "all"}}, "isn't one of timm: TypeError"),
        ({"pretrained_cfg": {"std": [0, 0, 0]}}, "deviation above 0"),
        ({"pretrained_cfg": [1]}, "isn't one of timm"),
        ({"model_args": {"layers": 3}}, "isn't one of timm"),
    ],
    ids=str,
)
def test_what_has_no_place_is_refused_by_its_key(changes, said):
    with pytest.raises(ValueError, match=rf"config\.json.*{said}"):
        configured({**GOOD, **changes})


def test_no_configuration_says_nothing():
    found = ECOSYSTEM.configured({}, {})
    assert (found.architecture, found.classes, found.preprocessing) == (None, None, None)


def test_an_older_folder_has_all_keys_at_the_top():
    flat = {
        "architecture": "resnet18",
        "num_classes": 2,
        "labels": ["cat", "owl"],
        "input_size": [1, 64, 64],
        "crop_pct": 0.8,
    }
    found = configured({**flat, "mean": [0.5], "std": [0.25], "interpolation": "bilinear", "num_features": 512})
    assert found.architecture == named("resnet18", classes=2, channels=1)
    assert found.classes == ("cat", "owl")
    assert found.preprocessing == Preprocessing(64, 0.8, colour="grey", mean=(0.5,), deviation=(0.25,))
    assert configured({"architecture": "resnet18", "num_classes": 2, "label_names": ["a", "b"]}).classes == ("a", "b")


def test_a_folder_that_transformers_wrote_is_read():
    config = {**GOOD, "model_type": "timm_wrapper", "architectures": ["TimmWrapperForImageClassification"]}
    assert configured(config).architecture == named("resnet18", classes=3)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ({}, None),
        ({"label_names": ["a", "b", "c"]}, ("a", "b", "c")),
        ({"label_names": ["a", "a", "c"]}, ("a", "a (2)", "c")),
        ({"label_names": ["LABEL_0", "LABEL_1", "LABEL_2"]}, None),
        ({"label_names": {"0": "a", "2": "c"}}, ("a", "1", "c")),
        (
            {"label_names": ["x1", "x2", "x3"], "label_descriptions": {"x1": "crane", "x3": "crane"}},
            ("crane", "x2", "crane (2)"),
        ),
        ({"label_names": [SYNSETS[0], SYNSETS[999], "x"]}, (NAMES[0], NAMES[999], "x")),
        ({"label_names": [SYNSETS[0], "x", "y"], "label_descriptions": {SYNSETS[0]: "a fish"}}, ("a fish", "x", "y")),
    ],
    ids=str,
)
def test_classes_are_descriptions_or_names(labels, classes):
    assert configured({**GOOD, **labels}).classes == classes
    inside = {**GOOD["pretrained_cfg"], **labels}
    assert configured({**GOOD, "pretrained_cfg": inside}).classes == classes


def test_imagenets_classes_are_written_with_their_synsets():
    model = ours(replace(SMALL, classes=1000), classes=NAMES)
    config = ECOSYSTEM.configuration(model)["config.json"]
    assert tuple(config["label_names"]) == SYNSETS
    assert config["label_descriptions"][SYNSETS[1]] == NAMES[1]
    assert configured(json.loads(json.dumps(config))).classes == NAMES


# Preprocessing


CONFIGS = {
    "a1": {"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.95, "crop_mode": "center"},
    "torchvision": {"input_size": [3, 224, 224], "interpolation": "bilinear", "crop_pct": 0.875},
    "V2": {"input_size": [3, 224, 224], "interpolation": "bilinear", "crop_pct": 0.965},
    "odd": {"input_size": [3, 99, 99], "interpolation": "bilinear", "crop_pct": 0.9},
    "whole": {"input_size": [3, 96, 96], "interpolation": "bicubic", "crop_pct": 1.0, "mean": [0.5] * 3, "std": [0.5] * 3},
    "lanczos": {"input_size": [3, 64, 64], "interpolation": "lanczos", "crop_pct": 0.9},
    "squash": {"input_size": [3, 288, 288], "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "squash"},
    "silent": {"crop_mode": "center"},
    "grey": {"input_size": [1, 64, 64], "mean": [0.3], "std": [0.2]},
    "grey, by three": {"input_size": [1, 64, 64], "mean": [0.3, 0.4, 0.5], "std": [0.2, 0.2, 0.2]},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_images_become_what_timm_makes_of_them(tmp_path, name):
    config = {**GOOD, "pretrained_cfg": CONFIGS[name]}
    how = configured(config).preprocessing
    write_json(tmp_path / "config.json", config)
    pictures = [photo(*shape, how.channels) for shape in SHAPES]
    prepared = [normalise(crop(picture, how)[None], how)[0] for picture in pictures]
    for found, expected in zip(prepared, of_timms(tmp_path, CONFIGS[name], pictures), strict=True):
        assert_alike(found, expected, how)


def of_timms(folder, config, pictures):
    """Tensors by timm; by hand where its own resolver leaves three numbers for one channel."""
    if len(config.get("mean", [0] * 3)) == config.get("input_size", [3])[0]:
        return witness.tensors(folder, pictures)
    mean, deviation = ([sum(config[key]) / len(config[key])] for key in ("mean", "std"))
    transform = create_transform(config["input_size"], interpolation="bicubic", crop_pct=0.875, mean=mean, std=deviation)
    return np.stack([transform(Image.fromarray(picture[:, :, 0])).numpy() for picture in pictures])


HOWS = {
    "ImageNet's": Preprocessing(),
    "V2": Preprocessing(crop=224 / 232),
    "bicubic": Preprocessing(size=99, crop=99 / 113, interpolation="bicubic"),
    "nearest": Preprocessing(size=64, interpolation="nearest"),
    "squash": Preprocessing(size=80, crop=1.0, fit="squash"),
    "a network of 0 to 255": Preprocessing(size=64, scale=1.0, mean=(120.0, 110.0, 100.0), deviation=(1.0, 2.0, 58.0)),
    "grey": Preprocessing(size=64, colour="grey", mean=(0.3,), deviation=(0.2,)),
}


@pytest.mark.parametrize("name", HOWS)
def test_timm_prepares_images_as_ours_says(tmp_path, name):
    how = HOWS[name]
    folder = written(tmp_path / "folder", ours(replace(SMALL, channels=how.channels), how))
    pictures = [photo(*shape, how.channels) for shape in SHAPES]
    for picture, expected in zip(pictures, witness.tensors(folder, pictures), strict=True):
        assert_alike(normalise(crop(picture, how)[None], how)[0], expected, how)
    again = configured(json.loads((folder / "config.json").read_text())).preprocessing
    picture = pictures[0]
    assert np.array_equal(crop(picture, again), crop(picture, how))
    assert_close(normalise(crop(picture, again)[None], again), normalise(crop(picture, how)[None], how))
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=False)
    assert tuple(resolve_model_data_config(loaded)["input_size"]) == (how.channels, how.size, how.size)


@pytest.mark.parametrize("size", [8, 32, 64, 99, 224, 288, 511])
def test_a_share_has_few_digits_and_the_same_size(size):
    for resized in range(size, 3 * size):
        share = share_of(size, resized)
        assert int(np.floor(size / share)) == resized
        assert len(repr(share)) <= 7
        how = configured({**GOOD, "pretrained_cfg": {"input_size": [3, size, size], "crop_pct": share}}).preprocessing
        assert how.resized == resized


def test_the_usual_share_is_written_as_usual():
    assert share_of(224, 256) == 0.875
    assert share_of(224, 235) == 0.95
    assert share_of(224, 224) == 1.0


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (None, "isn't known"),
        (Preprocessing(fit="pad"), "fit 'pad'"),
        (Preprocessing(colour="BGR"), "BGR"),
        (Preprocessing(antialias=False), "without antialiasing"),
        (Preprocessing(colour="BGR", antialias=False), "BGR and resizing without antialiasing"),
    ],
)
def test_what_timm_does_not_do_is_said_and_not_written(tmp_path, how, said):
    model = ours(SMALL, how)
    (found,) = ECOSYSTEM.not_carried(model)
    assert said in found
    folder = written(tmp_path / "folder", model)
    assert configured(json.loads((folder / "config.json").read_text())).preprocessing is None
    assert witness.tensors(folder, [photo(40, 50)]) is None


@pytest.mark.parametrize("how", [*HOWS.values(), Preprocessing(antialias=False, interpolation="nearest")])
def test_all_else_is_carried(how):
    assert ECOSYSTEM.not_carried(ours(replace(SMALL, channels=how.channels), how)) == ()
