"""Which network weights are of, by their shapes; and the sentence where they are of none."""

from dataclasses import replace

import pytest

from resnets.architecture import NAMED, named
from resnets.graph import weight_shapes
from resnets.weights.shapes import architecture_of, check_shapes

CONSTANTS = {
    "norm_epsilon": 1e-5,
    "norm_momentum": 0.1,
    "norm_debias": False,
    "initialisation": "he",
    "padding": "symmetric",
}


def as_shapes_say(net):
    """What of an architecture shapes can say."""
    net = replace(net, **CONSTANTS)
    settled = net.groups > 1 or net.width_factor > 1 or net.stem == "deep" or net.preactivation
    net = replace(net, stride_in_3x3=net.block == "bottleneck" and settled)
    return replace(net, shortcut="A") if net.shortcut == "none" else net


@pytest.mark.parametrize("name", sorted(NAMED))
@pytest.mark.parametrize("changes", [{}, {"classes": 3}, {"channels": 1}], ids=["", "three classes", "grey"])
def test_a_named_network_is_known_by_its_shapes(name, changes):
    net = named(name, **changes)
    assert architecture_of(weight_shapes(net)) == as_shapes_say(net)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet20", "resnext50-32x4d", "wide-resnet50-2"])
@pytest.mark.parametrize("shortcut", ["A", "B", "C"])
def test_the_shortcut_is_known_by_where_there_are_projections(name, shortcut):
    net = named(name, shortcut=shortcut)
    assert architecture_of(weight_shapes(net)) == as_shapes_say(net)


@pytest.mark.parametrize("changes", [{"blocks": (1, 2, 1)}, {"width": 32}, {"blocks": (2,)}, {"blocks": (1, 1, 1, 1, 1)}])
def test_a_network_without_a_name_is_known_too(changes):
    net = named("resnet50-v1.5", **changes)
    assert replace(architecture_of(weight_shapes(net)), stride_in_3x3=True) == net


def test_counters_may_be_missing():
    shapes = {name: shape for name, shape in weight_shapes(named("resnet18")).items() if "num_batches" not in name}
    assert architecture_of(shapes) == named("resnet18")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["cls_token", "patch_embed.proj.weight"], "a vision transformer"),
        (["class_token", "encoder.layers.encoder_layer_0.ln_1.weight"], "a vision transformer"),
        (["vit.embeddings.cls_token"], "a vision transformer"),
        (["features.denseblock1.denselayer1.norm1.weight"], "a DenseNet"),
        (["features.0.weight", "classifier.0.weight"], "a VGG, an AlexNet or a MobileNet"),
        (["embed.weight"], "aren't weights of a residual network that is known here"),
        (["conv1.weight"], "aren't weights of a residual network"),
    ],
)
def test_other_networks_are_named(names, said):
    with pytest.raises(ValueError, match=said):
        architecture_of(dict.fromkeys(names, (1, 2, 3)))


def changed(**changes):
    shapes = dict(weight_shapes(named("resnet50")))
    for name, shape in changes.items():
        shapes.pop(name) if shape is None else shapes.update({name: shape})
    return shapes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layer3.4.bn2.weight": None}, "lack layer3.4.bn2.weight"),
        ({"layer3.4.bn2.weight": None, "layer1.0.conv2.weight": None}, "lack layer1.0.conv2.weight and 1 more"),
        ({"aux.weight": (3,)}, "have the unknown aux.weight"),
        ({"layer1.0.se.fc1.weight": (16, 64, 1, 1)}, "have the unknown layer1.0.se.fc1.weight"),
        ({"fc.weight": (2048, 1000)}, r"fc.bias is \[1000\], and there it has to be \[2048\]|fc.weight is"),
        ({"layer2.0.conv2.weight": (128, 128, 1, 1)}, r"layer2.0.conv2.weight is \[128, 128, 1, 1\].*\[128, 128, 3, 3\]"),
        ({"fc.weight": None, "fc.bias": None}, "end before the fully connected layer"),
        ({"fc.bias": None}, "lack fc.bias"),
        ({"layer4.0.downsample.0.weight": None}, "lack layer4.0.downsample.0.weight"),
    ],
)
def test_what_does_not_fit_is_named(changes, said):
    with pytest.raises(ValueError, match=said):
        architecture_of(changed(**changes))


def test_weights_are_held_to_an_architecture_that_is_given():
    check_shapes(named("resnet50"), weight_shapes(named("resnet50-v1.5")))
    with pytest.raises(ValueError, match=r"lack layer1.0.bn3"):
        check_shapes(named("resnet50"), weight_shapes(named("resnet34")))
