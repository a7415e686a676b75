"""The value that says what a network is, and the table of names."""

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from resnets.architecture import NAMED, Architecture, name_of, named

PAPER = [f"resnet{depth}" for depth in (18, 34, 50, 101, 152)]
CIFAR = [f"resnet{depth}" for depth in (20, 32, 44, 56, 110, 1202)]
PLAIN = [name.replace("resnet", "plain") for name in PAPER + CIFAR]
WIDER = ["wide-resnet50-2", "wide-resnet101-2", "resnext50-32x4d", "resnext101-32x8d", "resnet50d"]
PREACT = [f"preact-resnet{depth}" for depth in (18, 50, 101, 152, 20, 32, 44, 56, 110)]
TWINS = [f"{name}{twin}" for name in PAPER for twin in ("-v1.5", "-tf")]


def test_the_table_has_every_documented_name_and_no_other():
    assert sorted(NAMED) == sorted(PAPER + TWINS + CIFAR + PLAIN + WIDER + PREACT)


def test_no_two_names_are_the_same_value():
    assert len(set(NAMED.values())) == len(NAMED)


@pytest.mark.parametrize("name", PAPER + CIFAR + PLAIN)
def test_depth_is_the_number_in_the_name(name):
    assert NAMED[name].depth == int(name.removeprefix("resnet").removeprefix("plain"))


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        (
            "resnet50",
            {"block": "bottleneck", "blocks": (3, 4, 6, 3), "shortcut": "B", "stride_in_3x3": False, "classes": 1000},
        ),
        ("resnet152", {"blocks": (3, 8, 36, 3), "padding": "symmetric", "norm_epsilon": 1e-5, "initialisation": "he"}),
        ("resnet50-v1.5", {"stride_in_3x3": True, "shortcut": "B"}),
        ("resnet50-tf", {"padding": "same", "norm_epsilon": 1e-3, "norm_momentum": 1e-3, "norm_debias": True}),
        ("resnet18-tf", {"initialisation": "xavier", "stride_in_3x3": False}),
        ("resnet20", {"block": "basic", "blocks": (3, 3, 3), "shortcut": "A", "stem": "cifar", "width": 16, "classes": 10}),
        ("plain34", {"blocks": (3, 4, 6, 3), "shortcut": "none", "block": "basic"}),
        ("wide-resnet50-2", {"width_factor": 2, "stride_in_3x3": True}),
        ("resnext101-32x8d", {"groups": 32, "group_width": 8, "stride_in_3x3": True}),
        ("resnet50d", {"stem": "deep", "pool_shortcut": True, "stride_in_3x3": True}),
        ("preact-resnet110", {"preactivation": True, "shortcut": "A", "blocks": (18, 18, 18)}),
    ],
)
def test_named_networks_say_what_the_reference_says(name, fields):
    assert {field: getattr(named(name), field) for field in fields} == fields


@pytest.mark.parametrize("spelling", ["wide_resnet50_2", "Wide-ResNet50-2", "wide-resnet50_2"])
def test_underscore_reads_as_hyphen_and_case_does_not_matter(spelling):
    assert named(spelling) == NAMED["wide-resnet50-2"]


def test_changes_are_fields():
    net = named("resnet50", classes=2, channels=1, shortcut="A")
    assert (net.classes, net.channels, net.shortcut) == (2, 1, "A")
    assert replace(net, classes=1000, channels=3, shortcut="B") == named("resnet50")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("restnet50", "resnet50"),
        ("wide-resnet50", "wide-resnet50-2"),
        ("plane34", "plain34"),
        ("preact_resnet34", "preact-resnet"),
    ],
)
def test_unknown_name_suggests_the_nearest(wrong, right):
    with pytest.raises(ValueError, match=f"{wrong}.*did you mean .*{right}"):
        named(wrong)


def test_a_name_near_to_none_says_where_they_are_listed():
    with pytest.raises(ValueError, match=r"'vgg'; .*resnets table"):
        named("vgg")


def test_unknown_field_is_named():
    with pytest.raises(ValueError, match="'colour'"):
        named("resnet50", colour="red")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("block", "wide"),
        ("block", ["basic"]),
        ("blocks", ()),
        ("blocks", (2, 0)),
        ("blocks", (2, 1.5)),
        ("blocks", 3),
        ("shortcut", "D"),
        ("shortcut", None),
        ("stem", "mnist"),
        ("padding", "valid"),
        ("initialisation", "zeros"),
        ("width", 0),
        ("width", 64.0),
        ("width_factor", -1),
        ("groups", 0),
        ("groups", 7),
        ("group_width", -1),
        ("channels", 0),
        ("channels", "3"),
        ("classes", 0),
        ("norm_epsilon", -1e-5),
        ("norm_epsilon", "small"),
        ("norm_momentum", 0.0),
        ("norm_momentum", 1.5),
        ("stride_in_3x3", "no"),
        ("preactivation", "false"),
    ],
)
def test_a_value_that_cannot_be_is_an_error_that_names_its_field(field, value):
    with pytest.raises(ValueError, match=field):
        named("resnet50", **{field: value})


@pytest.mark.parametrize("field", ["groups", "group_width", "width_factor"])
def test_basic_blocks_have_no_groups(field):
    with pytest.raises(ValueError, match=field):
        named("resnet18", **{field: 2})


def test_frozen_and_hashable():
    net = named("resnet18")
    with pytest.raises(FrozenInstanceError):
        net.classes = 3  # pyright: ignore
    assert {net: 1}[replace(net, blocks=[2, 2, 2, 2])] == 1


@pytest.mark.parametrize("name", NAMED)
def test_json_round_trip(name):
    net = named(name, classes=7)
    assert Architecture.from_json(json.loads(json.dumps(net.to_json()))) == net


def test_a_field_unknown_here_is_refused():
    with pytest.raises(ValueError, match="'squeeze'"):
        Architecture.from_json({**named("resnet50").to_json(), "squeeze": 16})


@pytest.mark.parametrize("name", NAMED)
def test_name_of_finds_the_name_whatever_the_head_and_the_input(name):
    assert name_of(named(name, classes=3, channels=1)) == name


@pytest.mark.parametrize(
    ("net", "name"),
    [
        (named("resnet50", shortcut="A"), "resnet50, shortcut A"),
        (named("resnet20", shortcut="C", classes=4), "resnet20, shortcut C"),
        (named("resnet34", shortcut="none"), "plain34"),
        (named("plain18", shortcut="B"), "resnet18"),
        (named("resnet50", width=32), "custom"),
        (named("resnet50", blocks=(1, 1, 1, 1)), "custom"),
    ],
)
def test_name_of_variants(net, name):
    assert name_of(net) == name


def test_units_of_resnet50_widen_and_halve_where_table_1_does():
    units = list(named("resnet50").units())
    assert [unit.name for unit in units[:4]] == ["layer1.0", "layer1.1", "layer1.2", "layer2.0"]
    assert [(u.name, u.width_in, u.width, u.width_out, u.stride) for u in units if u.name.endswith(".0")] == [
        ("layer1.0", 64, 64, 256, 1),
        ("layer2.0", 256, 128, 512, 2),
        ("layer3.0", 512, 256, 1024, 2),
        ("layer4.0", 1024, 512, 2048, 2),
    ]
    assert all(unit.stride == 1 and unit.width_in == unit.width_out for unit in units if not unit.name.endswith(".0"))
