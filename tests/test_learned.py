"""Epochs that leave out what is learned."""

import numpy as np
import pytest
import torch
from tiny import HOW, pictures

import resnets
from resnets.data.augmentation import Augmentation
from resnets.data.dataset import ArrayImages
from resnets.data.learned import Learned
from resnets.data.loader import Loader, Samples
from resnets.model import load
from resnets.training.folder import checkpoint
from resnets.training.options import Options
from resnets.training.plan import plan
from resnets.training.recipe import Recipe
from resnets.training.settling import settled

COUNT = 1000


def known(skip=0.7, easy=800):
    """What is known of images of which the first ones' loss lies below the mean."""
    learned = Learned(COUNT, skip)
    losses = np.random.default_rng(0).random(COUNT).astype(np.float32) + np.where(np.arange(COUNT) < easy, 0, 10)
    learned.saw(np.arange(COUNT), losses.astype(np.float32))
    learned.next_epoch()
    return learned


def test_before_anything_is_seen_an_epoch_shows_each_image_once():
    order = Learned(COUNT, 0.9).sequence(1, 0, COUNT)
    assert sorted(order.samples.tolist()) == list(range(COUNT)) != order.samples.tolist()
    assert (order.views == 0).all() and (order.weights == 1).all()


def test_the_order_is_a_function_of_seed_epoch_and_losses():
    one, two = known().sequence(1, 3, COUNT), known().sequence(1, 3, COUNT)
    assert np.array_equal(one.samples, two.samples) and np.array_equal(one.weights, two.weights)
    for other in (known().sequence(2, 3, COUNT), known().sequence(1, 4, COUNT), known(0.6).sequence(1, 3, COUNT)):
        assert not np.array_equal(one.samples, other.samples)


def test_what_is_learned_is_shown_less_and_counts_more():
    shown, counts = np.zeros(COUNT), np.zeros(COUNT)
    for epoch in range(60):
        order = known().sequence(0, epoch, COUNT)
        assert len(order.samples) == len(order.weights) == COUNT
        np.add.at(shown, order.samples, 1 / 60)
        np.add.at(counts, order.samples, order.weights / 60)
    assert shown[:800].mean() / shown[800:].mean() == pytest.approx(0.3, abs=0.01)
    assert counts[:800].mean() == pytest.approx(1, abs=0.02) and counts[800:].mean() == pytest.approx(1, abs=0.02)


def test_views_tell_the_times_apart_that_an_epoch_shows_an_image():
    order = known().sequence(0, 1, COUNT)
    pairs = list(zip(order.samples.tolist(), order.views.tolist(), strict=True))
    assert len(set(pairs)) == COUNT and max(order.views) >= 2


def test_images_never_seen_are_always_shown():
    learned = Learned(COUNT, 0.9)
    learned.saw(np.arange(10, COUNT), np.full(COUNT - 10, 0.5, np.float32))
    learned.saw(np.arange(10, 20), np.full(10, 9.0, np.float32))
    learned.next_epoch()
    order = learned.sequence(0, 1, 300)
    assert set(range(20)) <= set(order.samples.tolist())
    assert order.weights.min() < 0.2 and order.weights.max() > 1


def test_losses_count_from_the_next_epoch_on():
    learned = known()
    before = learned.sequence(0, 1, COUNT).samples
    learned.saw(np.arange(COUNT), np.arange(COUNT)[::-1].astype(np.float32))
    assert np.array_equal(learned.sequence(0, 1, COUNT).samples, before)
    learned.next_epoch()
    assert not np.array_equal(learned.sequence(0, 1, COUNT).samples, before)


def test_a_state_of_other_images_is_refused():
    learned = Learned(4, 0.5)
    learned.load_state_dict({"before": np.ones(4, np.float32), "latest": np.zeros(4, np.float32)})
    assert learned.before.tolist() == [1] * 4 and learned.latest.tolist() == [0] * 4
    for state in ({}, {"before": np.ones(3, np.float32), "latest": np.zeros(3, np.float32)}):
        with pytest.raises(ValueError, match="other images"):
            learned.load_state_dict(state)


def test_a_loaders_batches_have_the_weights_of_their_images():
    samples = Samples(ArrayImages(pictures(), [str(n) for n in range(60)]), np.arange(60), np.arange(60))
    loader = Loader(samples, HOW, 16, augmentation=Augmentation(flip=True), seed=1)
    assert all(batch.weights is None for batch in loader.batches(0))
    loader.learned = Learned(60, 0.8)
    loader.learned.saw(np.arange(60), np.where(np.arange(60) < 40, 0.1, 5).astype(np.float32))
    loader.learned.next_epoch()
    batches = list(loader.batches(1))
    assert len(batches) == 3 and all(batch.weights is not None and batch.weights.dtype == np.float32 for batch in batches)
    shown, weights = (np.concatenate([getattr(batch, name) for batch in batches]) for name in ("samples", "weights"))
    assert np.allclose(weights, np.where(shown < 40, 2.33, 0.467), atol=0.01) and (shown >= 40).mean() > 0.5
    assert all(batch.weights is None for batch in loader.in_order().batches(1))


@pytest.mark.parametrize("other", [{"mixup": 0.2}, {"cutmix": 1.0}, {"repeats": 2}, {"balance": "sample"}], ids=str)
def test_what_cannot_go_with_it(other):
    with pytest.raises(ValueError, match="skip_learned goes by each image's own loss"):
        Recipe(epochs=1, skip_learned=0.5, **other)


def test_a_frozen_backbone_cannot_go_with_it(tmp_path):
    options = Options("digits", settings={"skip_learned": 0.5, "freeze": "backbone"}, recipe="quick")
    with pytest.raises(ValueError, match="computed once, and skip_learned would have others"):
        settled(options, True, 100)


GIVEN = {"recipe": "quick", "model": "resnet20", "epochs": 3, "batch_size": 128, "skip_learned": 0.7, "val": 0.5, "seed": 3}


def test_training_learns_weighs_and_resumes_to_the_bit(tmp_path, monkeypatch):
    """A run that is stopped in the middle of its second epoch ends as one that isn't."""
    whole = resnets.train("digits", out=tmp_path / "whole", **GIVEN)
    from resnets.training.loop import Trainer

    step = Trainer.step

    def stopping(self, batch, epoch, number, *others):
        if (epoch, number) == (1, 4):
            raise KeyboardInterrupt
        step(self, batch, epoch, number, *others)

    kept = {}
    save = checkpoint.save

    def saved(folder, network, optimizer, progress, average=None, learned=None):
        kept["learned"] = learned.state_dict()
        save(folder, network, optimizer, progress, average, learned)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", stopping)
        patch.setattr(checkpoint, "save", saved)
        with pytest.raises(KeyboardInterrupt):
            resnets.train("digits", out=tmp_path / "cut", save_every="2", **GIVEN)
    assert np.isfinite(kept["learned"]["before"]).mean() > 0.8
    assert (kept["learned"]["before"] != kept["learned"]["latest"]).sum() > 128
    again = resnets.train(resume=tmp_path / "cut")
    assert whole.sha256 == again.sha256 == load(tmp_path / "cut").sha256
    plain = resnets.train("digits", out=tmp_path / "plain", **{**GIVEN, "skip_learned": 0.0})
    assert plain.sha256 != whole.sha256


def test_what_is_learned_goes_by_the_label_alone():
    """Whatever is smoothed: the surest image has the lowest loss."""
    from resnets.training.building import trainer
    from resnets.training.processes.world import World

    options = Options.parse("digits", {**GIVEN, "label_smoothing": 0.5})
    made = trainer(plan(options), options, World())
    batch = next(made.loader.batches(0))
    logits = torch.linspace(0, 8, 128)[:, None] * torch.nn.functional.one_hot(torch.from_numpy(batch.labels), 10)
    made.logits = lambda *given: logits.requires_grad_()
    made.step(batch, 0, 0, 128, 0.1)
    ((_, samples, losses),) = made.losses
    assert samples.tolist() == batch.samples.tolist() and (losses.diff() < 0).all()


def test_the_gradient_is_weighed(tmp_path):
    """With weights of 2 everywhere the first step's gradient is twice as large."""
    from resnets.training.building import trainer
    from resnets.training.processes.world import World

    options = Options.parse("digits", GIVEN)
    found = []
    for factor in (1, 2):
        made = trainer(plan(options), options, World())
        batch = next(made.loader.batches(0))
        made.optimizer.step = lambda: None
        made.optimizer.zero_grad = lambda: None
        made.train_mode()
        made.step(batch._replace(weights=np.full(128, factor, np.float32)), 0, 0, 128, 0.1)
        found.append((made.parts.network.fc.weight.grad.clone(), made.sums.clone(), made.losses))
    (one, sums, losses), (two, twice, others) = found
    assert torch.allclose(two, 2 * one, rtol=1e-5)
    assert torch.allclose(twice, sums * torch.tensor([2, 2, 1]))
    assert losses[0][0] == others[0][0] == 0 and torch.equal(losses[0][2], others[0][2])
