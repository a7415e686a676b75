import hashlib
import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from resnets.data.augmentation import DRAWS, Augmentation, lighting, numbers, random_box
from resnets.data.dataset import ArrayImages, FileImages, OverImages
from resnets.data.loader import AHEAD, Loader, Samples
from resnets.data.order import order, part_of, sequence, uniform
from resnets.data.preprocessing import Preprocessing, crop, resample

HOW = Preprocessing(size=16, crop=1.0)
GREY = Preprocessing(size=16, crop=1.0, colour="grey", mean=(0.4,), deviation=(0.3,))
CROPS = ("resized", "padded", "short-side", "none")
WHAT = {name: Augmentation(crop=name, short_side=(18, 24), flip=True, lighting=0.1) for name in CROPS}
MORE = {
    "policy": "randaugment",
    "spread": 1.0,
    "jitter": (0.4, 0.4, 0.4, 0.1),
    "erasing": 0.5,
    "flip": "alternate",
    "repeats": 2,
    "balance": "sample",
}


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
        assert np.array_equal(one.samples, other.samples)
        assert (one.lighting is None) == (other.lighting is None)
        assert one.lighting is None or np.array_equal(one.lighting, other.lighting)
    return True


class ReadOneByOne(OverImages):
    """Images that don't say that they are squares already."""

    def read(self, index, grey=False, least=0):
        return self.images.read(index, grey, least)


class AtOnceAlone(OverImages):
    """Images of which none is read by itself."""

    def squares(self, indices, side, channels):
        return self.images.squares(indices, side, channels)


@pytest.mark.parametrize("what", [None, WHAT["padded"], WHAT["none"], replace(WHAT["padded"], **MORE)])
def test_squares_that_lie_in_memory_are_taken_as_they_are(what):
    samples = in_memory(shape=(16, 16, 3))
    chosen = replace(samples, indices=np.arange(45)[::-1][:36].copy(), labels=np.arange(36))
    loaders = [Loader(replace(chosen, images=over(samples.images)), HOW, 8, augmentation=what, seed=3)
               for over in (AtOnceAlone, ReadOneByOne)]  # fmt: skip
    before = samples.images.pixels.copy()
    for epoch in (0, 1):
        assert same(*(list(loader.batches(epoch)) for loader in loaders))
    assert np.array_equal(samples.images.pixels, before)  # what augmentation writes to is a copy


@pytest.mark.parametrize("how", [GREY, replace(HOW, size=12), replace(HOW, crop=0.875)])
def test_squares_of_another_kind_are_read(how):
    samples = in_memory(shape=(16, 16, 3))
    loader = Loader(replace(samples, images=AtOnceAlone(samples.images)), how, 8)
    with pytest.raises(AttributeError, match="read"):
        list(loader.batches(0))


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


# Images that are as they always were: recorded when crop, flip and lighting were all there was

RECORDED = {
    ("resized", 3): "0885bdbb40bc5ded",
    ("resized", 1): "af7cdea739e79ea1",
    ("padded", 3): "9969c06c9d2926a7",
    ("padded", 1): "c4a40e143a2f7d77",
    ("short-side", 3): "b33aebc6c68b00ae",
    ("short-side", 1): "0596d205a5e8e4f6",
    ("none", 3): "26240c7d621f39e1",
    ("none", 1): "00393a766a15e6ae",
}


@pytest.mark.parametrize(("name", "channels"), RECORDED)
def test_images_and_their_order_are_those_recorded_before(name, channels):
    values = np.arange(21 * 20 * 24 * 3, dtype=np.uint64) * np.uint64(2654435761) >> np.uint64(13)
    pixels = values.astype(np.uint8).reshape(21, 20, 24, 3)
    samples = Samples(ArrayImages(pixels, [str(number) for number in range(21)]), np.arange(21), np.arange(21))
    loader = Loader(samples, HOW if channels == 3 else GREY, 4, augmentation=WHAT[name], seed=5)
    found = hashlib.sha256()
    for epoch in range(3):
        for batch in loader.batches(epoch):
            found.update(batch.images.tobytes() + batch.labels.tobytes())
    assert found.hexdigest()[:16] == RECORDED[name, channels]


# All of augmentation together


def few_classes(count=45, shape=(20, 24, 3)):
    """Random pixels in three classes of very different size."""
    samples = in_memory(count, shape)
    return Samples(samples.images, samples.indices, np.array([0] * (count - 9) + [1] * 7 + [2] * 2))


@pytest.mark.parametrize("how", [HOW, GREY])
@pytest.mark.parametrize("name", CROPS)
def test_with_everything_batches_are_independent_of_workers_and_of_where_they_start(name, how):
    what = replace(WHAT[name], **MORE)
    loaders = [Loader(few_classes(), how, 8, augmentation=what, seed=3, workers=workers) for workers in (1, 4)]
    whole, other = (list(loader.batches(2)) for loader in loaders)
    assert same(other, whole)
    assert same(list(Loader(few_classes(), how, 8, augmentation=what, seed=3).batches(2, 3)), whole[3:])
    assert same(list(loaders[0].batches(2)), whole)


@pytest.mark.parametrize("name", ["resized", "padded"])
def test_views_of_an_image_differ(name):
    what = replace(WHAT[name], repeats=4, flip=False)
    for batch in Loader(in_memory(), HOW, 8, augmentation=what).batches(0):
        assert np.array_equal(batch.samples, np.tile(batch.samples[:2], 4))
        for place in range(2):
            assert len({image.tobytes() for image in batch.images[place::2]}) > 1


@pytest.mark.parametrize("name", ["resized", "padded"])
def test_a_loader_goes_through_the_sequence(name):
    what, samples = replace(WHAT[name], repeats=2, balance="sample"), few_classes()
    expected = sequence(3, 1, samples.labels, 8, repeats=2, balanced=True).samples
    batches = list(Loader(samples, HOW, 8, augmentation=what, seed=3).batches(1))
    assert np.concatenate([batch.samples for batch in batches]).tolist() == expected.tolist()
    assert labels(batches) == samples.labels[expected].tolist()


def test_an_image_that_is_kept_is_decoded_once_though_a_batch_shows_it_often(monkeypatch):
    read = []
    monkeypatch.setattr(ArrayImages, "read", lambda images, index, *_: read.append(index) or images.pixels[index])
    loader = Loader(few_classes(), HOW, 9, augmentation=replace(WHAT["padded"], repeats=3, balance="sample"))
    for epoch in range(4):
        list(loader.batches(epoch))
    assert len(read) == len(set(read)) > 20


@pytest.mark.parametrize("field", ["policy", "jitter", "erasing"])
def test_each_kind_of_augmentation_changes_images(field):
    plain = Loader(in_memory(), HOW, 45, augmentation=WHAT["none"]).batches(0)
    more = Loader(in_memory(), HOW, 45, augmentation=replace(WHAT["none"], **{field: MORE[field]})).batches(0)
    (one,), (other,) = plain, more
    changed = (one.images != other.images).any((1, 2, 3)).mean()
    assert 0.2 < changed < 0.8 if field == "erasing" else changed > 0.6


def test_a_batch_that_repeats_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="a batch of 9 can't show each image 2 times"):
        Loader(in_memory(), HOW, 9, augmentation=Augmentation(repeats=2))


# Parts


@pytest.mark.parametrize("world", [2, 3, 7])
@pytest.mark.parametrize("name", [*CROPS, "more", None])
def test_parts_put_together_are_the_batch(name, world):
    what = replace(WHAT["padded"], **MORE) if name == "more" else WHAT[name] if name else None
    whole = list(Loader(few_classes(), HOW, 12, augmentation=what, seed=3).batches(1))
    loaders = [Loader(few_classes(), HOW, 12, augmentation=what, seed=3, part=(rank, world)) for rank in range(world)]
    assert {loader.steps for loader in loaders} == {len(whole)}
    for batch, *parts in zip(whole, *(loader.batches(1) for loader in loaders), strict=True):
        lengths = [len(batch.labels[part_of(len(batch.labels), rank, world)]) for rank in range(world)]
        assert [len(part.labels) for part in parts] == lengths
        assert np.array_equal(np.concatenate([part.images for part in parts]), batch.images)
        assert np.concatenate([part.samples for part in parts]).tolist() == batch.samples.tolist()
        assert np.concatenate([part.labels for part in parts]).tolist() == batch.labels.tolist()
        if batch.lighting is not None:
            assert np.array_equal(np.concatenate([part.lighting for part in parts]), batch.lighting)


def test_an_empty_part_of_the_last_batch_is_a_batch_too():
    parts = [list(Loader(in_memory(count=17), HOW, 8, part=(rank, 4)).batches(0)) for rank in range(4)]
    assert [[len(batch.labels) for batch in part] for part in parts] == [[2, 2, 0], [2, 2, 0], [2, 2, 0], [2, 2, 1]]
    assert parts[0][2].images.shape == (0, 16, 16, 3)
    assert sorted(label for part in parts for label in labels(part)) == list(range(17))


@pytest.mark.parametrize("part", [(2, 2), (-1, 2), (0, 0)])
def test_a_part_that_there_is_not_is_refused(part):
    with pytest.raises(ValueError, match="part is \\(rank, world\\)"):
        Loader(in_memory(), HOW, 8, part=part)


def test_samples_say_which_images_are_left(tmp_path):
    loader = Loader(files(tmp_path, broken=(3, 11)), HOW, 20, augmentation=WHAT["none"], seed=2)
    (batch,) = loader.batches(1)
    assert batch.samples.tolist() == [place for place in order(2, 1, 20) if place not in (3, 11)]
    assert batch.samples.dtype == np.int64
    assert np.array_equal(batch.samples, batch.labels)


# Sizes


@pytest.mark.parametrize("name", CROPS)
def test_an_epochs_images_have_its_size(name):
    sizes = {0: 12, 1: 16, 2: 24}
    loader = Loader(in_memory(), HOW, 15, augmentation=WHAT[name], seed=3, size_of=sizes.get)
    plain = Loader(in_memory(), HOW, 15, augmentation=WHAT[name], seed=3)
    for epoch, size in sizes.items():
        batches = list(loader.batches(epoch))
        assert {batch.images.shape for batch in batches} == {(15, size, size, 3)}
    assert same(list(loader.batches(1)), list(plain.batches(1)))


@pytest.mark.parametrize("name", ["resized", "short-side"])
def test_the_same_part_of_an_image_is_decoded_at_the_size(name):
    samples, what = in_memory(shape=(40, 30, 3)), replace(WHAT[name], flip=False)
    (batch,) = Loader(samples, HOW, 45, augmentation=what, seed=3, size_of=lambda epoch: 11).batches(1)
    draws = numbers(3, 1, batch.samples, np.zeros(45, int), what)
    small = replace(HOW, size=11)
    for image, place, row in zip(batch.images, batch.samples, draws, strict=True):
        box = random_box(40, 30, row, what, HOW)
        assert np.array_equal(image, resample(samples.images.pixels[place], box, small))


@pytest.mark.parametrize("name", ["padded", "none"])
def test_kept_squares_are_cropped_and_flipped_and_then_resized(name):
    samples = in_memory(shape=(16, 16, 3))
    (plain,) = Loader(samples, HOW, 45, augmentation=WHAT[name], seed=3).batches(1)
    (batch,) = Loader(samples, HOW, 45, augmentation=WHAT[name], seed=3, size_of=lambda epoch: 10).batches(1)
    for image, whole in zip(batch.images, plain.images, strict=True):
        assert np.array_equal(image, np.asarray(Image.fromarray(whole).resize((10, 10), Image.Resampling.BILINEAR)))


def test_a_jpeg_is_decoded_no_larger_than_the_size_needs(monkeypatch):
    asked = []
    monkeypatch.setattr(ArrayImages, "read", lambda images, index, _, least: asked.append(least) or images.pixels[index])
    loader = Loader(in_memory(), HOW, 15, augmentation=WHAT["resized"], size_of=lambda epoch: 9 + epoch)
    for epoch in range(2):
        list(loader.batches(epoch))
    assert asked == [9] * 45 + [10] * 45


def test_sizes_are_for_training():
    with pytest.raises(ValueError, match="size_of is for training"):
        Loader(in_memory(), HOW, 8, size_of=lambda epoch: 12)


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
