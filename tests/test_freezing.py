"""What learns when: stage after stage, or the head alone from features that are computed once."""

import logging

import numpy as np
import pytest
import torch
from halves import SETTINGS, begun, broken, same_bytes, small, whole
from safetensors import safe_open

import resnets
from resnets import machine
from resnets.model import load
from resnets.training import building, features, train_run
from resnets.training.folder import checkpoint
from resnets.training.freezing import Freezer, learning, parts
from resnets.training.loop import Progress
from resnets.training.options import Options
from resnets.training.plan import plan
from resnets.training.processes.world import World
from resnets.training.settling import settled

__all__ = ["small"]


@pytest.fixture(scope="module")
def start(tmp_path_factory, small):
    """A run to start from."""
    return whole(tmp_path_factory.mktemp("start") / "run", epochs=1)


def trainer(**options):
    chosen = Options.parse("digits", {**SETTINGS, **options})
    return building.trainer(plan(chosen), chosen, World())


def test_the_parts_are_the_whole_network_from_its_head_down():
    for name in ("resnet20", "preact-resnet20", "resnet50"):
        net = resnets.network(name, seed=0)
        found = parts(net)
        assert found[0][0] is net.fc and found[1] == [net.get_submodule(net.stages[-1])] and found[-1][0] is net.conv1
        listed = [parameter for modules in found for module in modules for parameter in module.parameters()]
        assert len(listed) == len(set(map(id, listed))) == len(list(net.parameters()))


def test_what_learns_when():
    assert [learning("staged", share, 5) for share in (0, 0.1249, 0.125, 0.3, 0.4999, 0.5, 0.9, 1)] == [
        1,
        1,
        2,
        3,
        4,
        5,
        5,
        5,
    ]
    assert learning("none", 0, 5) == 5
    assert learning("backbone", 1, 5) == 1


@pytest.mark.parametrize("still", [False, True])
def test_staged_parts_stay_bit_for_bit_until_their_turn(still):
    made = trainer(freeze="staged", epochs=None, steps=16, ema_decay=0.5, freeze_statistics=still)
    net = made.parts.network
    names = {id(tensor): name for name, tensor in net.state_dict(keep_vars=True).items()}
    of_part = [
        {names[id(tensor)] for module in modules for tensor in module.state_dict(keep_vars=True).values()}
        for modules in parts(net)
    ]
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for event, row in made.fit(Progress()):
        if event != "step":
            continue
        count = learning("staged", (row["step"] - 1) / 16, 5)
        after = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        moved = {name for name in after if not torch.equal(after[name], before[name])}
        expected = set().union(*of_part[:count])
        if still:
            expected = {name for name in expected if "running" not in name and "tracked" not in name}
        assert moved == expected, row["step"]
        before = after
    assert count == 5


def test_several_processes_forget_the_gradients_of_what_does_not_learn():
    net = resnets.network("resnet20", seed=0)
    freezer = Freezer(net, "staged", shared=True)
    freezer.apply(0.0)
    assert all(parameter.requires_grad for parameter in net.parameters())
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    freezer.drop_gradients()
    assert {name for name, parameter in net.named_parameters() if parameter.grad is not None} == {"fc.weight", "fc.bias"}


def test_a_staged_run_that_is_killed_ends_with_the_same_bytes(tmp_path):
    options = {"freeze": "staged", "optimizer": "adamw", "learning_rate": 0.002}
    assert same_bytes(whole(tmp_path / "whole", **options), broken(tmp_path / "broken", 5, **options))


def test_a_frozen_backbone_keeps_its_bytes_and_the_head_learns(start, tmp_path, caplog):
    caplog.set_level(logging.INFO, "resnets")
    options = {"init": start, "freeze": "backbone", "recipe": "finetune", "ema_decay": 0.9}
    run = whole(tmp_path / "run", **options)
    before, after = load(start).state, load(run).state
    assert {name for name in before if not np.array_equal(before[name], after[name])} == {"fc.weight", "fc.bias"}
    assert "are computed once, in 4 views" in caplog.text
    assert not (run / checkpoint.FEATURES).exists()
    figures = resnets.evaluate(run, "digits")
    assert figures["loss"] == pytest.approx(load(run).accuracy["loss"], abs=1e-3)
    assert same_bytes(run, broken(tmp_path / "broken", 13, **options))


def test_features_are_computed_once_and_kept_for_a_resume(start, tmp_path, monkeypatch):
    options = {"init": start, "freeze": "backbone", "recipe": "finetune", "views": 2}
    out = begun(tmp_path / "run", 3, **options)
    with safe_open(out / checkpoint.FEATURES, "numpy") as file:
        assert file.get_tensor("train").shape == (2, 1423, 16)
        assert not np.array_equal(file.get_tensor("train")[0], file.get_tensor("train")[1])
    monkeypatch.setattr(features, "table", lambda *given: pytest.fail("computed again"))
    train_run(resume=out)
    monkeypatch.undo()
    (damaged := begun(tmp_path / "damaged", 3, **options) / checkpoint.FEATURES).write_bytes(b"cut")
    train_run(resume=damaged.parent)
    assert same_bytes(out, damaged.parent)


@pytest.mark.parametrize("changes", [{"views": 3}, {"seed": 1}, {"crop_padding": 0.25}])
def test_features_of_other_views_are_computed_anew(start, tmp_path, changes):
    options = {"init": start, "freeze": "backbone", "recipe": "finetune", "views": 2, "epochs": 1}
    out = begun(tmp_path / "run", 3, **options)
    for path in checkpoint.there(out):  # the features alone are left
        path.unlink()
    train_run(resume=out, allow_change=True, **changes)
    assert same_bytes(out, whole(tmp_path / "other", **options | changes))


def test_a_head_learns_from_the_images_that_the_loader_shows(start):
    options = {"init": start, "recipe": "finetune", "freeze": "backbone", "views": 1, "batch_size": 16}
    options["precision"] = "float32"  # as the features below
    made = trainer(**options)
    images = trainer(**options | {"freeze": "none"})
    net = images.parts.network.eval()
    with torch.no_grad():
        for given, shown, _ in zip(made.loader.batches(0), images.loader.batches(0), range(3), strict=False):
            np.testing.assert_array_equal(given.samples, shown.samples)
            np.testing.assert_array_equal(given.labels, shown.labels)
            expected = net.features(images.normalised(shown))
            np.testing.assert_allclose(given.images, expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("pretrained", "images", "gpu", "changes", "expected"),
    [
        (True, 999, False, {}, "backbone"),
        (True, 1000, False, {}, "none"),
        (False, 999, False, {}, "none"),
        (True, 999, True, {}, "none"),
        (True, 999, False, {"mixup": 0.2}, "none"),
        (True, 999, False, {"drop_path": 0.1}, "none"),
        (True, 999, False, {"teacher": "x.safetensors"}, "none"),
        (True, 5000, False, {"freeze": "backbone"}, "backbone"),
    ],
)
def test_the_rule_of_auto(monkeypatch, pretrained, images, gpu, changes, expected):
    monkeypatch.setattr(machine, "has_gpu", lambda: gpu)
    monkeypatch.setattr(machine, "compiling_lacks", lambda: "")
    chosen = Options.parse("digits", {"recipe": "finetune", "freeze": "auto", "precision": "float32", **changes})
    assert settled(chosen, pretrained, images).freeze == expected


@pytest.mark.parametrize(
    "field",
    [{"mixup": 0.1}, {"cutmix": 0.1}, {"drop_path": 0.1}, {"teacher": "x"}, {"repeats": 2}, {"train_input": [0.5, 1]}],
)
def test_a_frozen_backbone_is_refused_what_needs_the_network(field):
    chosen = Options.parse("digits", {"recipe": "finetune", "freeze": "backbone", **field})
    with pytest.raises(ValueError, match=f"features that are computed once, and {next(iter(field))} would have others"):
        settled(chosen, True, 500)
    with pytest.raises(ValueError, match="freeze=backbone keeps the weights that it starts from, and there are none"):
        settled(Options.parse("digits", {"freeze": "backbone"}), False, 500)
