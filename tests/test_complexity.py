"""Counts of the walk: the reference's figures, and an independent count on the modules themselves."""

import pytest
import torch
from torch import nn

from resnets.architecture import NAMED, named
from resnets.complexity import layers, macs, parameters, row, table
from resnets.networks import network

DEPTHS = (18, 34, 50, 101, 152)
EXACT = {  # 1e9 multiply-adds at 224×224, counted by hand for the reference
    "A": ("1.795", "3.644", "3.498", "7.211", "10.923"),
    "B": ("1.814", "3.664", "3.858", "7.570", "11.282"),
    "C": ("1.878", "3.831", "6.324", "13.530", "20.736"),
    "v1.5": ("1.814", "3.664", "4.089", "7.801", "11.514"),
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) if "1202" in name else name for name in NAMED]


def counted_on_modules(net, height, width):
    """{name: (output shape, multiply-adds)} of every convolution and fc, seen by hooks as the module runs on "meta"."""
    with torch.device("meta"):
        module, images = network(net).eval(), torch.empty(1, net.channels, height, width)
    found = {}

    def hook(name):
        def see(layer, inputs, output):
            taps = layer.weight[0].numel()  # kernel × kernel × channels of one group, or the features
            found[name] = (tuple(output.shape[1:]), output.numel() * taps)

        return see

    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(hook(name))
    module(images)
    return found, sum(p.numel() for p in module.parameters())


def assert_counts_agree(net, height, width):
    found = layers(net, height, width)
    expected, numbers = counted_on_modules(net, height, width)
    weighted = {layer.name: (layer.output, layer.macs) for layer in found if layer.kind in ("conv", "linear")}
    assert weighted == expected
    assert sum(layer.macs for layer in found) == sum(count for _, count in expected.values())
    assert parameters(net) == numbers


@pytest.mark.parametrize("option", EXACT)
@pytest.mark.parametrize("index", range(5))
def test_multiply_adds_of_table_1_to_the_last_digit(option, index):
    name = f"resnet{DEPTHS[index]}"
    net = named(f"{name}-v1.5") if option == "v1.5" else named(name, shortcut=option)
    assert f"{macs(net) / 1e9:.3f}" == EXACT[option][index]


@pytest.mark.parametrize("twin", ["", "-v1.5", "-tf"])
@pytest.mark.parametrize(
    ("depth", "count"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160), (152, 60_192_808)]
)
def test_parameters_to_the_unit(depth, count, twin):
    assert parameters(named(f"resnet{depth}{twin}")) == count


@pytest.mark.parametrize(
    ("depth", "millions"), [(20, "0.27"), (32, "0.46"), (44, "0.66"), (56, "0.85"), (110, "1.7"), (1202, "19.4")]
)
def test_parameters_of_the_cifar_family_as_the_paper_rounds_them(depth, millions):
    digits = len(millions.split(".")[1])
    assert f"{parameters(named(f'resnet{depth}')) / 1e6:.{digits}f}" == millions


def test_output_sizes_of_resnet50_are_table_1():
    found = row("resnet50")
    assert found["input"] == [3, 224, 224]
    assert found["stem_output"] == [64, 112, 112]
    assert found["stage_outputs"] == {
        "layer1": [256, 56, 56],
        "layer2": [512, 28, 28],
        "layer3": [1024, 14, 14],
        "layer4": [2048, 7, 7],
    }
    assert [layer.output for layer in layers(named("resnet50")) if layer.kind in ("max_pool", "global_pool", "linear")] == [
        (64, 56, 56),
        (2048,),
        (1000,),
    ]


def test_output_sizes_of_resnet20_are_section_4_2():
    found = row("resnet20")
    assert found["stem_output"] == [16, 32, 32]
    assert found["stage_outputs"] == {"layer1": [16, 32, 32], "layer2": [32, 16, 16], "layer3": [64, 8, 8]}


def test_table_1_shows_the_papers_flops_beside_the_exact_count():
    rows = {each["name"]: each for each in table()}
    assert list(rows) == [f"resnet{depth}" for depth in DEPTHS]
    assert [each["paper_flops"] for each in rows.values()] == [1.8e9, 3.6e9, 3.8e9, 7.6e9, 11.3e9]
    assert [f"{each['macs'] / 1e9:.3f}" for each in rows.values()] == list(EXACT["B"])


def test_the_full_table_has_every_name_and_the_papers_cifar_parameters():
    rows = {each["name"]: each for each in table(every=True)}
    assert list(rows) == list(NAMED)
    assert rows["resnet1202"]["paper_parameters"] == 19.4e6
    assert rows["resnet50-v1.5"]["paper_flops"] is None


@pytest.mark.parametrize("name", SLOW)
def test_counts_equal_the_modules(name):
    net = named(name)
    assert_counts_agree(net, net.natural_input, net.natural_input)
    assert_counts_agree(net, net.natural_input + 1, net.natural_input - 3)


@pytest.mark.parametrize("shortcut", ["A", "B", "C", "none"])
@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "resnet50-v1.5", "resnet50-tf", "resnet20", "resnext50-32x4d", "resnet50d"]
)
def test_counts_equal_the_modules_whatever_the_shortcut(name, shortcut):
    assert_counts_agree(named(name, shortcut=shortcut, channels=4, classes=7), 97, 64)


@pytest.mark.parametrize("shortcut", ["A", "B", "C", "none"])
@pytest.mark.parametrize("name", ["preact-resnet18", "preact-resnet50", "preact-resnet20"])
def test_counts_equal_the_modules_whatever_the_shortcut_preactivated(name, shortcut):
    assert_counts_agree(named(name, shortcut=shortcut), 64, 97)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet18-tf", "resnet50d", "preact-resnet18"])
@pytest.mark.parametrize("size", [(32, 32), (33, 32), (47, 63), (65, 66), (225, 127)])
def test_sizes_odd_and_even(name, size):
    assert_counts_agree(named(name), *size)


@pytest.mark.parametrize("name", ["resnet20", "plain20", "preact-resnet20"])
@pytest.mark.parametrize("size", [(8, 8), (9, 8), (15, 17), (33, 30)])
def test_sizes_odd_and_even_of_the_cifar_stem(name, size):
    assert_counts_agree(named(name), *size)


@pytest.mark.parametrize(("name", "height", "width"), [("resnet50", 31, 224), ("resnet50", 224, 31), ("resnet20", 7, 8)])
def test_too_small_an_input_is_an_error_that_says_the_least(name, height, width):
    with pytest.raises(ValueError, match=f"{named(name).smallest_input}.*{height}×{width}"):
        layers(named(name), height, width)
