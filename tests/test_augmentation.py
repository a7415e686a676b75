import math

import numpy as np
import pytest

from resnets.data.augmentation import (
    DRAWS,
    LIGHTING_VALUES,
    LIGHTING_VECTORS,
    Augmentation,
    lighting,
    mirror,
    order,
    pad_and_crop,
    random_box,
    uniform,
)
from resnets.data.preprocessing import Preprocessing

DIMENSIONS = [(240, 320), (320, 240), (100, 100), (48, 64), (31, 500)]  # height, width; the last too wide for most crops
MANY = 20_000


def boxes(height, width, what, fit="crop", count=400, size=32):
    """float64 [count, 4]: left, top, right, bottom of random boxes."""
    how = Preprocessing(size=size, fit=fit)
    draws = uniform(3, 1, np.arange(count), DRAWS)
    return np.array([random_box(height, width, row, what, how) for row in draws])


def sides(found):
    """Width and height of boxes."""
    return found[:, 2] - found[:, 0], found[:, 3] - found[:, 1]


# Random numbers


@pytest.mark.parametrize("samples", [[5], [9, 2, 5], list(range(9, -1, -1)), [3, 3]])
def test_a_sample_draws_the_same_whoever_is_asked_with_it(samples):
    every = uniform(7, 2, np.arange(10), 6)
    assert np.array_equal(uniform(7, 2, np.array(samples), 6), every[samples])


def test_fewer_draws_are_the_first_ones():
    assert np.array_equal(uniform(1, 2, np.arange(50), 3), uniform(1, 2, np.arange(50), DRAWS)[:, :3])


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (1, 7), (2**63 - 1, 0)])
def test_numbers_are_uniform(seed, epoch):
    found = uniform(seed, epoch, np.arange(MANY), 8)
    assert found.shape == (MANY, 8)
    assert found.min() >= 0 and found.max() < 1
    assert np.allclose(found.mean(0), 1 / 2, atol=0.01)
    assert np.allclose(found.var(0), 1 / 12, atol=0.003)
    counts = np.histogram(found, 20, (0, 1))[0] / found.size
    assert np.allclose(counts, 1 / 20, atol=0.003)


def test_draws_neighbours_epochs_and_seeds_are_uncorrelated():
    found = uniform(0, 0, np.arange(MANY), 8)
    others = [uniform(0, 1, np.arange(MANY), 1), uniform(1, 0, np.arange(MANY), 1), uniform(1, 1, np.arange(MANY), 1)]
    columns = np.hstack([found, np.roll(found[:, :1], 1), *others])
    correlation = np.corrcoef(columns.T)
    assert np.abs(correlation - np.eye(len(correlation))).max() < 0.04


@pytest.mark.parametrize("other", [(1, 0), (0, 1), (1, 1), (2, 0), (0, 2)])
def test_another_seed_or_epoch_draws_other_numbers(other):
    samples = np.arange(1000)
    assert not np.isin(uniform(*other, samples, 4), uniform(0, 0, samples, 4)).any()


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_order_is_a_permutation(count):
    assert sorted(order(0, 0, count)) == list(range(count))


def test_order_is_a_function_of_seed_and_epoch():
    assert np.array_equal(order(4, 5, 100), order(4, 5, 100))
    different = {tuple(order(seed, epoch, 100)) for seed in range(4) for epoch in range(4)}
    assert len(different) == 16


def test_every_image_comes_first_as_often():
    places = np.array([order(0, epoch, 5) for epoch in range(2000)])
    for place in places.T:
        assert np.allclose(np.bincount(place, minlength=5) / 2000, 1 / 5, atol=0.04)


# Boxes


@pytest.mark.parametrize(("height", "width"), DIMENSIONS)
@pytest.mark.parametrize("crop", ["resized", "short-side"])
def test_a_box_lies_inside_the_image(height, width, crop):
    left, top, right, bottom = boxes(height, width, Augmentation(crop=crop)).T
    assert (left >= 0).all() and (top >= 0).all()
    assert (left < right).all() and (top < bottom).all()
    assert (right <= width + 1e-9).all() and (bottom <= height + 1e-9).all()


@pytest.mark.parametrize(("height", "width"), DIMENSIONS[:3])
@pytest.mark.parametrize(
    ("scale", "ratio"), [((0.08, 1.0), (3 / 4, 4 / 3)), ((0.25, 0.5), (1.0, 1.0)), ((0.1, 0.2), (0.5, 2))]
)
def test_resized_has_area_and_ratio_within_their_ranges(height, width, scale, ratio):
    across, down = sides(boxes(height, width, Augmentation("resized", scale, ratio)))
    share, shape = across * down / (height * width), across / down
    fallback = np.isclose(across, down) & np.isclose(across, 0.875 * min(height, width), rtol=0.01)  # after ten tries
    assert fallback.sum() < 10
    assert (share[~fallback] >= scale[0] - 1e-9).all() and (share[~fallback] <= scale[1] + 1e-9).all()
    assert (shape[~fallback] >= ratio[0] - 1e-9).all() and (shape[~fallback] <= ratio[1] + 1e-9).all()


def test_resized_uses_all_of_its_ranges():
    found = boxes(200, 200, Augmentation("resized", (0.1, 0.5)), count=4000)
    across, down = sides(found)
    share, shape = across * down / 200**2, np.log(across / down)
    assert np.allclose(np.quantile(share, [0, 0.5, 1]), [0.1, 0.3, 0.5], atol=0.01)
    assert np.allclose(np.quantile(shape, [0, 0.5, 1]), [math.log(3 / 4), 0, math.log(4 / 3)], atol=0.02)
    place = found[:, 0] / (200 - across)
    assert np.allclose(np.quantile(place, [0, 0.5, 1]), [0, 0.5, 1], atol=0.02)


def test_resized_of_an_image_that_no_crop_fits_is_its_middle():
    found = boxes(10, 1000, Augmentation("resized", (0.9, 1.0)))
    assert (found == found[0]).all()
    left, top, right, bottom = found[0]
    assert (left + right) / 2 == pytest.approx(500, abs=1)
    assert (top + bottom) / 2 == pytest.approx(5, abs=0.5)


@pytest.mark.parametrize(("height", "width"), [(240, 320), (500, 375), (600, 600)])
def test_short_side_cuts_its_square_from_the_image_so_resized(height, width):
    what = Augmentation("short-side", short_side=(40, 50))
    across, down = sides(boxes(height, width, what, size=32))
    assert np.allclose(across, down)
    drawn = min(height, width) * 32 / across  # the shorter side, once the square is 32 pixels
    assert np.allclose(drawn, np.rint(drawn))
    assert set(np.rint(drawn)) == set(range(40, 51))


@pytest.mark.parametrize(("height", "width"), [(240, 320), (320, 240), (64, 256)])
def test_squash_takes_the_image_for_a_square(height, width):
    whole = boxes(height, width, Augmentation("resized", (1.0, 1.0), (1.0, 1.0)), fit="squash")
    assert np.allclose(whole, [0, 0, width, height])
    found = boxes(height, width, Augmentation("resized", (0.2, 0.6)), fit="squash")
    across, down = sides(found)
    share, shape = across * down / (width * height), (across / width) / (down / height)
    assert share.min() >= 0.2 - 1e-9 and share.max() <= 0.6 + 1e-9
    assert shape.min() >= 3 / 4 - 1e-9 and shape.max() <= 4 / 3 + 1e-9
    assert found.min() >= 0 and found[:, 2].max() <= width and found[:, 3].max() <= height


@pytest.mark.parametrize(("height", "width"), [(240, 320), (320, 240), (64, 256)])
def test_pad_takes_the_square_around_the_image(height, width):
    side = max(height, width)
    square = [(width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2]
    whole = boxes(height, width, Augmentation("resized", (1.0, 1.0), (1.0, 1.0)), fit="pad")
    assert np.allclose(whole, square)
    found = boxes(height, width, Augmentation("resized", (0.4, 0.9)), fit="pad")
    across, down = sides(found)
    assert (across * down >= 0.4 * side**2 - 1e-6).all() and (across * down <= 0.9 * side**2 + 1e-6).all()
    assert (found[:, :2] >= square[:2]).all() and (found[:, 2:] <= np.add(square[2:], 1e-9)).all()
    short = 1 if height < width else 0  # the axis on which there is something to fill
    assert (found[:, short] < 0).any() and (found[:, 2 + short] > min(height, width)).any()


@pytest.mark.parametrize(("crop", "keeps"), [("padded", True), ("none", True), ("resized", False), ("short-side", False)])
def test_which_crops_keep_the_frame(crop, keeps):
    assert Augmentation(crop=crop).keeps_the_frame is keeps


# Pixels


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("padding", [1, 4])
def test_pad_and_crop_is_what_a_loop_over_images_does(channels, padding):
    images = np.random.default_rng(0).integers(0, 256, (60, 12, 12, channels), np.uint8)
    draws = uniform(0, 0, np.arange(60), DRAWS)
    fill = (10, 20, 30)[:channels]
    found = pad_and_crop(images, draws, padding, fill)
    corners = set()
    for image, row, cut in zip(images, draws, found, strict=True):
        padded = [np.pad(image[..., c], padding, constant_values=fill[c]) for c in range(channels)]
        top, left = int(row[1] * (2 * padding + 1)), int(row[2] * (2 * padding + 1))
        corners.add((top, left))
        assert np.array_equal(cut, np.stack(padded, -1)[top : top + 12, left : left + 12])
    tops, lefts = zip(*corners, strict=True)
    assert set(tops) == set(lefts) == set(range(2 * padding + 1))


def test_mirror_turns_half_of_the_images():
    images = np.random.default_rng(0).integers(0, 256, (400, 4, 6, 3), np.uint8)
    found = mirror(images.copy(), uniform(0, 0, np.arange(400), DRAWS))
    turned = (found == images[:, :, ::-1]).all((1, 2, 3))
    assert ((found == images).all((1, 2, 3)) ^ turned).all()
    assert 150 < turned.sum() < 250


def test_no_deviation_adds_no_light():
    assert not lighting(uniform(0, 0, np.arange(100), DRAWS), 0.0).any()


def test_light_varies_along_the_components_as_much_as_they_say():
    found = lighting(uniform(0, 0, np.arange(MANY), DRAWS), 0.1)
    assert found.shape == (MANY, 3) and found.dtype == np.float32
    strength = found @ LIGHTING_VECTORS  # the components are orthonormal
    assert np.allclose(strength.mean(0), 0, atol=0.1 * LIGHTING_VALUES / 20)
    assert np.allclose(strength.std(0), 0.1 * LIGHTING_VALUES, rtol=0.03)
    assert np.abs(np.corrcoef(strength.T) - np.eye(3)).max() < 0.03
    kurtosis = ((strength / strength.std(0)) ** 4).mean(0)
    assert np.allclose(kurtosis, 3, atol=0.3)  # a normal distribution's


def test_light_lies_along_a_component_where_only_one_is_drawn(monkeypatch):
    monkeypatch.setattr("resnets.data.augmentation.LIGHTING_VALUES", np.array([0.2, 0.0, 0.0]))
    found = lighting(uniform(0, 0, np.arange(50), DRAWS), 0.1)
    assert np.abs(found).max() > 0.01
    assert np.allclose(np.cross(found, LIGHTING_VECTORS[:, 0]), 0, atol=1e-7)


@pytest.mark.parametrize("crop", ["resized", "short-side"])
def test_light_has_nothing_to_do_with_where_the_crop_lies(crop):
    draws = uniform(0, 0, np.arange(4000), DRAWS)
    how, what = Preprocessing(size=224), Augmentation(crop=crop)
    found = np.array([random_box(480, 640, row, what, how) for row in draws])
    strength = np.abs(lighting(draws, 0.1) @ LIGHTING_VECTORS)
    together = np.corrcoef(np.hstack([found, strength]).T)[:4, 4:]
    assert np.abs(together).max() < 0.08
