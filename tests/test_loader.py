import threading

import numpy as np
import pytest
from PIL import Image

from resnets.data.augmentation import DRAWS, Augmentation, lighting, order, uniform
from resnets.data.dataset import ArrayImages, FileImages
from resnets.data.loader import AHEAD, Loader, Samples
from resnets.data.preprocessing import Preprocessing, crop

HOW = Preprocessing(size=16, crop=1.0)
GREY = Preprocessing(size=16, crop=1.0, colour="grey", mean=(0.4,), deviation=(0.3,))
CROPS = ("resized", "padded", "short-side", "none")
WHAT = {name: Augmentation(crop=name, short_side=(18, 24), flip=True, lighting=0.1) for name in CROPS}


def in_memory(count=45, shape=(20, 24, 3)):
    """Samples of random pixels, of which each label is its place."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)
    return Samples(ArrayImages(pixels, [f"{number:03}" for number in range(count)]), np.arange(count), np.arange(count))


def files(folder, count=20, broken=()):
    """Samples of PNG files, some of which are text."""
    generator = np.random.default_rng(0)
    names = [f"{number}.png" for number in range(count)]
    for number, name in enumerate(names):
        Image.fromarray(generator.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / name)
        if number in broken:
            (folder / name).write_text("no image")
    return Samples(FileImages(folder, names), np.arange(count), np.arange(count))


def same(found, expected):
    """Whether two lists of batches are equal to the bit."""
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one.images, other.images)
        assert np.array_equal(one.labels, other.labels)
        assert (one.lighting is None) == (other.lighting is None)
        assert one.lighting is None or np.array_equal(one.lighting, other.lighting)
    return True


def labels(batches):
    return [label for batch in batches for label in batch.labels.tolist()]


# Training batches


@pytest.mark.parametrize("name", CROPS)
def test_batches_are_independent_of_the_workers(name):
    one, two, four = (
        list(Loader(in_memory(), HOW, 8, augmentation=WHAT[name], seed=3, workers=workers).batches(1))
        for workers in (1, 2, 4)
    )
    assert same(two, one) and same(four, one)


@pytest.mark.parametrize("name", CROPS)
@pytest.mark.parametrize("start", [1, 3, 4])
def test_a_start_in_the_middle_gives_the_tail(name, start):
    whole = list(Loader(in_memory(), HOW, 8, augmentation=WHAT[name], seed=3).batches(2))
    assert same(list(Loader(in_memory(), HOW, 8, augmentation=WHAT[name], seed=3).batches(2, start)), whole[start:])


@pytest.mark.parametrize("name", CROPS)
def test_an_epoch_is_the_same_from_a_used_loader_and_a_fresh_one(name):
    used = Loader(in_memory(), HOW, 8, augmentation=WHAT[name], seed=3)
    first = list(used.batches(0))
    assert same(list(used.batches(1)), list(Loader(in_memory(), HOW, 8, augmentation=WHAT[name], seed=3).batches(1)))
    assert same(list(used.batches(0)), first)


@pytest.mark.parametrize("name", ["padded", "none"])
def test_what_is_kept_in_memory_is_what_is_decoded_again(name, monkeypatch):
    kept = Loader(in_memory(), HOW, 8, augmentation=WHAT[name])
    monkeypatch.setattr("resnets.data.loader.CACHE_BYTES", 0)
    decoding = Loader(in_memory(), HOW, 8, augmentation=WHAT[name])
    for epoch in range(3):
        assert same(list(kept.batches(epoch)), list(decoding.batches(epoch)))


@pytest.mark.parametrize("name", CROPS)
def test_an_image_is_decoded_once_where_every_epoch_shows_the_same_square(name, monkeypatch):
    read = []
    monkeypatch.setattr(ArrayImages, "read", lambda images, index, *_: read.append(index) or images.pixels[index])
    loader = Loader(in_memory(), HOW, 9, augmentation=WHAT[name])
    for epoch in range(3):
        list(loader.batches(epoch))
    once = name in ("padded", "none")
    assert sorted(read) == sorted(list(range(45)) * (1 if once else 3))


@pytest.mark.parametrize("name", CROPS)
def test_epochs_differ(name):
    loader = Loader(in_memory(), HOW, 45, augmentation=WHAT[name])
    (first,), (second,) = loader.batches(0), loader.batches(1)
    assert first.labels.tolist() != second.labels.tolist()
    assert sorted(first.labels) == sorted(second.labels)
    again = second.images[np.argsort(second.labels)]
    assert not np.array_equal(first.images[np.argsort(first.labels)], again)


def test_an_epoch_is_in_the_order_of_its_seed():
    batches = list(Loader(in_memory(), HOW, 8, augmentation=WHAT["none"], seed=3).batches(2))
    assert labels(batches) == order(3, 2, 45)[:40].tolist()


def test_training_leaves_out_the_incomplete_batch():
    loader = Loader(in_memory(), HOW, 8, augmentation=WHAT["none"])
    assert loader.steps == 5
    assert [len(batch.images) for batch in loader.batches(0)] == [8] * 5


def test_light_is_given_where_it_is_wanted():
    (batch,) = Loader(in_memory(), HOW, 45, augmentation=Augmentation(lighting=0.1), seed=3).batches(2)
    draws = uniform(3, 2, batch.labels, DRAWS)
    assert batch.lighting is not None and np.array_equal(batch.lighting, lighting(draws, 0.1))
    (batch,) = Loader(in_memory(), HOW, 45, augmentation=Augmentation()).batches(0)
    assert batch.lighting is None


@pytest.mark.parametrize("flip", [True, False])
def test_images_are_mirrored_where_they_may_be(flip):
    samples = in_memory(shape=(16, 16, 3))
    (batch,) = Loader(samples, HOW, 45, augmentation=Augmentation(flip=flip)).batches(0)
    pixels = samples.images.pixels[batch.labels]
    turned = (batch.images == pixels[:, :, ::-1]).all((1, 2, 3))
    assert (turned ^ (batch.images == pixels).all((1, 2, 3))).all()
    assert turned.any() == flip and not turned.all()


# Evaluation


def test_evaluation_is_in_order_with_a_short_last_batch():
    samples = in_memory()
    loader = Loader(samples, HOW, 8)
    batches = list(loader.batches(0))
    assert loader.steps == 6
    assert [len(batch.labels) for batch in batches] == [8] * 5 + [5]
    assert labels(batches) == list(range(45))
    expected = np.stack([crop(image, HOW) for image in samples.images.pixels])
    assert np.array_equal(np.concatenate([batch.images for batch in batches]), expected)
    assert same(list(loader.batches(0)), batches)


def test_some_images_of_a_dataset_with_labels_of_their_own():
    pixels = in_memory(shape=(16, 16, 3)).images.pixels
    chosen = Samples(in_memory(shape=(16, 16, 3)).images, np.array([40, 3, 7]), np.array([2, 0, 1]))
    (batch,) = Loader(chosen, HOW, 8).batches(0)
    assert batch.labels.tolist() == [2, 0, 1]
    assert np.array_equal(batch.images, pixels[[40, 3, 7]])


def test_no_images_no_batches():
    none = Samples(in_memory().images, np.array([], int), np.array([], int))
    assert list(Loader(none, HOW, 8).batches(0)) == []


@pytest.mark.parametrize("name", [*CROPS, None])
@pytest.mark.parametrize("shape", [(20, 24), (20, 24, 3)])
def test_a_grey_network_gets_one_channel(name, shape):
    (batch,) = Loader(in_memory(shape=shape), GREY, 45, augmentation=WHAT[name] if name else None).batches(0)
    assert batch.images.shape == (45, 16, 16, 1)
    assert batch.images.std() > 10


# What goes wrong


@pytest.mark.parametrize("name", [*CROPS, None])
def test_an_unreadable_file_is_skipped_and_named_in_every_epoch(name, tmp_path):
    samples = files(tmp_path, broken=(3, 11))
    loader = Loader(samples, HOW, 5, augmentation=WHAT[name] if name else None)
    for epoch in range(3):
        batches = list(loader.batches(epoch))
        assert len(batches) == 4
        assert sorted(labels(batches)) == [place for place in range(20) if place not in (3, 11)]
        assert all(len(batch.images) == len(batch.labels) for batch in batches)
    assert sorted(loader.failures) == ["11.png", "3.png"]
    assert "not an image" in loader.failures["3.png"]


@pytest.mark.parametrize("name", ["resized", "none"])
def test_an_unreadable_file_changes_no_other_image(name, tmp_path):
    (whole,) = Loader(files(tmp_path), HOW, 20, augmentation=WHAT[name]).batches(1)
    (fewer,) = Loader(files(tmp_path, broken=(3,)), HOW, 20, augmentation=WHAT[name]).batches(1)
    rest = whole.labels != 3
    assert np.array_equal(whole.images[rest], fewer.images)
    assert np.array_equal(whole.lighting[rest], fewer.lighting)


def test_a_batch_of_unreadable_files_alone_is_empty(tmp_path):
    batches = list(Loader(files(tmp_path, count=6, broken=(2, 3)), HOW, 2).batches(0))
    assert [batch.images.shape for batch in batches] == [(2, 16, 16, 3), (0, 16, 16, 3), (2, 16, 16, 3)]


class Broken(ArrayImages):
    def read(self, index, grey=False, least=0):
        if index == 30:
            raise RuntimeError("the disk is gone")
        return super().read(index, grey, least)


@pytest.mark.parametrize("name", ["resized", "none", None])
def test_an_exception_in_the_source_is_raised_where_batches_are_taken(name):
    whole = in_memory()
    samples = Samples(Broken(whole.images.pixels, whole.images.keys), whole.indices, whole.labels)
    before = set(threading.enumerate())
    taken = []
    with pytest.raises(RuntimeError, match="the disk is gone"):
        taken += Loader(samples, HOW, 5, augmentation=WHAT[name] if name else None).batches(0)
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("taken", [1, 3])
def test_closing_early_ends_the_threads(taken):
    before = set(threading.enumerate())
    batches = Loader(in_memory(), HOW, 2, workers=2).batches(0)  # more batches than are prepared ahead
    for _ in range(taken):
        next(batches)
    assert len(set(threading.enumerate()) - before) > 0
    batches.close()
    assert set(threading.enumerate()) == before


def test_few_batches_are_prepared_ahead(monkeypatch):
    decoded = []
    monkeypatch.setattr(ArrayImages, "read", lambda images, index, *_: decoded.append(index) or images.pixels[index])
    batches = Loader(in_memory(count=400), HOW, 2, workers=2).batches(0)
    for taken in range(1, 60):
        next(batches)
        assert len(decoded) <= 2 * (taken + AHEAD + 2)
    batches.close()
