import math

import numpy as np
import pytest
import torch

from resnets.training.mixing import Mix, mix_of, mixed
from resnets.training.recipe import Recipe


def both(**changes):
    return Recipe(epochs=1, **{"mixup": 0.2, "cutmix": 1.0, **changes})


def many(recipe, count=4000, seed=0, epoch=0):
    return [mix_of(seed, epoch, number, recipe) for number in range(count)]


def batch(count, size=(6, 10)):
    images = torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(0))
    return images, torch.arange(count)


# What is drawn


def test_a_mix_is_a_function_of_seed_epoch_and_number():
    chosen = both()
    draws = {(s, e, n): mix_of(s, e, n, chosen) for s in range(4) for e in range(4) for n in range(4)}
    assert {key: mix_of(*key, chosen) for key in reversed(draws)} == draws
    assert len(set(draws.values())) == len(draws)


def test_nothing_is_drawn_from_a_generator_with_a_state():
    np.random.seed(0)
    before, torchs = np.random.get_state()[1].tolist(), torch.get_rng_state()
    images, labels = batch(6)
    for number in range(10):
        mixed(images, labels, mix_of(0, 0, number, both()))
    assert np.random.get_state()[1].tolist() == before and torch.equal(torch.get_rng_state(), torchs)


@pytest.mark.parametrize("mixing", [0.0, 0.3, 1.0])
def test_mixing_is_the_share_of_batches_that_are_mixed(mixing):
    mixes = [mix for mix in many(both(mixing=mixing)) if mix]
    assert len(mixes) == pytest.approx(4000 * mixing, abs=120 * (0 < mixing < 1))
    kinds = [mix.kind == "mixup" for mix in mixes]
    assert not kinds or np.mean(kinds) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("changes", "share"), [({}, 0.5), ({"cutmix": 0}, 1), ({"mixup": 0}, 0)])
def test_which_of_the_two(changes, share):
    assert np.mean([mix.kind == "mixup" for mix in many(both(**changes))]) == pytest.approx(share, abs=0.03 * (share == 0.5))


def test_neither_is_none():
    assert many(both(mixup=0, cutmix=0), 10) == [None] * 10


@pytest.mark.parametrize(("kind", "other"), [("mixup", "cutmix"), ("cutmix", "mixup")])
@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_of_a_beta_distribution(kind, other, alpha):
    shares = np.array([mix.share for mix in many(both(**{kind: alpha, other: 0}))])
    assert shares.min() >= 0 and shares.max() <= 1
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)  # of Beta(α, α)


def test_the_box_has_the_papers_sides_and_its_centre_is_uniform():
    found = many(both(mixup=0))
    inside = [mix for mix in found if min(mix.box) > 0 and max(mix.box) < 1]
    assert len(inside) > 500
    for mix in inside:
        top, left, bottom, right = mix.box
        assert bottom - top == pytest.approx(math.sqrt(1 - mix.share)) == right - left
    tiny = [mix for mix in found if mix.share > 0.9]
    for axis in (0, 1):
        centres = np.array([(mix.box[axis] + mix.box[axis + 2]) / 2 for mix in tiny])
        assert centres.mean() == pytest.approx(0.5, abs=0.06) and centres.std() == pytest.approx(math.sqrt(1 / 12), abs=0.05)
    for mix in found:
        assert 0 <= mix.box[0] <= mix.box[2] <= 1 and 0 <= mix.box[1] <= mix.box[3] <= 1
    assert len({min(mix.box) for mix in found if min(mix.box) > 0}) > 500


# What it does to images


@pytest.mark.parametrize("count", [1, 2, 7, 8])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_mixup_is_its_definition(count, share):
    images, labels = batch(count)
    found, targets = mixed(images, labels, Mix("mixup", share))
    for place in range(count):
        partner = place ^ 1 if place ^ 1 < count else place
        torch.testing.assert_close(found[place], share * images[place] + (1 - share) * images[partner])
        assert (targets.labels[place], targets.others[place]) == (place, partner)
    assert targets.share.tolist() == pytest.approx([share] * count) and targets.share.dtype == torch.float32


@pytest.mark.parametrize("count", [1, 2, 7, 8])
@pytest.mark.parametrize("number", range(6))
def test_cutmix_is_its_definition_and_its_share_that_of_the_pixels(count, number):
    images, labels = batch(count)
    mix = mix_of(0, 0, number, both(mixup=0))
    found, targets = mixed(images, labels, mix)
    top, left, bottom, right = mix.box
    own = 0
    for y in range(6):
        for x in range(10):
            boxed = round(top * 6) <= y < round(bottom * 6) and round(left * 10) <= x < round(right * 10)
            own += not boxed
            for place in range(count):
                partner = place ^ 1 if place ^ 1 < count else place
                assert torch.equal(found[place, :, y, x], images[partner if boxed else place, :, y, x])
    assert targets.share.tolist() == pytest.approx([own / 60] * count)
    assert targets.others.tolist() == [place ^ 1 if place ^ 1 < count else place for place in range(count)]


@pytest.mark.parametrize(
    ("box", "share"), [((0, 0, 1, 1), 0), ((0.5, 0.5, 0.5, 0.5), 1), ((0, 0, 0.5, 0.5), 0.75), ((0.5, 0, 1, 1), 0.5)]
)
def test_the_share_of_a_box(box, share):
    images, labels = batch(4)
    found, targets = mixed(images, labels, Mix("cutmix", 0.123, box))
    assert targets.share.tolist() == pytest.approx([share] * 4)
    assert torch.equal(found, images) == (share == 1)
    assert torch.equal(found, images[[1, 0, 3, 2]]) == (share == 0)


def test_a_box_has_its_shape_at_any_size():
    mix = Mix("cutmix", 0.5, (0.25, 0.5, 0.75, 1.0))
    assert mix.pixels(8, 8) == (2, 4, 6, 8) and mix.pixels(224, 112) == (56, 56, 168, 112)


@pytest.mark.parametrize("mix", [Mix("mixup", 0.3), Mix("cutmix", 0.3, (0.1, 0.2, 0.7, 0.9))], ids=lambda mix: mix.kind)
@pytest.mark.parametrize("split", [2, 4])
@pytest.mark.parametrize("count", [8, 7])
def test_a_divided_batch_is_mixed_as_the_whole(mix, split, count):
    images, labels = batch(count)
    whole, targets = mixed(images, labels, mix)
    parts = [mixed(images[part], labels[part], mix) for part in (slice(0, split), slice(split, count))]
    assert torch.equal(torch.cat([part for part, _ in parts]), whole)
    for field in ("labels", "others", "share"):
        assert torch.equal(torch.cat([getattr(part, field) for _, part in parts]), getattr(targets, field))


@pytest.mark.parametrize("mix", [Mix("mixup", 0.3), Mix("cutmix", 0.3, (0.1, 0.2, 0.7, 0.9))], ids=lambda mix: mix.kind)
def test_the_images_given_stay_and_the_layout_is_kept(mix):
    images, labels = batch(4)
    images = images.contiguous(memory_format=torch.channels_last)
    before = images.clone()
    found, _ = mixed(images, labels, mix)
    assert torch.equal(images, before) and not torch.equal(found, before)
    assert found.is_contiguous(memory_format=torch.channels_last) and found.dtype == torch.float32


def test_without_a_mix_nothing_happens():
    images, labels = batch(4)
    found, targets = mixed(images, labels, None)
    assert found is images and targets.labels is labels and targets.others is None and targets.share is None


@pytest.mark.gpu
def test_mixing_on_a_gpu_is_that_on_the_processor():
    images, labels = batch(7)
    for number in range(6):
        mix = mix_of(0, 0, number, both())
        found, targets = mixed(images.cuda(), labels.cuda(), mix)
        wanted, others = mixed(images, labels, mix)
        torch.testing.assert_close(found.cpu(), wanted, rtol=0, atol=1e-6)
        assert all(torch.equal(one.cpu(), other) for one, other in zip(targets, others, strict=True))
