import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from resnets.data.preprocessing import Preprocessing, crop, middle, normalise

SIZES = [
    (375, 500),
    (500, 375),
    (224, 224),
    (256, 256),
    (301, 300),
    (83, 57),
    (333, 1000),
    (1001, 334),
    (40, 31),
    (600, 257),
]
CAFFE = Preprocessing(colour="BGR", scale=1, mean=(103.939, 116.779, 123.68), deviation=(1, 1, 1))
GREY = Preprocessing(size=28, colour="grey", mean=(0.2860,), deviation=(0.3530,))


def photo(height, width, channels=3, seed=0):
    """A uint8 image of waves and a little noise, seldom quite black or white."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j][..., None]
    wave = np.sin(9 * x + 5 * y * np.arange(1, channels + 1)) + np.cos(23 * y * x)
    return np.clip(128 + 40 * wave + random.normal(0, 12, (height, width, channels)), 0, 255).astype(np.uint8)


def most(one, other):
    """The largest difference of two images, in levels."""
    assert one.shape == other.shape
    return np.abs(one.astype(int) - other.astype(int)).max()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "share"), [(224, 0.875), (64, 1.0), (99, 0.95)])
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_the_crop_is_torchvisions(shape, size, share, interpolation):
    image, how = photo(*shape), Preprocessing(size=size, crop=share, interpolation=interpolation)
    theirs = v2.Compose([v2.Resize(how.resized, v2.InterpolationMode(interpolation), antialias=True), v2.CenterCrop(size)])
    ours = crop(image, how)
    assert ours.dtype == np.uint8
    assert most(ours, np.asarray(theirs(Image.fromarray(image)))) <= 1
    assert most(ours, theirs(torch.from_numpy(image).permute(2, 0, 1)).permute(1, 2, 0).numpy()) <= (
        2 if interpolation == "bicubic" else 1
    )


def test_the_shorter_side_is_resized_to_256_for_224():
    assert Preprocessing().resized == 256
    assert Preprocessing(fit="pad").resized == Preprocessing(fit="squash").resized == 224


def test_a_grey_image_stays_grey():
    image = photo(40, 50, 1)
    theirs = v2.Compose([v2.Resize(32, antialias=True), v2.CenterCrop(28)])(Image.fromarray(image[:, :, 0]))
    assert most(crop(image, GREY), np.asarray(theirs)[:, :, None]) <= 1


@pytest.mark.parametrize("how", [Preprocessing(size=20), GREY], ids=["RGB", "grey"])
def test_normalise_is_torchvisions(how):
    batch = np.stack([photo(how.size, how.size, how.channels, seed) for seed in range(3)])
    theirs = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(how.mean, how.deviation)])
    ours = normalise(batch, how)
    np.testing.assert_allclose(ours, theirs(torch.from_numpy(batch).permute(0, 3, 1, 2)).numpy(), rtol=1e-5, atol=2e-6)
    assert ours.dtype == np.float32
    assert ours.flags.c_contiguous


def test_caffes_convention_is_bgr_from_0_to_255():
    pixel = np.uint8([[[[200, 100, 50]]]])  # red, green, blue
    np.testing.assert_allclose(normalise(pixel, CAFFE).ravel(), [50 - 103.939, 100 - 116.779, 200 - 123.68], rtol=1e-5)
    assert CAFFE.fill == (124, 117, 104)


@pytest.mark.parametrize(
    "how",
    [
        Preprocessing(size=50, fit="pad"),
        Preprocessing(size=50, fit="pad", colour="BGR", mean=(0.1, 0.5, 0.9)),
        Preprocessing(size=50, fit="pad", antialias=False),
        Preprocessing(size=50, fit="pad", colour="grey", mean=(0.3,), deviation=(0.2,)),
    ],
    ids=["RGB", "BGR", "no antialias", "grey"],
)
@pytest.mark.parametrize(
    ("shape", "inside"), [((60, 100), np.s_[10:40]), ((200, 100), np.s_[:, 12:38]), ((10, 20), np.s_[12:38])]
)
def test_padding_keeps_the_whole_image_on_the_mean(how, shape, inside):
    image = photo(*shape, how.channels)
    padded = crop(image, how)
    kept = padded[inside]
    whole = Image.fromarray(image.squeeze()).resize(kept.shape[1::-1], Image.Resampling.BILINEAR)
    if how.antialias:
        assert most(kept.squeeze(), np.asarray(whole)) <= 1
    else:
        assert np.abs(kept.squeeze().astype(int) - np.asarray(whole)).mean() < 12
    around = np.ones((50, 50), bool)
    around[inside] = False
    assert (padded[around] == how.fill).all()
    read = normalise(padded[None], how)[0][:, around]
    assert np.abs(read).max() <= 0.5 / 255 / min(how.deviation) + 1e-6  # the mean, to half a level


@pytest.mark.parametrize("shape", [(1000, 2), (2, 1000)], ids=str)
def test_padding_keeps_even_a_thread(shape):
    padded = crop(np.full((*shape, 3), 255, np.uint8), Preprocessing(size=32, fit="pad"))
    assert padded.max() == 255


@pytest.mark.parametrize("shape", SIZES[:4], ids=str)
def test_squash_is_one_resize_to_the_square(shape):
    image = photo(*shape)
    theirs = Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR)
    assert most(crop(image, Preprocessing(size=64, fit="squash")), np.asarray(theirs)) == 0


@pytest.mark.parametrize("fit", ["crop", "squash"])
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_bilinear_without_antialias_is_torchs(shape, fit):
    image, how = photo(*shape), Preprocessing(size=64, fit=fit, antialias=False)
    height, width = shape
    short = how.resized
    size = (64, 64) if fit == "squash" else (max(short, short * height // width), max(short, short * width // height))
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].double()
    theirs = torch.nn.functional.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=False)
    theirs = v2.functional.center_crop(theirs, [64, 64])[0].permute(1, 2, 0).round().numpy()
    assert most(crop(image, how), theirs) <= 1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_enlarging_is_pillows_with_and_without_antialias(interpolation):
    image = photo(40, 30)
    theirs = Image.fromarray(image).resize((96, 96), Image.Resampling[interpolation.upper()])
    inside = np.s_[12:-12, 12:-12]  # at the edge Pillow cuts its filter, where torch repeats the last pixel
    for antialias in (True, False):
        how = Preprocessing(size=96, fit="squash", interpolation=interpolation, antialias=antialias)
        assert most(crop(image, how)[inside], np.asarray(theirs)[inside]) <= 1


def test_nearest_repeats_pixels():
    image = photo(16, 16)
    how = Preprocessing(size=32, fit="squash", interpolation="nearest", antialias=False)
    np.testing.assert_array_equal(crop(image, how), image.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_an_image_of_the_right_size_keeps_its_pixels(fit, interpolation, antialias):
    image = photo(32, 32)
    how = Preprocessing(size=32, crop=1.0, fit=fit, interpolation=interpolation, antialias=antialias)
    np.testing.assert_array_equal(crop(image, how), image)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (9, 7)], ids=str)
@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("antialias", [True, False])
def test_any_size_becomes_the_square(shape, fit, antialias):
    how = Preprocessing(size=32, fit=fit, antialias=antialias)
    image = np.full((*shape, 3), 77, np.uint8)
    out = crop(image, how)
    assert out.shape == (32, 32, 3)
    assert {tuple(pixel) for pixel in out.reshape(-1, 3).tolist()} <= {(77, 77, 77), how.fill}


def test_the_crop_is_in_the_middle():
    assert middle(100, 200, Preprocessing(size=50, crop=0.5)) == (75, 25, 125, 75)


@pytest.mark.parametrize(
    "how", [Preprocessing(), CAFFE, GREY, Preprocessing(fit="pad", antialias=False, size=299, crop=0.9)]
)
def test_json_gives_the_same_value_back(how):
    assert Preprocessing.from_json(json.loads(json.dumps(how.to_json()))) == how


def test_a_field_that_is_unknown_is_named():
    with pytest.raises(ValueError, match="'sharpen'"):
        Preprocessing.from_json({**Preprocessing().to_json(), "sharpen": 1})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", 7),
        ("size", 4097),
        ("size", 224.0),
        ("crop", 0),
        ("crop", 1.01),
        ("fit", "stretch"),
        ("interpolation", "area"),
        ("colour", "HSV"),
        ("colour", "grey"),
        ("scale", 0),
        ("mean", (0.5,)),
        ("mean", (0.5, float("nan"), 0.5)),
        ("deviation", (0.2, 0.2)),
        ("deviation", (0.2, 0, 0.2)),
        ("deviation", (0.2, 0.2, float("nan"))),
    ],
    ids=str,
)
def test_a_value_that_cannot_be_is_refused_with_its_field(field, value):
    with pytest.raises(ValueError, match="mean and deviation have one number" if value == "grey" else field):
        Preprocessing(**{field: value})


@pytest.mark.parametrize(
    ("how", "shape"), [(Preprocessing(), (9, 9, 1)), (GREY, (9, 9, 3)), (GREY, (9, 9)), (CAFFE, (9, 9, 4))]
)
def test_other_channels_than_the_networks_are_refused(how, shape):
    with pytest.raises(ValueError, match=f"{how.channels} channels"):
        crop(np.zeros(shape, np.uint8), how)
