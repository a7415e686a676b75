import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from resnets.data import policies
from resnets.data.order import uniform
from resnets.data.policies import NAMES, OPERATIONS, SIGNED, colour_jitter, rand_augment, strength, trivial_augment

TORCHVISION = {"randaugment": v2.RandAugment, "trivialaugment": v2.TrivialAugmentWide}
FILL = {"RGB": (124, 116, 104), "L": 117}


def picture(mode="RGB", size=24, low=20, high=230):
    """A gradient with noise."""
    down, across = np.mgrid[:size, :size] / size
    noise = np.random.default_rng(0).random((size, size, 3)) * 0.3
    values = (0.7 * np.stack([down, across, down * across], -1) + noise) * (high - low) + low
    return Image.fromarray(values.astype(np.uint8)).convert(mode)


def pixels(image):
    return np.asarray(image).astype(int)


def theirs(kind, name, image, magnitude):
    """What torchvision makes of an image, with its operations at a magnitude, the sign in it."""
    transform = TORCHVISION[kind](fill=FILL[image.mode])
    fill = transform._fill
    return transform._apply_image_or_video_transform(
        image, name, magnitude, interpolation=transform.interpolation, fill=fill
    )


def bins(kind, name, size):
    """torchvision's magnitudes in an image of a size, or None, and whether they have a sign."""
    magnitudes, signed = TORCHVISION[kind]._AUGMENTATION_SPACE[name]
    found = magnitudes(31, size, size)
    return None if found is None else found.tolist(), signed


# Operations


@pytest.mark.parametrize("kind", TORCHVISION)
def test_the_operations_are_torchvisions(kind):
    assert list(OPERATIONS) == list(TORCHVISION[kind]._AUGMENTATION_SPACE)
    assert {name for name in OPERATIONS if bins(kind, name, 32)[1]} == SIGNED


@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("kind", TORCHVISION)
def test_strengths_are_torchvisions_bin_by_bin(kind, name, size):
    found = bins(kind, name, size)[0]
    if found is not None:
        own = [strength(kind, name, size, bin) for bin in range(31)]
        assert np.allclose([round(value) for value in own] if name == "Posterize" else own, found, atol=1e-5)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("kind", TORCHVISION)
def test_an_operation_makes_the_pixels_that_torchvision_makes(kind, name, mode):
    image = picture(mode)
    magnitudes, signed = bins(kind, name, 24)
    changed = 0
    for bin in range(31) if magnitudes else [0]:
        for sign in (1, -1) if signed else (1,):
            magnitude = sign * float(magnitudes[bin]) if magnitudes else 0.0
            found = pixels(OPERATIONS[name](image, magnitude, FILL[mode]))
            assert np.array_equal(found, pixels(theirs(kind, name, image, magnitude))), magnitude
            changed += not np.array_equal(found, pixels(image))
    assert (changed > 0) == (name != "Identity" and (name, mode) != ("Color", "L"))


@pytest.mark.parametrize("name", ["AutoContrast", "Equalize", "Contrast", "Posterize", "Solarize"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_tables_are_pillows_for_images_of_few_values_too(name, mode):
    generator = np.random.default_rng(1)
    few = [generator.choice(values, (20, 30, 3)).astype(np.uint8) for values in ([7], [0, 255], [3, 4], [200, 201, 255])]
    many = [generator.integers(low, high, (40, 40, 3), np.uint8) for low, high in ((0, 256), (90, 120), (250, 256))]
    skewed = np.full((16, 16, 3), 9, np.uint8)
    skewed[0, :5] = [[0, 9, 1], [255, 9, 9], [17, 0, 9], [9, 9, 9], [10, 11, 12]]
    for values in (*few, *many, skewed):
        image = Image.fromarray(values).convert(mode)
        for magnitude in (4, 0.3, 0.0):
            magnitude = 5 if name == "Posterize" else magnitude
            found = pixels(OPERATIONS[name](image, magnitude, FILL[mode]))
            assert np.array_equal(found, pixels(theirs("randaugment", name, image, magnitude)))


@pytest.mark.parametrize("shift", [-0.5, -0.21, -0.001, 0.0, 0.003, 0.1, 0.4999, 0.5])
def test_hue_is_torchvisions(shift):
    assert np.array_equal(pixels(policies.hue(picture(), shift)), pixels(functional.adjust_hue(picture(), shift)))
    grey = picture("L")
    assert np.array_equal(pixels(policies.hue(grey, shift)), pixels(grey))


# Policies


def which(name, mode="RGB"):
    """The draw that chooses an operation."""
    return (NAMES[mode].index(name) + 0.5) / len(NAMES[mode])


def test_colour_is_no_operation_on_grey():
    assert set(NAMES["RGB"]) - set(NAMES["L"]) == {"Color"}
    assert set(NAMES["RGB"]) == set(OPERATIONS)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("magnitude", [0, 3, 9, 10])
def test_randaugment_is_torchvisions_with_the_bin_of_three_times_the_magnitude(magnitude, mode):
    for name in NAMES[mode]:
        magnitudes, signed = bins("randaugment", name, 24)
        for sign, factor in ((0.2, -1), (0.7, 1)):
            draws = np.array([which(name, mode), sign, 0.5, 0.5])
            found = rand_augment(picture(mode), draws, 1, magnitude, 0.0, FILL[mode])
            theirs_is = (factor if signed else 1) * float(magnitudes[3 * magnitude]) if magnitudes else 0.0
            expected = theirs("randaugment", name, picture(mode), theirs_is)
            assert np.array_equal(pixels(found), pixels(expected)), name


def test_randaugment_does_one_operation_after_another():
    image = picture()
    names = ["Rotate", "Equalize", "ShearX"]
    draws = np.array([[which(name), 0.9, 0.0, 0.0] for name in names])
    found = rand_augment(image, draws.reshape(-1), 3, 6.0, 0.0, FILL["RGB"])
    expected = image
    for name in names:
        expected = OPERATIONS[name](expected, strength("randaugment", name, 24, 18), FILL["RGB"])
    assert np.array_equal(pixels(found), pixels(expected))
    assert not np.array_equal(pixels(found), pixels(image))
    assert rand_augment(image, np.zeros(0), 0, 9.0, 0.0, FILL["RGB"]) is image


def test_spread_varies_the_magnitude_normally_and_within_its_range(monkeypatch):
    seen = []
    monkeypatch.setitem(OPERATIONS, "Rotate", lambda image, value, fill: seen.append(value) or image)
    draws = uniform(0, 0, np.arange(4000), 4)
    draws[:, 0], draws[:, 1] = which("Rotate"), 0.9
    image = picture()
    for row in draws:
        rand_augment(image, row, 1, 5.0, 1.0, FILL["RGB"])
    found = np.array(seen) / 3  # 30 degrees at magnitude 10
    assert found.mean() == pytest.approx(5, abs=0.06)
    assert found.std() == pytest.approx(1, abs=0.04)
    assert np.mean(np.abs(found - 5) < 1) == pytest.approx(0.683, abs=0.03)
    seen.clear()
    for row in draws[:300]:
        rand_augment(image, row, 1, 9.5, 3.0, FILL["RGB"])
    assert max(seen) == 30 and min(seen) >= 0


def test_trivialaugment_takes_each_operation_and_bin_as_often(monkeypatch):
    seen = []
    for name in NAMES["RGB"]:
        monkeypatch.setitem(OPERATIONS, name, lambda image, value, fill, name=name: seen.append((name, value)) or image)
    count, image = 9000, picture()
    for row in uniform(0, 0, np.arange(count), 4):
        trivial_augment(image, row, FILL["RGB"])
    for name in NAMES["RGB"]:
        assert sum(found == name for found, _ in seen) / count == pytest.approx(1 / 14, abs=0.012)
    turned = np.array([value for name, value in seen if name == "Rotate"])
    assert set(np.rint(np.abs(turned) / 4.5)) == set(range(31))
    assert np.allclose(turned / 4.5, np.rint(turned / 4.5))
    assert 0.4 < np.mean(turned < 0) < 0.55


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_what_moves_in_has_the_fill(mode):
    draws = np.array([which("TranslateX", mode), 0.9, 15.5 / 31, 0])  # 16 pixels to the right
    found = np.asarray(trivial_augment(picture(mode), draws, FILL[mode]))
    assert (found[:, :16] == np.array(FILL[mode])).all()
    assert np.array_equal(found[:, 16:], np.asarray(picture(mode))[:, :8])


# Colour jitter


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("amounts", [(0.4, 0.4, 0.4, 0.1), (1.0, 0.0, 0.0, 0.0), (0.0, 0.3, 0.0, 0.5), (0.2, 0.0, 1.0, 0.0)])
def test_jitter_is_torchvisions_with_the_same_order_and_factors(amounts, mode):
    reference = v2.ColorJitter(*amounts)
    names = ("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor")
    for draws in uniform(0, 0, np.arange(60), 5):
        factors = [1 + amount * (2 * draw - 1) for amount, draw in zip(amounts[:3], draws[1:4], strict=True)]
        factors.append(amounts[3] * (2 * draws[4] - 1))
        given = {name: factor if amount else None for name, factor, amount in zip(names, factors, amounts, strict=True)}
        turns = torch.tensor(policies.ORDERS[int(draws[0] * 24)])
        expected = reference.transform(picture(mode), {"fn_idx": turns, **given})
        assert np.array_equal(pixels(colour_jitter(picture(mode), draws, amounts)), pixels(expected))


def test_jitter_has_each_order_as_often():
    found = np.bincount((uniform(0, 0, np.arange(24_000), 5)[:, 0] * 24).astype(int), minlength=24)
    assert len(policies.ORDERS) == math.factorial(4) == len(set(policies.ORDERS))
    assert found.min() > 850 and found.max() < 1150


def test_no_jitter_leaves_the_image():
    image = picture()
    assert colour_jitter(image, np.full(5, 0.9), (0.0, 0.0, 0.0, 0.0)) is image
