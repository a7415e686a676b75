"""Distillation: whose answers a student learns from, of which images, and what is refused."""

import logging
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from halves import SETTINGS, begun, broken, same_bytes, small, whole
from tiny import HOW, pictures, tiny

import resnets
from resnets.data.preprocessing import crop, normalise
from resnets.model import load
from resnets.training import building, train_run
from resnets.training.loop import Progress
from resnets.training.losses import Targets, distilled, loss
from resnets.training.options import Options
from resnets.training.plan import plan
from resnets.training.processes.world import World
from resnets.training.teaching import Teacher

__all__ = ["small"]
CPU = torch.device("cpu")
STILL = {"crop": "none", "flip": "off"}


@pytest.fixture
def path(tmp_path):
    """A teacher of three classes, in a file."""
    tiny(HOW).save(tmp_path / "teacher.safetensors")
    return tmp_path / "teacher.safetensors"


@pytest.fixture(scope="module")
def digits(tmp_path_factory, small):
    """A teacher of the digits."""
    return whole(tmp_path_factory.mktemp("teacher") / "run", seed=9) / "best.safetensors"


def trainer(**options):
    chosen = Options.parse("digits", {**SETTINGS, **options})
    return building.trainer(plan(chosen), chosen, World())


def as_read(how):
    """The same pictures as a network of this preprocessing reads them."""
    return torch.from_numpy(normalise(np.stack([crop(image, how) for image in pictures()]), how))


@torch.no_grad()
def answers(how):
    return tiny(HOW).network().eval()(as_read(how))


def test_answers_are_in_the_students_order_of_classes(path):
    teacher = Teacher(path, ("owl", "cat"), HOW, CPU)
    assert teacher.same
    torch.testing.assert_close(teacher.logits(as_read(HOW), np.arange(60)), answers(HOW)[:, [2, 0]])


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": (0.1, 0.2, 0.3), "deviation": (0.5, 0.6, 0.7)},
        {"colour": "BGR", "mean": (0.1, 0.2, 0.3)},
        {"scale": 1.0, "mean": (99.0, 110.0, 120.0), "deviation": (60.0, 61.0, 62.0)},
    ],
)
def test_a_teacher_of_another_normalisation_sees_the_same_images(path, changes):
    student = replace(HOW, **changes)
    teacher = Teacher(path, ("cat", "dog", "owl"), student, CPU)
    assert not teacher.same
    torch.testing.assert_close(teacher.logits(as_read(student), np.arange(60)), answers(HOW), rtol=1e-3, atol=1e-3)


def test_a_teacher_of_another_size_sees_them_resized(path):
    teacher = Teacher(path, ("cat", "dog", "owl"), replace(HOW, size=64), CPU)
    large, sizes = torch.nn.functional.interpolate(as_read(HOW), scale_factor=2, mode="nearest"), []
    teacher.network.register_forward_hook(lambda net, given, out: sizes.append(tuple(given[0].shape[2:])))
    found = teacher.logits(large, np.arange(60))
    assert sizes == [(32, 32)]
    assert np.corrcoef(found.flatten(), answers(HOW).flatten())[0, 1] > 0.9


def test_what_was_enlarged_for_the_student_reaches_a_smaller_teacher_almost_as_it_was(path):
    teacher, seen = Teacher(path, ("cat", "dog", "owl"), replace(HOW, size=48), CPU), []
    own, resize = as_read(HOW), partial(torch.nn.functional.interpolate, mode="bilinear", antialias=True)
    teacher.network.register_forward_hook(lambda net, given, out: seen.append(given[0]))
    large = resize(own, size=(48, 48))
    teacher.logits(large, np.arange(60))
    assert (seen[0] - own).square().mean() < 0.8 * (resize(large, size=(32, 32)) - own).square().mean()


def test_a_teacher_of_the_same_preprocessing_sees_its_own_size_while_training_is_at_another(path):
    teacher = Teacher(path, ("cat", "dog", "owl"), HOW, CPU)
    small, sizes = torch.nn.functional.interpolate(as_read(HOW), scale_factor=0.75), []
    teacher.network.register_forward_hook(lambda net, given, out: sizes.append(tuple(given[0].shape[2:])))
    teacher.logits(small, np.arange(60))
    teacher.logits(as_read(HOW), np.arange(60))
    assert sizes == [(32, 32), (32, 32)]


def test_what_cannot_teach_is_refused(path):
    with pytest.raises(ValueError, match=r"the teacher .* doesn't know the class 'bee'; it can teach only what it knows"):
        Teacher(path, ("bee", "cat"), HOW, CPU)
    grey = replace(HOW, colour="grey", mean=(0.5,), deviation=(0.5,))
    with pytest.raises(ValueError, match="doesn't read images of 1 channels as this network does"):
        Teacher(path, ("cat", "dog"), grey, CPU)
    with pytest.raises((ValueError, FileNotFoundError)):
        Teacher("nowhere.safetensors", ("cat", "dog"), HOW, CPU)


def test_answers_are_computed_once_where_images_stay_as_they_are(digits, caplog):
    caplog.set_level(logging.INFO, "resnets")
    made = trainer(teacher=str(digits), **STILL)
    assert "the teacher's answers to 1423 images are computed once" in caplog.text
    teacher = made.parts.teacher
    assert teacher.table.shape == (1423, 10)
    for batch, _ in zip(made.loader.batches(1), range(3), strict=False):
        images = made.normalised(batch)
        torch.testing.assert_close(teacher.logits(images, batch.samples), teacher.ask(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "changes", [{"crop": "padded"}, {"mixup": 0.2}, {"cutmix": 1.0}, {"erasing": 0.2}, {"train_input": [0.75]}]
)
def test_and_along_the_way_where_they_do_not(digits, changes):
    assert trainer(teacher=str(digits), **{**STILL, **changes}).parts.teacher.table is None


def test_the_answers_are_a_share_of_the_loss(digits):
    images, targets = torch.zeros(4, 1, 8, 8), Targets(torch.arange(4))
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 10)).astype(np.float32))
    made = trainer(teacher=str(digits), teacher_weight=0.3, teacher_temperature=2.0)
    given = made.parts.teacher.ask(images)
    expected = 0.7 * loss(logits, targets, made.recipe) + 0.3 * distilled(logits, given, made.recipe)
    torch.testing.assert_close(made.loss(logits, images, targets, np.arange(4)), expected)
    assert not torch.allclose(expected, loss(logits, targets, made.recipe))


def test_a_student_comes_to_answer_as_its_teacher(digits):
    made = trainer(teacher=str(digits), teacher_weight=1.0, learning_rate=0.02, optimizer="adamw", epochs=4, **STILL)
    losses = [row["train_loss"] for event, row in made.fit(Progress()) if event == "epoch"]
    assert losses[-1] < losses[0]
    assert made.parts.teacher.network.training is False


def test_a_run_goes_on_with_the_teacher_it_began_with(digits, tmp_path):
    teacher = tmp_path / "teacher.safetensors"
    teacher.write_bytes(digits.read_bytes())
    out = begun(tmp_path / "run", 3, teacher=str(teacher))
    changed = load(teacher)
    state = {**changed.state, "fc.bias": changed.state["fc.bias"] + 1}
    replace(changed, state=state).save(teacher)
    with pytest.raises(ValueError, match=r"its teacher was model [0-9a-f]{12} and is now model"):
        train_run(resume=out)


def test_a_run_goes_on_with_the_weights_it_began_with(digits, tmp_path):
    weights = tmp_path / "weights.pth"
    torch.save({name: torch.as_tensor(value) for name, value in load(digits).state.items()}, weights)
    out = begun(tmp_path / "run", 3, init=str(weights))
    torch.save({name: torch.as_tensor(value) + 1 for name, value in load(digits).state.items()}, weights)
    with pytest.raises(ValueError, match=r"its start was weights.pth, [0-9a-f]{12} and is now weights.pth, "):
        train_run(resume=out)


def test_a_taught_run_that_is_killed_ends_with_the_same_bytes(digits, tmp_path):
    options = {"teacher": str(digits), "mixup": 0.2}
    run = whole(tmp_path / "whole", **options)
    assert same_bytes(run, broken(tmp_path / "broken", 8, **options))
    assert load(run).recipe["teacher"] == str(digits)
    assert resnets.load(run).sha256 != load(digits).sha256
