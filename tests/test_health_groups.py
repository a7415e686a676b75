"""Images that are there twice, and classes and splits that don't fit."""

import csv
import io

import numpy as np
import pytest
from healthy import encoded, found, jpeg, picture, put
from PIL import Image, ImageDraw, ImageEnhance

from resnets.data.dataset import ArrayImages, Dataset
from resnets.data.health import check, likeness
from resnets.data.health.likeness import alike, candidates, hashes, thumbnail

EACH = {f"{name}/{number}.jpg": jpeg(100 * ord(name) + number) for name in "ab" for number in range(3)}
SPLIT = {f"{split}/{name}/{number}.jpg": jpeg(1000 * place + 100 * ord(name) + number)
         for place, split in enumerate(("train", "val", "test")) for name in "ab" for number in range(2)}  # fmt: skip
AGAIN = jpeg(9, quality=60)  # another file of the picture of jpeg(9)


def resized(seed, factor):
    image = picture(seed)
    return encoded(image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC))


# Copies of pictures


def test_the_same_bytes_in_a_class_are_duplicates(tmp_path):
    put(tmp_path, {**EACH, "a/copy.jpg": EACH["a/1.jpg"], "a/copy 2.jpg": EACH["a/1.jpg"]})
    assert found(tmp_path) == {"duplicate": [("a/1.jpg", "a/copy 2.jpg", "a/copy.jpg")]}
    assert check(tmp_path, size=8).leave_out == ("a/copy 2.jpg", "a/copy.jpg")


def test_what_looks_the_same_in_a_class_is_a_near_duplicate_and_stays(tmp_path):
    put(tmp_path, {**EACH, "a/8.jpg": jpeg(9), "a/9.jpg": AGAIN})
    assert found(tmp_path) == {"near_duplicate": [("a/8.jpg", "a/9.jpg")]}
    assert check(tmp_path, size=8).leave_out == ()


def test_same_and_near_in_one_group_are_told_apart(tmp_path):
    put(tmp_path, {**EACH, "a/7.jpg": jpeg(9), "a/8.jpg": jpeg(9), "a/9.jpg": AGAIN})
    assert found(tmp_path) == {"duplicate": [("a/7.jpg", "a/8.jpg")], "near_duplicate": [("a/7.jpg", "a/9.jpg")]}


@pytest.mark.parametrize("copy", [jpeg(9), AGAIN], ids=["same", "near"])
def test_a_leak_leaves_the_test_set_whole(tmp_path, copy):
    put(tmp_path, {**SPLIT, "train/a/9.jpg": jpeg(9), "val/a/9.jpg": jpeg(9), "test/a/9.jpg": copy})
    health = check(tmp_path, size=8)
    assert health.counts() == {"leak": 1}
    assert set(health.problems[0].paths) == {"train/a/9.jpg", "val/a/9.jpg", "test/a/9.jpg"}
    how = "the same bytes" if copy == jpeg(9) else "look the same"
    assert health.problems[0].detail == f"{how}, in test, train, val"
    assert set(health.leave_out) == {"train/a/9.jpg", "val/a/9.jpg"}


def test_a_leak_into_val_leaves_out_the_training_copy(tmp_path):
    put(tmp_path, {**SPLIT, "train/a/9.jpg": jpeg(9), "val/a/9.jpg": AGAIN})
    assert check(tmp_path, size=8).leave_out == ("train/a/9.jpg",)


@pytest.mark.parametrize("copy", [jpeg(9), AGAIN], ids=["same", "near"])
def test_a_conflict_of_labels_leaves_out_all(tmp_path, copy):
    put(tmp_path, {**EACH, "a/9.jpg": jpeg(9), "b/9.jpg": copy})
    health = check(tmp_path, size=8)
    assert [(problem.kind, problem.paths) for problem in health.problems] == [("label_conflict", ("a/9.jpg", "b/9.jpg"))]
    assert health.problems[0].detail.endswith("in the classes a, b")
    assert health.leave_out == ("a/9.jpg", "b/9.jpg")


def test_a_conflict_across_splits_is_a_leak_too(tmp_path):
    put(tmp_path, {**SPLIT, "train/a/9.jpg": jpeg(9), "test/b/9.jpg": AGAIN})
    both = [("test/b/9.jpg", "train/a/9.jpg")]
    assert found(tmp_path) == {"leak": both, "label_conflict": both}


def test_broken_copies_are_no_duplicates(tmp_path):
    put(tmp_path, {**EACH, "a/8.jpg": b"", "a/9.jpg": b"", "b/8.jpg": jpeg(9)[:999], "b/9.jpg": jpeg(9)[:999]})
    assert set(found(tmp_path)) == {"empty_file", "truncated"}


COPIES = {
    "half": lambda seed: resized(seed, 0.5),
    "larger": lambda seed: resized(seed, 1.6),
    "quality 60": lambda seed: encoded(picture(seed), quality=60),
    "grey quality": lambda seed: encoded(picture(seed), "WEBP", quality=50),
    "brighter": lambda seed: encoded(ImageEnhance.Brightness(picture(seed)).enhance(1.12)),
    "darker": lambda seed: encoded(ImageEnhance.Brightness(picture(seed)).enhance(0.85)),
    "squashed": lambda seed: encoded(picture(seed).resize((100, 100))),
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_changed_copy_is_found_and_nothing_else(tmp_path, copy):
    originals = {f"a/{seed}.png": encoded(picture(seed, 200, 280), "PNG") for seed in range(200, 212)}
    changed = [COPIES[copy](seed) for seed in (200, 205, 211)]
    same = {f"a/{seed}.png": encoded(picture(seed), "PNG") for seed in (200, 205, 211)}
    put(
        tmp_path, {**originals, **same, **{f"b/{n}.{'webp' if copy[0] == 'g' else 'jpg'}": c for n, c in enumerate(changed)}}
    )
    names = [f"b/{n}.{'webp' if copy[0] == 'g' else 'jpg'}" for n in range(3)]
    expected = [(f"a/{seed}.png", name) for seed, name in zip((200, 205, 211), names, strict=True)]
    assert found(tmp_path) == {"label_conflict": expected}


def squares(images):
    thumbnails = np.stack([thumbnail(np.asarray(image.convert("RGB"))) for image in images])
    return thumbnails, np.arange(len(images)), np.zeros(len(images), bool)


def test_different_pictures_are_not_alike():
    assert len(alike(*squares([picture(seed, 40, 40) for seed in range(600)]))) == 0


def test_flat_pictures_are_alike_to_none():
    rng = np.random.default_rng(0)
    flat = [Image.fromarray((level + rng.integers(0, 5, (40, 40, 3))).astype(np.uint8)) for level in (0, 90, 90, 250, 250)]
    assert len(alike(*squares(flat))) == 0


def shaded(contrast, light=128.0, noise=0):
    """A grey 32×32 image of soft shades, of a standard deviation in levels, with a fine checked pattern on it."""
    y, x = np.mgrid[0:32, 0:32]
    shades = np.asarray(picture(305, 32, 32).convert("L")).astype(np.float32)
    image = light + contrast * (shades - shades.mean()) / shades.std() + noise * (1 - 2 * ((x + y) % 2))
    return Image.fromarray(np.clip(np.rint(image), 0, 255).astype(np.uint8))


def test_a_shade_that_all_pictures_of_a_camera_have_is_flat():
    assert len(alike(*squares([shaded(7), shaded(7, 135)]))) == 1
    assert len(alike(*squares([shaded(5), shaded(5, 135)]))) == 0


def test_another_texture_makes_another_picture():
    assert len(alike(*squares([shaded(20), shaded(20, noise=3)]))) == 1
    assert len(alike(*squares([shaded(20), shaded(20, noise=9)]))) == 0


def test_light_that_is_cut_off_at_white_is_the_same_picture():
    assert len(alike(*squares([shaded(60, 170), ImageEnhance.Brightness(shaded(60, 170)).enhance(1.35)]))) == 1


def with_spot(colour, size):
    image = picture(300, 256, 256).copy()
    ImageDraw.Draw(image).rectangle((100, 100, 100 + size, 100 + size), fill=colour)
    return image


def test_an_object_more_makes_another_picture():
    assert len(alike(*squares([with_spot("black", 32), picture(300, 256, 256)]))) == 0
    assert len(alike(*squares([with_spot("black", 2), picture(300, 256, 256)]))) == 1


def test_another_colour_makes_another_picture():
    image = picture(300, 256, 256)
    red = np.asarray(image).astype(np.float32) + np.array([83, -42, 0])  # of the same luminance
    assert len(alike(*squares([image, Image.fromarray(np.clip(red, 0, 255).astype(np.uint8))]))) == 0


def test_another_contrast_makes_another_picture():
    image = ImageEnhance.Contrast(picture(301, 256, 256)).enhance(0.8)
    assert len(alike(*squares([image, ImageEnhance.Contrast(image).enhance(0.8)]))) == 1
    assert len(alike(*squares([image, ImageEnhance.Contrast(image).enhance(0.4)]))) == 0


def test_small_images_are_alike_sooner():
    rng = np.random.default_rng(1)
    one = ImageEnhance.Contrast(picture(302, 32, 32)).enhance(4)
    other = np.asarray(one).astype(int) + np.kron(rng.choice([-9, 9], (8, 8, 1)), np.ones((4, 4, 1), int))
    thumbnails, chosen, small = squares([one, Image.fromarray(np.clip(other, 0, 255).astype(np.uint8))])
    assert len(alike(thumbnails, chosen, small)) == 1
    assert len(alike(thumbnails, chosen, ~small)) == 0


def test_pictures_below_16_pixels_are_compared_by_their_bytes_alone(tmp_path):
    tiny = np.random.default_rng(0).integers(0, 256, (2, 15, 15), np.uint8)
    tiny[1] = np.clip(tiny[0].astype(int) + 1, 0, 255)
    for pixels, kinds in ((tiny, []), (np.pad(tiny, ((0, 0), (0, 1), (0, 1))), ["near_duplicate"])):
        data = Dataset("x", ArrayImages(pixels, ["0", "1"]), ("a",), np.zeros(2, np.int64))
        assert [problem.kind for problem in check(data).problems] == kinds


def test_all_hashes_that_differ_in_six_bits_are_candidates_once():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2**63, 400, np.uint64)
    for bits in range(9):
        places = rng.choice(64, bits, replace=False).astype(np.uint64)
        flip = np.bitwise_or.reduce(np.left_shift(np.uint64(1), places)) if bits else np.uint64(0)
        codes[390 + bits] = codes[bits] ^ flip
    pairs = np.concatenate(list(candidates(codes)))
    assert len({frozenset(pair) for pair in pairs.tolist()}) == len(pairs)
    ours = {frozenset((bits, 390 + bits)) for bits in range(7)}
    assert ours <= {frozenset(pair) for pair in pairs.tolist()}
    assert (np.bitwise_count(codes[pairs[:, 0]] ^ codes[pairs[:, 1]]) <= 8).all()


def test_a_crowd_of_like_hashes_ends(monkeypatch):
    monkeypatch.setattr(likeness, "CROWD", 3)
    pairs = np.concatenate(list(candidates(np.zeros(50, np.uint64))))
    assert len(pairs) == 49 + 48 + 47


def test_hashes_stay_when_the_light_changes():
    image = np.asarray(picture(303, 64, 64)).astype(np.float32)
    darker = Image.fromarray((image * 0.8 + 9).astype(np.uint8))
    one, other = hashes(np.stack([thumbnail(image.astype(np.uint8)), thumbnail(np.asarray(darker))]))
    assert np.bitwise_count(one ^ other) <= 1
    assert np.bitwise_count(one ^ hashes(squares([picture(304)])[0])[0]) > 12


# Classes and splits


def test_classes_that_splits_do_not_share(tmp_path):
    put(tmp_path, {**SPLIT, "val/c/1.jpg": jpeg(5)})
    (tmp_path / "train/d").mkdir()
    problems = check(tmp_path, size=8).problems
    assert [(problem.kind, problem.paths, problem.detail) for problem in problems] == [
        ("class_mismatch", (), "train has no image of the classes 'c', 'd'"),
        ("class_mismatch", (), "val has no image of the class 'd'"),
        ("class_mismatch", (), "test has no image of the classes 'c', 'd'"),
    ]


def test_a_class_without_images(tmp_path):
    (put(tmp_path, EACH) / "c").mkdir()
    health = check(tmp_path, size=8)
    assert [(problem.kind, problem.detail) for problem in health.problems] == [
        ("class_mismatch", "no image in the folder of the class 'c'")
    ]
    assert health.classes == {"a": 3, "b": 3, "c": 0}


def counts_of(train, test=None):
    """A dataset in memory of so many images a class."""
    numbers = [*train, *(test or ())]
    labels = np.repeat(np.tile(np.arange(len(train)), 1 + bool(test)), numbers)
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 8, 8), np.uint8)
    names = tuple("abc"[: len(train)])
    divided = {"train": np.arange(sum(train)), "test": np.arange(sum(train), len(labels))} if test else {}
    return Dataset("x", ArrayImages(pixels, [str(n) for n in range(len(labels))]), names, labels, divided)


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [
        ((2, 20), None, "20 images of b and 2 of a"),
        ((2, 19), None, None),
        ((30, 3, 9), (3, 3, 3), "30 images of a and 3 of b, in train"),
        ((5, 5), (1, 40), None),
    ],
)
def test_ten_times_the_images_are_unequal(train, test, said):
    problems = check(counts_of(train, test)).problems
    assert [(problem.kind, problem.detail) for problem in problems] == ([("imbalance", said)] if said else [])


def test_counts_by_class_and_split():
    health = check(counts_of((2, 3), (4, 1)))
    assert (health.splits, health.classes) == ({"train": 5, "test": 5}, {"a": 6, "b": 4})
    assert health.table == {"a": {"train": 2, "test": 4}, "b": {"train": 3, "test": 1}}


def test_a_manifest_is_checked_by_its_own_splits(tmp_path):
    put(tmp_path, {"1.jpg": jpeg(9), "2.jpg": AGAIN, "3.jpg": jpeg(3), "4.jpg": jpeg(4)})
    text = io.StringIO()
    csv.writer(text).writerows([("path", "label", "split"), ("2.jpg", "a", "test"), ("1.jpg", "a", "train"),
                                ("3.jpg", "b", "test"), ("4.jpg", "b", "train")])  # fmt: skip
    table = put(tmp_path, {"t.csv": text.getvalue().encode()}) / "t.csv"
    assert found(table) == {"leak": [("2.jpg", "1.jpg")]}
    assert check(table, size=8).leave_out == ("1.jpg",)


def test_a_file_that_a_manifest_lists_twice_is_not_left_out(tmp_path):
    put(tmp_path, {"1.jpg": jpeg(1), "2.jpg": jpeg(2), "3.jpg": jpeg(1)})
    table = put(tmp_path, {"t.csv": b"path,label\n1.jpg,a\n1.jpg,a\n2.jpg,b\n3.jpg,a\n"}) / "t.csv"
    assert found(table) == {"duplicate": [("1.jpg", "1.jpg", "3.jpg")]}
    assert check(table, size=8).leave_out == ("3.jpg",)
