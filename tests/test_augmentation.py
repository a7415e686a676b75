import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from resnets.data.augmentation import (
    DRAWS,
    ERASING,
    JITTER,
    LIGHTING_VALUES,
    LIGHTING_VECTORS,
    Augmentation,
    alternating,
    lighting,
    mirror,
    numbers,
    pad_and_crop,
    random_box,
)
from resnets.data.augmenting import augmented
from resnets.data.erasing import ERASING_DRAWS, erase, rectangles
from resnets.data.order import uniform
from resnets.data.policies import colour_jitter, rand_augment, trivial_augment
from resnets.data.preprocessing import Preprocessing, resample
from resnets.training.recipe import Recipe

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


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("padding", [1, 4, 11])
def test_a_crop_may_reflect_the_image(channels, padding):
    images = np.random.default_rng(0).integers(0, 256, (60, 12, 12, channels), np.uint8)
    draws = uniform(0, 0, np.arange(60), DRAWS)
    found = pad_and_crop(images, draws, padding, None)
    around = ((padding, padding), (padding, padding), (0, 0))
    for image, row, cut in zip(images, draws, found, strict=True):
        top, left = (row[1:3] * (2 * padding + 1)).astype(int)
        assert np.array_equal(cut, np.pad(image, around, mode="reflect")[top : top + 12, left : left + 12])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fill", ["mean", "black", "reflect"])
def test_what_is_around_a_padded_image(channels, fill):
    how = Preprocessing(**{**vars(HOWS[channels]), "size": 12})
    images = np.random.default_rng(0).integers(0, 256, (20, 12, 12, channels), np.uint8)
    what = Augmentation("padded", padding=3, fill=fill)
    draws = numbers(0, 0, np.arange(20), np.zeros(20, int), what)
    expected = pad_and_crop(images, draws, 3, {"mean": how.fill, "black": (0, 0, 0)[:channels], "reflect": None}[fill])
    with ThreadPoolExecutor(1) as pool:
        assert np.array_equal(augmented(images.copy(), draws, what, how, pool), expected)


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


# Mirror images by turns


@pytest.mark.parametrize("seed", [0, 9])
def test_alternate_flips_mirror_the_other_half_each_epoch(seed):
    samples, first = np.arange(2000), np.zeros(2000, int)
    found = [alternating(seed, epoch, samples, first) for epoch in range(4)]
    assert 900 < found[0].sum() < 1100
    for before, after in pairwise(found):
        assert np.array_equal(after, ~before)
    assert np.array_equal(alternating(seed, 1, samples, first + 1), found[0])  # the next view is as the next epoch
    assert np.array_equal(alternating(seed, 0, samples[::-1], first), found[0][::-1])
    assert not np.array_equal(alternating(seed + 1, 0, samples, first), found[0])


def test_an_alternate_flip_is_what_is_mirrored_and_changes_no_other_number():
    samples, views = np.arange(300), np.zeros(300, int)
    draws = numbers(3, 1, samples, views, Augmentation(flip="alternate"))
    plain = numbers(3, 1, samples, views, Augmentation(flip=True))
    assert np.array_equal(draws[:, 0] < 0.5, alternating(3, 1, samples, views))
    assert np.array_equal(draws[:, 1:], plain[:, 1:])
    assert np.array_equal(plain, uniform(3, 1, samples, DRAWS))
    images = np.random.default_rng(0).integers(0, 256, (300, 4, 6, 3), np.uint8)
    turned = (mirror(images.copy(), draws) == images[:, :, ::-1]).all((1, 2, 3))
    assert np.array_equal(turned, alternating(3, 1, samples, views))


def test_numbers_are_as_many_as_are_needed_and_the_same_whatever_else_is_drawn():
    samples, views = np.arange(50), np.arange(50) % 3
    every = numbers(1, 2, samples, views, Augmentation(policy="randaugment", operations=3))
    kinds = [
        Augmentation(),
        Augmentation(jitter=(0.1, 0, 0, 0)),
        Augmentation(erasing=0.1),
        Augmentation(policy="trivialaugment"),
    ]
    lengths = []
    for what in kinds:
        found = numbers(1, 2, samples, views, what)
        lengths.append(found.shape[1])
        assert np.array_equal(found, every[:, : found.shape[1]])
    assert lengths == [DRAWS, JITTER.stop, ERASING.stop, ERASING.stop + 4]
    assert every.shape == (50, ERASING.stop + 12)
    assert np.array_equal(every, uniform(1, 2, samples, ERASING.stop + 12, views))


# Erasing


@pytest.mark.parametrize(("size", "area"), [(224, (0.02, 0.4)), (100, (0.1, 0.2)), (64, (0.05, 0.05))])
def test_a_rectangle_has_its_share_and_shape_and_lies_anywhere_within(size, area):
    draws = uniform(0, 0, np.arange(4000), ERASING_DRAWS)
    which, top, left, height, width = rectangles(size, draws, 1.0, area)
    assert len(which) == 4000
    assert (top >= 0).all() and (left >= 0).all() and (top + height <= size).all() and (left + width <= size).all()
    share, shape = height * width / size**2, height / width
    assert share.min() > area[0] * 0.9 and share.max() < area[1] * 1.1
    assert share.mean() == pytest.approx(sum(area) / 2, rel=0.04)
    assert shape.min() > 0.3 * 0.85 and shape.max() < 1 / 0.3 / 0.85
    assert np.log(shape).mean() == pytest.approx(0, abs=0.04)
    assert shape.max() > 2.5 and shape.min() < 0.4
    assert np.mean(top / (size - height)) == pytest.approx(0.5, abs=0.02)
    assert np.mean(left / (size - width)) == pytest.approx(0.5, abs=0.02)
    assert (top + height == size).any() and (top == 0).any() and (left == 0).any() and (left + width == size).any()


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_so_many_images_are_erased(probability):
    images = np.zeros((2000, 16, 16, 1), np.uint8)
    erase(images, uniform(0, 0, np.arange(2000), ERASING_DRAWS), probability, (0.1, 0.4))
    assert images.any((1, 2, 3)).mean() == pytest.approx(probability, abs=0.03)


def test_what_cannot_lie_in_the_image_is_left_out():
    images = np.zeros((50, 16, 16, 1), np.uint8)
    assert not erase(images, uniform(0, 0, np.arange(50), ERASING_DRAWS), 1.0, (1.0, 1.0)).any()


@pytest.mark.parametrize("channels", [1, 3])
def test_erased_pixels_are_uniform_noise_within_the_rectangle_alone(channels):
    draws = uniform(0, 0, np.arange(300), ERASING_DRAWS)
    images = np.random.default_rng(0).integers(0, 256, (300, 32, 32, channels), np.uint8)
    found = erase(images.copy(), draws, 0.8, (0.1, 0.4))
    which, top, left, height, width = rectangles(32, draws, 0.8, (0.1, 0.4))
    assert np.array_equal(which, np.flatnonzero(draws[:, 0] < 0.8))
    filled, patches = np.zeros(images.shape, bool), []
    for image, y, x, h, w in zip(which, top, left, height, width, strict=True):
        filled[image, y : y + h, x : x + w] = True
        patches.append(found[image, y : y + h, x : x + w].reshape(-1, channels))
    assert np.array_equal(found[~filled], images[~filled])
    values = np.concatenate(patches)
    assert np.allclose(np.bincount(values.ravel(), minlength=256) / values.size, 1 / 256, atol=0.0013)
    neighbours = np.stack([values[:-1, 0], values[1:, 0], values[1:, -1]]).astype(float)
    correlation = np.corrcoef(neighbours)
    assert abs(correlation[0, 1]) < 0.02 and (channels == 1 or abs(correlation[1, 2]) < 0.02)
    assert len({patch[:8].tobytes() for patch in patches}) == len(patches)


def test_an_image_is_erased_the_same_in_any_batch():
    draws = uniform(0, 0, np.arange(40), ERASING_DRAWS)
    images = np.random.default_rng(0).integers(0, 256, (40, 20, 20, 3), np.uint8)
    every = erase(images.copy(), draws, 0.7, (0.02, 0.4))
    some = np.array([31, 4, 17, 8])
    assert np.array_equal(erase(images[some], draws[some], 0.7, (0.02, 0.4)), every[some])


# A batch


HOWS = {
    3: Preprocessing(size=20, crop=1.0),
    1: Preprocessing(size=20, crop=1.0, colour="grey", mean=(0.4,), deviation=(0.3,)),
}
ALL = Augmentation(
    "padded", padding=2, flip=True, policy="randaugment", spread=1.0, jitter=(0.4, 0.3, 0.2, 0.1), erasing=0.5
)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("policy", ["randaugment", "trivialaugment", "none"])
@pytest.mark.parametrize("size", [20, 13, 27])
def test_crop_flip_size_policy_jitter_and_erasing_come_in_this_order(channels, policy, size):
    how, what = HOWS[channels], Augmentation(**{**vars(ALL), "policy": policy})
    images = np.random.default_rng(0).integers(0, 256, (37, 20, 20, channels), np.uint8)
    draws = numbers(0, 0, np.arange(37), np.zeros(37, int), what)
    with ThreadPoolExecutor(2) as pool:
        found = augmented(images.copy(), draws, what, replace(how, size=size), pool)
    fill = how.fill if channels == 3 else how.fill[0]
    expected = []
    for image, row in zip(mirror(pad_and_crop(images, draws, 2, how.fill), draws), draws, strict=True):
        at_size = resample(image, (0, 0, 20, 20), Preprocessing(**{**vars(how), "size": size}))
        picture, own = Image.fromarray(at_size.squeeze()), row[ERASING.stop :]
        if policy == "randaugment":
            picture = rand_augment(picture, own, 2, 9.0, 1.0, fill)
        elif policy == "trivialaugment":
            picture = trivial_augment(picture, own, fill)
        expected.append(np.asarray(colour_jitter(picture, row[JITTER], what.jitter)).reshape(size, size, channels))
    assert found.shape == (37, size, size, channels)
    assert np.array_equal(found, erase(np.stack(expected), draws[:, ERASING], 0.5, what.erasing_area))


def test_an_empty_batch_is_augmented_too():
    draws = numbers(0, 0, np.zeros(0, int), np.zeros(0, int), ALL)
    with ThreadPoolExecutor(1) as pool:
        found = augmented(np.zeros((0, 20, 20, 3), np.uint8), draws, ALL, replace(HOWS[3], size=16), pool)
    assert found.shape == (0, 16, 16, 3)


# From a recipe


def test_a_recipe_without_more_is_an_augmentation_without_more():
    assert Recipe(epochs=1).augmentation(32, mirrors=True) == Augmentation("padded", flip=True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"policy": "randaugment", "policy_operations": 3}, {"policy": "randaugment", "operations": 3}),
        ({"policy_magnitude": 7, "policy_spread": 0.5}, {"magnitude": 7.0, "spread": 0.5}),
        ({"policy": "trivialaugment"}, {"policy": "trivialaugment"}),
        ({"colour_jitter": [0.4, 0.3, 0.2, 0.1]}, {"jitter": (0.4, 0.3, 0.2, 0.1)}),
        ({"erasing": 0.25, "erasing_area": [0.1, 0.3]}, {"erasing": 0.25, "erasing_area": (0.1, 0.3)}),
        ({"flip": "alternate"}, {"flip": "alternate"}),
        ({"repeats": 4}, {"repeats": 4}),
        ({"balance": "sample"}, {"balance": "sample"}),
        ({"balance": "weight"}, {"balance": "none"}),  # the loss sees to it
    ],
)
def test_a_recipes_fields_reach_the_augmentation(given, expected):
    found = Recipe(epochs=1, **given).augmentation(32, mirrors=True)
    assert found == Augmentation(**{"crop": "padded", "flip": True, **expected})
