import importlib
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from photos import SHAPES, assert_alike, photo
from random_norms import assert_close, randomised, state_of
from safetensors.numpy import load_file
from safetensors.torch import save_file
from seeded import images, seeded

from resnets.architecture import NAMED, Architecture, named
from resnets.data.preprocessing import Preprocessing, crop, middle, normalise, resample
from resnets.errors import WorkFailed
from resnets.files import write_json
from resnets.graph import weight_shapes
from resnets.model import Model
from resnets.networks import network
from resnets.weights.ecosystem import Configured
from resnets.weights.ecosystems.huggingface import ECOSYSTEM, named_classes
from resnets.weights.processors import PROCESSORS, preprocessing_of
from resnets.weights.shapes import architecture_of, check_shapes

RECORDED = json.loads((Path(__file__).parent / "recorded" / "huggingface.json").read_text(encoding="utf-8"))
BASIC = Architecture("basic", (1, 2), width=8, classes=3)
BOTTLENECK = Architecture("bottleneck", (1, 2, 1), width=8, stride_in_3x3=True, classes=5)
SMALL = [BASIC, replace(BASIC, channels=1), BOTTLENECK, replace(BOTTLENECK, stride_in_3x3=False, channels=4)]
EACH = [
    *SMALL,
    named("resnet18"),
    named("resnet50"),
    named("resnet50-v1.5", classes=7),
    *(pytest.param(named(name), marks=pytest.mark.slow) for name in ("resnet34", "resnet101", "resnet152-v1.5")),
]


def configured(config, processor=None):
    given = {"config.json": config, "preprocessor_config.json": processor}
    return ECOSYSTEM.configured({name: document for name, document in given.items() if document is not None}, {})


def shapes_of(state):
    return {name: array.shape for name, array in state.items()}


@torch.inference_mode()
def logits(net, tensors):
    return net.eval()(torch.from_numpy(tensors)).numpy()


def ours(net, how=None, classes=None):
    """A model of random weights."""
    state = state_of(randomised(network(net, seed=0)))
    return Model(net, classes or tuple(f"class {index}" for index in range(net.classes)), how, state)


# As transformers was recorded


def recorded(name):
    """Its configuration, its weights as they were seeded, and its logits."""
    said = RECORDED["networks"][name]
    shapes = {variable: tuple(shape) for variable, shape in said["variables"].items()}
    weights = {
        variable: np.array(3) if variable.endswith("num_batches_tracked") else seeded(variable, shape)
        for variable, shape in shapes.items()
    }
    return said["config"], weights, np.float32(said["logits"])


@pytest.mark.parametrize("name", RECORDED["networks"])
def test_a_recorded_network_is_ours_with_the_same_logits(name):
    config, weights, expected = recorded(name)
    assert ECOSYSTEM.recognises(weights)
    state = ECOSYSTEM.to_ours(weights).state
    net = configured(config).architecture
    assert net is not None
    check_shapes(net, shapes_of(state))
    model = Model(net, tuple(map(str, range(net.classes))), None, state)
    tensors = images(2, net.channels, 64)
    assert_close(logits(model.network(), tensors), expected)
    if net.block == "bottleneck":
        other = replace(model, architecture=replace(net, stride_in_3x3=not net.stride_in_3x3))
        assert np.abs(logits(other.network(), tensors) - expected).max() > 0.01 * np.abs(expected).max()
    assert net in ECOSYSTEM.candidates(architecture_of(shapes_of(state)))


@pytest.mark.parametrize("name", RECORDED["networks"])
def test_recorded_names_come_back(name):
    config, weights, _ = recorded(name)
    net = configured(config).architecture
    again = ECOSYSTEM.from_ours(ECOSYSTEM.to_ours(weights).state, net)
    assert again.keys() == weights.keys()
    assert all(again[key] is weights[key] for key in weights)


@pytest.mark.parametrize("name", RECORDED["networks"])
def test_the_configuration_that_is_written_is_the_recorded_one(name):
    config, weights, _ = recorded(name)
    found = configured(config)
    net = found.architecture
    classes = found.classes or tuple(f"LABEL_{index}" for index in range(net.classes))
    model = Model(net, classes, None, ECOSYSTEM.to_ours(weights).state)
    written = ECOSYSTEM.configuration(model)["config.json"]
    for key in written.keys() - {"id2label", "label2id", "dtype", "architectures"}:
        assert written[key] == config[key], key
    assert configured(written) == found


@pytest.mark.parametrize("name", RECORDED["processors"])
@pytest.mark.parametrize("picture", RECORDED["pictures"])
def test_a_recorded_processor_is_preprocessing_with_the_same_numbers(name, picture):
    said = RECORDED["processors"][name]
    how = preprocessing_of(said["document"], 3)
    found = as_theirs(photo(*RECORDED["pictures"][picture]), how)
    step = RECORDED["every"] if how.size > 100 else 1
    assert_alike(found[:, ::step, ::step], np.float32(said["tensors"][picture]), how)


def their_box(height, width, how):
    """The box that transformers crops: half a pixel, where there is one, is rounded down, and here to the even one."""
    left, top, right, bottom = middle(height, width, how)
    if how.fit != "crop":
        return left, top, right, bottom
    short = how.resized
    tall, wide = (short * height // width, short) if width <= height else (short, short * width // height)
    down, across = height / tall, width / wide
    x0, y0 = (wide - how.size) // 2 * across, (tall - how.size) // 2 * down
    assert 0 <= left - x0 < 1.001 * across and 0 <= top - y0 < 1.001 * down
    return x0, y0, x0 + how.size * across, y0 + how.size * down


def as_theirs(image, how):
    """What a network reads, cut where transformers cuts."""
    cut = resample(image, their_box(*image.shape[:2], how), how)
    return normalise(cut[None], how)[0]


def test_the_middle_is_the_same_for_three_of_four_shapes():
    how = Preprocessing()
    shapes = [(300, width) for width in range(300, 1300)]
    same = [np.allclose(their_box(*shape, how), middle(*shape, how)) for shape in shapes]
    assert 0.7 < np.mean(same) < 0.8


# Names


def test_a_network_without_its_head_is_said_to_be_features():
    _, weights, _ = recorded("basic")
    bare = {name.removeprefix("resnet."): array for name, array in weights.items() if not name.startswith("classifier")}
    assert ECOSYSTEM.recognises(bare)
    with pytest.raises(ValueError, match="features without classes"):
        architecture_of(shapes_of(ECOSYSTEM.to_ours(bare).state))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vit.embeddings.cls_token", "vit.embeddings.cls_token is of no ResNet of transformers"),
        ("regnet.encoder.stages.0.layers.0.attention.attention.0.weight", "of a RegNet of transformers"),
        ("resnet.encoder.stages.0.layers.0.layer.0.convolution.extra.weight", "of no ResNet"),
        ("classifier.weight", "classifier.weight is of no ResNet"),
        ("weight", "the weight weight"),
    ],
)
def test_a_name_that_is_not_its_is_refused(name, said):
    _, weights, _ = recorded("basic")
    with pytest.raises(ValueError, match=said):
        ECOSYSTEM.to_ours({**weights, name: np.zeros(1)})


def test_names_of_others_are_not_its():
    assert not ECOSYSTEM.recognises(weight_shapes(NAMED["resnet50"]))


def test_without_a_configuration_a_bottlenecks_stride_may_be_either():
    base = architecture_of(weight_shapes(named("resnet50")))
    assert ECOSYSTEM.candidates(base) == (named("resnet50-v1.5"), named("resnet50"))
    assert ECOSYSTEM.candidates(architecture_of(weight_shapes(named("resnet18")))) == (named("resnet18"),)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet20", "its stem"),
        ("resnet50d", "its stem"),
        ("preact-resnet50", "pre-activation"),
        ("resnet50-tf", "SAME"),
        ("plain34", "option B"),
        ("wide-resnet50-2", "Wide ResNet"),
        ("resnext50-32x4d", "ResNeXt"),
    ],
)
def test_what_it_cannot_be_is_said(name, said):
    assert said in (ECOSYSTEM.why_not(NAMED[name]) or "")


@pytest.mark.parametrize("net", [*SMALL, *(named(name) for name in ("resnet18", "resnet152", "resnet101-v1.5"))], ids=str)
def test_what_it_can_be_has_no_reason_against(net):
    assert ECOSYSTEM.why_not(net) is None


def test_a_pool_before_projections_is_not_its():
    assert "ResNet-D" in (ECOSYSTEM.why_not(named("resnet50", pool_shortcut=True)) or "")


def test_shapes_that_it_cannot_have():
    with pytest.raises(ValueError, match="no weights of transformers' ResNetForImageClassification: its bottlenecks"):
        ECOSYSTEM.candidates(architecture_of(weight_shapes(named("wide-resnet50-2"))))


# What a configuration says


MICROSOFT = {  # as microsoft/resnet-18 has it
    "architectures": ["ResNetForImageClassification"],
    "depths": [2, 2, 2, 2],
    "downsample_in_first_stage": False,
    "embedding_size": 64,
    "hidden_act": "relu",
    "hidden_sizes": [64, 128, 256, 512],
    "id2label": {"0": "tench, Tinca tinca", "2": "crane", "1": "crane"},
    "layer_type": "basic",
    "model_type": "resnet",
    "num_channels": 3,
    "torch_dtype": "float32",
    "transformers_version": "4.18.0.dev0",
}
OLDER = {  # as microsoft/resnet-18's preprocessor_config.json is
    "crop_pct": 0.875,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "ConvNextFeatureExtractor",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "size": 224,
}


def test_what_microsofts_folder_says():
    found = configured(MICROSOFT, OLDER)
    assert found.architecture == named("resnet18", classes=3)
    assert found.classes == ("tench, Tinca tinca", "crane", "crane (2)")
    assert found.preprocessing == Preprocessing(interpolation="bicubic")


@pytest.mark.parametrize(("downsample", "in_3x3"), [(True, False), (False, True), (None, True)])
def test_where_a_bottlenecks_stride_is(downsample, in_3x3):
    changes = {"layer_type": "bottleneck", "hidden_sizes": [256, 512, 1024, 2048], "downsample_in_bottleneck": downsample}
    assert configured({**MICROSOFT, **changes}).architecture.stride_in_3x3 == in_3x3


def test_a_basic_block_has_its_stride_in_one_place():
    assert configured({**MICROSOFT, "downsample_in_bottleneck": True}).architecture == named("resnet18", classes=3)


def test_what_is_unsaid_is_as_transformers_has_it():
    assert configured({"model_type": "resnet"}).architecture == named("resnet50-v1.5", classes=2)
    assert ECOSYSTEM.configured({"config.json": {}}, {"fc.weight": (9, 2048)}).architecture.classes == 9
    assert configured({"num_labels": 4}).architecture.classes == 4


def test_no_configuration_says_nothing():
    found = ECOSYSTEM.configured({}, {})
    assert (found.architecture, found.classes, found.preprocessing) == (None, None, None)
    assert configured(MICROSOFT).preprocessing is None


def test_labels_that_are_no_names_are_none():
    assert configured({**MICROSOFT, "id2label": {"0": "LABEL_0", "1": "LABEL_1"}}).classes is None
    assert configured({**MICROSOFT, "id2label": {"0": "LABEL_0", "1": "cat"}}).classes == ("LABEL_0", "cat")


def test_a_name_given_twice_is_told_apart():
    assert named_classes(["a", "a", "a (2)", "b", "a"]) == ("a", "a (2)", "a (2) (2)", "b", "a (3)")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "vit"}, "model_type is 'vit'"),
        ({"model_type": "regnet"}, "model_type is 'regnet'"),
        ({"downsample_in_first_stage": True}, "downsample_in_first_stage is true"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"layer_type": "wide"}, "layer_type is basic or bottleneck, not 'wide'"),
        ({"hidden_sizes": [64, 128, 256, 500]}, r"hidden_sizes is \[64, 128, 256, 500\], and with embedding_size 64"),
        ({"hidden_sizes": [64, 128, 256]}, "hidden_sizes is"),
        ({"layer_type": "bottleneck"}, r"hidden_sizes is .* here has \[256, 512, 1024, 2048\]"),
        ({"embedding_size": 32}, "hidden_sizes is"),
        ({"depths": []}, "blocks lists at least one"),
        ({"depths": 4}, "isn't one of transformers' ResNet"),
        ({"num_channels": 0}, "channels is a whole number"),
        ({"id2label": {"0": "a", "2": "b"}}, "number 1 isn't among them"),
        ({"id2label": {"a": "b"}}, "invalid literal"),
        ({"id2label": ["a", "b"]}, "isn't one of transformers' ResNet"),
    ],
    ids=str,
)
def test_what_has_no_place_in_a_network_is_refused_by_its_key(changes, said):
    with pytest.raises(ValueError, match=rf"^config\.json.*{said}"):
        configured({**MICROSOFT, **changes})


@pytest.mark.parametrize(
    ("document", "how"),
    [
        ({**OLDER, "size": {"shortest_edge": 224}}, Preprocessing(interpolation="bicubic")),
        ({**OLDER, "image_processor_type": "ConvNextImageProcessorFast", "crop_pct": 0.95},
         Preprocessing(crop=224 / 235, interpolation="bicubic")),
        ({**OLDER, "size": 384}, Preprocessing(384, 1.0, fit="squash", interpolation="bicubic")),
        ({**OLDER, "size": 383, "crop_pct": 1.0}, Preprocessing(383, 1.0, interpolation="bicubic")),
        ({**OLDER, "crop_pct": None, "resample": 2}, Preprocessing()),
        ({**OLDER, "do_rescale": False, "do_normalize": False},
         Preprocessing(interpolation="bicubic", scale=1.0, mean=(0, 0, 0), deviation=(1, 1, 1))),
        ({**OLDER, "rescale_factor": 1 / 127.5, "image_mean": 1.0, "image_std": 1.0},
         Preprocessing(interpolation="bicubic", scale=1 / 127.5, mean=(1, 1, 1), deviation=(1, 1, 1))),
        ({"feature_extractor_type": "ViTFeatureExtractor", "size": 224},
         Preprocessing(fit="squash", crop=1.0, mean=(0.5,) * 3, deviation=(0.5,) * 3)),
        ({"image_processor_type": "ViTImageProcessor", "size": {"height": 96, "width": 96}, "resample": 0,
          "image_mean": [0, 0, 0]},
         Preprocessing(96, 1.0, "squash", "nearest", mean=(0, 0, 0), deviation=(0.5,) * 3)),
        ({"image_processor_type": "CLIPImageProcessor", "size": 256, "crop_size": 224, "resample": 1,
          "image_mean": 0, "image_std": 1},
         Preprocessing(interpolation="lanczos", mean=(0, 0, 0), deviation=(1, 1, 1))),
        ({"image_processor_type": "BitImageProcessor", "image_mean": 0, "image_std": 1},
         Preprocessing(crop=1.0, interpolation="bicubic", mean=(0, 0, 0), deviation=(1, 1, 1))),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_processor_says(document, how):
    assert configured(MICROSOFT, document).preprocessing == how


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"feature_extractor_type": "GLPNFeatureExtractor"}, "image_processor_type is 'GLPNFeatureExtractor'"),
        ({"image_processor_type": "EfficientNetImageProcessor"}, "image_processor_type is 'EfficientNetImageProcessor'"),
        ({"feature_extractor_type": None}, "image_processor_type is 'None'"),
        ({"do_resize": False}, "do_resize is False"),
        ({"do_pad": True}, "do_pad is True"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order is True"),
        ({"resample": 4}, "resample is 4"),
        ({"crop_pct": 1.5}, "the middle 224 pixels are cut from a shorter side of 149"),
        ({"crop_pct": "all"}, "isn't one of an image processor"),
        ({"size": {"height": 224, "width": 224}}, "a shortest_edge alone is read"),
        ({"size": {"shortest_edge": 224, "longest_edge": 300}}, "longest_edge"),
        ({"size": None, "do_center_crop": True, "crop_size": 224}, "do_center_crop True"),
        ({"image_processor_type": "BitImageProcessor", "do_center_crop": False}, "without do_center_crop"),
        ({"image_processor_type": "BitImageProcessor", "crop_size": {"height": 224, "width": 200}}, "crop_size is"),
        ({"image_processor_type": "BitImageProcessor", "crop_size": 256}, "the middle 256 pixels"),
        ({"image_processor_type": "ViTImageProcessor", "size": {"height": 224, "width": 200}}, "size is"),
        (
            {"image_processor_type": "ViTImageProcessor", "size": 256, "do_center_crop": True, "crop_size": 224},
            "crop_size is 224",
        ),
        ({"image_mean": [0.1, 0.2]}, "mean and deviation"),
        ({"image_std": [0, 0, 0]}, "deviation above 0"),
    ],
    ids=str,
)
def test_what_has_no_place_in_preprocessing_is_refused_by_its_key(changes, said):
    with pytest.raises(ValueError, match=rf"^preprocessor_config\.json.*{said}"):
        configured(MICROSOFT, {**OLDER, **changes})


def test_grey_images_and_others():
    grey = configured({**MICROSOFT, "num_channels": 1}, {**OLDER, "image_mean": [0.3], "image_std": 0.2}).preprocessing
    assert (grey.colour, grey.mean, grey.deviation) == ("grey", (0.3,), (0.2,))
    assert configured({**MICROSOFT, "num_channels": 4}, OLDER).preprocessing is None


HOWS = {
    "ImageNet's": Preprocessing(),
    "bicubic": Preprocessing(size=99, crop=99 / 113, interpolation="bicubic"),
    "nearest": Preprocessing(size=56, interpolation="nearest"),
    "squash": Preprocessing(size=80, crop=1.0, fit="squash"),
    "a network of 0 to 255": Preprocessing(size=56, scale=1.0, mean=(120.0, 110.0, 100.0), deviation=(1.0, 2.0, 58.0)),
    "grey": Preprocessing(size=56, colour="grey", mean=(0.3,), deviation=(0.2,)),
}


@pytest.mark.parametrize("name", HOWS)
def test_what_is_written_of_images_is_read_again(name):
    model = ours(replace(BASIC, channels=HOWS[name].channels), HOWS[name])
    files = json.loads(json.dumps(ECOSYSTEM.configuration(model)))
    found = ECOSYSTEM.configured(files, {})
    assert found == Configured(model.architecture, model.classes, HOWS[name])
    assert ECOSYSTEM.not_carried(model) == ()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (None, "isn't known"),
        (Preprocessing(fit="pad"), "fit 'pad'"),
        (Preprocessing(colour="BGR"), "BGR"),
        (Preprocessing(antialias=False), "without antialiasing"),
        (Preprocessing(colour="BGR", fit="pad"), "fit 'pad'.* and the order of colours, BGR"),
    ],
)
def test_what_no_processor_does_is_said_and_not_written(how, said):
    model = ours(BASIC, how)
    (found,) = ECOSYSTEM.not_carried(model)
    assert re.search(said, found)
    assert ECOSYSTEM.configuration(model).keys() == {"config.json"}


def test_lanczos_is_written_and_what_becomes_of_it_said():
    model = ours(BASIC, Preprocessing(interpolation="lanczos"))
    assert ECOSYSTEM.configuration(model)["preprocessor_config.json"]["resample"] == 1
    assert "bicubic" in ECOSYSTEM.not_carried(model)[0]


def test_a_crop_that_is_a_pixel_off_for_every_image_is_said():
    how = Preprocessing(size=160, crop=160 / 183)
    assert "a pixel further up and left" in ECOSYSTEM.not_carried(ours(BASIC, how))[0]
    assert not np.allclose(their_box(300, 300, how), middle(300, 300, how))


# With transformers itself


@pytest.fixture
def transformers():
    return importlib.import_module("transformers")


@pytest.fixture
def witness():
    return importlib.import_module("resnets.conversion.witnesses.huggingface")


def theirs(transformers, net):
    """A network of transformers' with weights of its own and norms that matter, in evaluation."""
    torch.manual_seed(0)
    made = transformers.ResNetForImageClassification(
        transformers.ResNetConfig(
            num_channels=net.channels,
            embedding_size=net.width,
            hidden_sizes=[net.width * net.expansion * 2**stage for stage in range(len(net.blocks))],
            depths=list(net.blocks),
            layer_type=net.block,
            downsample_in_bottleneck=net.block == "bottleneck" and not net.stride_in_3x3,
            num_labels=net.classes,
        )
    )
    randomised(SimpleNamespace(modules=made.modules, eval=made.eval, architecture=net, fc=made.classifier[1]))
    return made


def their_logits(net, tensors):
    with torch.inference_mode():
        return net.eval()(torch.from_numpy(tensors)).logits.numpy()


def written(folder, model):
    """The model as a folder for transformers."""
    folder.mkdir()
    for name, document in ECOSYSTEM.configuration(model).items():
        write_json(folder / name, document)
    state = ECOSYSTEM.from_ours(model.state, model.architecture)
    tensors = {key: torch.from_numpy(array) for key, array in state.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.convert
@pytest.mark.parametrize("net", EACH, ids=str)
def test_a_network_that_transformers_saved_is_ours_with_the_same_logits(tmp_path, transformers, net):
    made = theirs(transformers, net)
    made.save_pretrained(tmp_path)
    state = ECOSYSTEM.to_ours(load_file(tmp_path / "model.safetensors")).state
    found = configured(json.loads((tmp_path / "config.json").read_text()))
    assert found.architecture == net
    assert found.classes is None
    model = Model(net, tuple(map(str, range(net.classes))), None, state)
    tensors = images(2, net.channels, 64)
    assert_close(logits(model.network(), tensors), their_logits(made, tensors))


@pytest.mark.convert
@pytest.mark.parametrize("net", EACH, ids=str)
def test_ours_is_a_folder_of_transformers_with_the_same_logits(tmp_path, transformers, witness, net):
    model = ours(net)
    folder = written(tmp_path / "folder", model)
    tensors = images(2, net.channels, 64)
    assert_close(witness.logits(folder, net, tensors), logits(model.network(), tensors))
    loaded = transformers.AutoModelForImageClassification.from_pretrained(folder)
    assert type(loaded) is transformers.ResNetForImageClassification
    assert loaded.config.id2label == dict(enumerate(model.classes))
    assert loaded.config.label2id == {name: index for index, name in enumerate(model.classes)}
    assert witness.tensors(folder, [photo(40, 50)]) is None


@pytest.mark.convert
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
@pytest.mark.parametrize("net", SMALL, ids=str)
def test_the_witness_reads_a_file(tmp_path, witness, net, suffix):
    model = ours(net)
    state = {key: torch.from_numpy(array) for key, array in ECOSYSTEM.from_ours(model.state, net).items()}
    (save_file if suffix == ".safetensors" else torch.save)(state, tmp_path / f"weights{suffix}")
    tensors = images(2, net.channels, 64)
    assert_close(witness.logits(tmp_path / f"weights{suffix}", net, tensors), logits(model.network(), tensors))
    assert witness.tensors(tmp_path / f"weights{suffix}", [photo(40, 50)]) is None


@pytest.mark.convert
@pytest.mark.parametrize("change", ["missing", "unexpected", "mismatched"])
def test_the_witness_wants_every_weight_and_no_other(tmp_path, witness, change):
    folder = written(tmp_path / "folder", ours(BASIC))
    state = {key: torch.from_numpy(array) for key, array in load_file(folder / "model.safetensors").items()}
    bias = state.pop("classifier.1.bias")
    if change == "unexpected":
        state |= {"classifier.1.bias": bias, "classifier.2.bias": bias.clone()}
    elif change == "mismatched":
        state |= {"classifier.1.bias": torch.zeros(9)}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises((WorkFailed, RuntimeError), match=r"classifier\.[12]\.bias"):
        witness.logits(folder, BASIC, images(2, 3, 64))


@pytest.mark.convert
def test_what_was_recorded_is_what_transformers_does(transformers, witness, tmp_path):
    for name in ("basic", "bottleneck", "bottleneck, stride in the first 1×1"):
        config, weights, expected = recorded(name)
        net = configured(config).architecture
        save_file({key: torch.from_numpy(array) for key, array in weights.items()}, tmp_path / "weights.safetensors")
        assert_close(witness.logits(tmp_path / "weights.safetensors", net, images(2, net.channels, 64)), expected)


SAID = {
    "ConvNext": ("ConvNextImageProcessor", {"size": {"shortest_edge": 224}, "crop_pct": 0.875}),
    "ConvNext, odd": ("ConvNextImageProcessor", {"size": {"shortest_edge": 99}, "crop_pct": 0.9, "resample": 2}),
    "ConvNext, large": ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}, "resample": 2}),
    "Bit": ("BitImageProcessor", {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}}),
    "CLIP": ("CLIPImageProcessor", {"size": {"shortest_edge": 64}, "crop_size": 64, "rescale_factor": 1 / 127.5}),
    "ViT": ("ViTImageProcessor", {"size": {"height": 80, "width": 80}, "image_mean": [0.4, 0.5, 0.6], "do_rescale": False}),
    "ViT, as it is": ("ViTImageProcessor", {}),
}


@pytest.mark.convert
@pytest.mark.parametrize("name", SAID)
def test_images_become_what_transformers_makes_of_them(tmp_path, transformers, witness, name):
    kind, said = SAID[name]
    getattr(transformers, kind)(**said).save_pretrained(tmp_path)
    how = preprocessing_of(json.loads((tmp_path / "preprocessor_config.json").read_text()), 3)
    pictures = [photo(*shape) for shape in SHAPES]
    for found, expected in zip((as_theirs(p, how) for p in pictures), witness.tensors(tmp_path, pictures), strict=True):
        assert_alike(found, expected, how)


@pytest.mark.convert
@pytest.mark.parametrize("name", HOWS)
def test_transformers_prepares_images_as_ours_says(tmp_path, witness, name):
    how = HOWS[name]
    folder = written(tmp_path / "folder", ours(replace(BASIC, channels=how.channels), how))
    pictures = [photo(*shape, how.channels) for shape in SHAPES]
    same = 0
    for picture, expected in zip(pictures, witness.tensors(folder, pictures), strict=True):
        assert_alike(as_theirs(picture, how), expected, how)
        if np.allclose(their_box(*picture.shape[:2], how), middle(*picture.shape[:2], how)):
            assert_alike(normalise(crop(picture, how)[None], how)[0], expected, how)
            same += 1
    assert same >= len(SHAPES) // 2


@pytest.mark.convert
@pytest.mark.parametrize("kind", PROCESSORS)
def test_what_is_unsaid_is_as_the_processor_has_it(tmp_path, transformers, kind):
    getattr(transformers, kind)().save_pretrained(tmp_path)
    said = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert preprocessing_of({"image_processor_type": kind}, 3) == preprocessing_of(said, 3)


@pytest.mark.convert
def test_what_is_unsaid_is_as_its_configuration_has_it(tmp_path, transformers):
    transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=2)).config.save_pretrained(tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    assert configured(said).architecture == configured({"model_type": "resnet"}).architecture
