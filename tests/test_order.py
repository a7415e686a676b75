import numpy as np
import pytest

from resnets.data.order import noise, order, part_of, sequence, uniform

DRAWS = 48
MANY = 20_000


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


def test_views_draw_other_numbers_and_the_first_view_those_without_views():
    samples = np.arange(500)
    plain = uniform(3, 1, samples, 6)
    assert np.array_equal(uniform(3, 1, samples, 6, np.zeros(500, int)), plain)
    views = [uniform(3, 1, samples, 6, np.full(500, view)) for view in range(4)]
    assert len(np.unique(np.concatenate(views))) == 4 * 500 * 6
    mixed = uniform(3, 1, samples, 6, samples % 4)
    assert np.array_equal(mixed, np.stack(views)[samples % 4, samples])


@pytest.mark.parametrize("counts", [[8, 3, 0, 17], [5], []])
def test_noise_is_each_keys_own(counts):
    counts = np.array(counts, int)
    keys = uniform(0, 0, np.arange(len(counts)), 1)[:, 0]
    found = noise(keys, counts)
    assert [len(values) for values in found] == counts.tolist()
    for key, count, values in zip(keys, counts, found, strict=True):
        assert values.dtype == np.uint8
        assert np.array_equal(noise(np.array([key]), np.array([count]))[0], values)
        assert np.array_equal(noise(np.array([key]), np.array([count + 9]))[0][:count], values)


def test_keys_close_to_each_other_make_other_noise():
    found = noise(0.5 + np.arange(200) * 2.0**-53, np.full(200, 16))
    assert len({values.tobytes() for values in found}) == 200
    assert len({values.tobytes() for values in noise(uniform(0, 0, np.arange(2000), 1)[:, 0], np.full(2000, 8))}) == 2000


def test_noise_is_uniform_bytes():
    (found,) = noise(np.array([0.25]), np.array([256_000]))
    counts = np.bincount(found, minlength=256)
    assert counts.min() > 860 and counts.max() < 1140
    lanes = found.reshape(-1, 8).astype(float)
    assert np.abs(np.corrcoef(lanes.T) - np.eye(8)).max() < 0.03


# The sequence of an epoch

LABELS = np.random.default_rng(0).choice(5, 203, p=[0.5, 0.3, 0.1, 0.07, 0.03])


def test_without_more_an_epoch_is_its_order_in_whole_batches():
    found = sequence(4, 2, LABELS, 16)
    assert np.array_equal(found.samples, order(4, 2, 203)[:192])
    assert not found.views.any()


@pytest.mark.parametrize(("batch", "repeats"), [(16, 2), (12, 3), (8, 8), (24, 4)])
@pytest.mark.parametrize("balanced", [False, True])
def test_a_batch_shows_each_of_its_images_so_often_each_time_as_another_view(batch, repeats, balanced):
    found = sequence(4, 2, LABELS, batch, repeats=repeats, balanced=balanced)
    assert len(found.samples) == 203 // batch * batch
    shown = set(zip(found.samples.tolist(), found.views.tolist(), strict=True))
    assert len(shown) == len(found.samples)
    for samples in found.samples.reshape(-1, batch):
        places = samples.reshape(repeats, -1)
        assert (places == places[0]).all()
    if not balanced:
        first = found.samples.reshape(-1, repeats, batch // repeats)[:, 0].reshape(-1)
        assert np.array_equal(first, order(4, 2, 203)[: len(first)])
        assert set(found.views) == set(range(repeats))


def test_neighbours_are_different_images():
    pairs = sequence(0, 0, LABELS, 16, repeats=4).samples.reshape(-1, 2)
    assert (pairs[:, 0] != pairs[:, 1]).all()


def test_a_batch_that_repeats_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="a batch of 10 can't show each image 4 times"):
        sequence(0, 0, LABELS, 10, repeats=4)


@pytest.mark.parametrize("repeats", [1, 2])
def test_balanced_classes_come_equally_often_in_every_epoch_and_batch(repeats):
    for epoch in range(4):
        found = LABELS[sequence(1, epoch, LABELS, 20, repeats=repeats, balanced=True).samples]
        assert len(found) == 200
        assert (np.bincount(found) == 40).all()
        for labels in found.reshape(-1, 20):
            assert np.ptp(np.bincount(labels, minlength=5)) <= 2 * repeats
    assert np.ptp(np.bincount(LABELS)) > 80


def test_a_class_shows_all_of_its_images_before_any_again_across_epochs():
    shown = np.concatenate([sequence(1, epoch, LABELS, 16, balanced=True).samples for epoch in range(7)])
    for label in range(5):
        members = np.flatnonzero(label == LABELS)
        own = shown[LABELS[shown] == label]
        assert abs(len(own) - len(shown) / 5) <= 1
        whole = len(own) // len(members) * len(members)
        for through in own[:whole].reshape(-1, len(members)):
            assert np.array_equal(np.sort(through), members)
        assert len(set(own[whole:].tolist())) == len(own) - whole
    members, small = np.count_nonzero(LABELS == 4), shown[LABELS[shown] == 4]
    times = small[: len(small) // members * members].reshape(-1, members)
    assert len(times) > 5 and len({tuple(row) for row in times.tolist()}) == len(times)  # each time in another order


def test_a_balanced_epoch_is_a_function_of_seed_and_epoch():
    one, again = (sequence(1, 3, LABELS, 16, balanced=True) for _ in range(2))
    assert np.array_equal(one.samples, again.samples) and np.array_equal(one.views, again.views)
    assert not np.array_equal(one.samples, sequence(2, 3, LABELS, 16, balanced=True).samples)
    assert not np.array_equal(one.samples, sequence(1, 4, LABELS, 16, balanced=True).samples)


def test_classes_without_images_and_too_few_images_for_a_batch():
    labels = np.array([7, 7, 2, 7])
    found = sequence(0, 0, labels, 4, balanced=True)
    assert np.bincount(labels[found.samples], minlength=8)[[2, 7]].tolist() == [2, 2]
    assert sorted(found.views[labels[found.samples] == 2]) == [0, 1]
    for balanced in (False, True):
        assert len(sequence(0, 0, labels, 8, repeats=2, balanced=balanced).samples) == 0


# Parts


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 31, 128])
@pytest.mark.parametrize("world", [1, 2, 3, 5, 8])
def test_parts_make_up_the_batch_begin_at_even_places_and_are_as_equal_as_that_allows(count, world):
    parts = [part_of(count, rank, world) for rank in range(world)]
    assert [place for part in parts for place in range(part.start, part.stop)] == list(range(count))
    assert all(part.start % 2 == 0 or part.start == count for part in parts)
    lengths = [part.stop - part.start for part in parts]
    assert max(lengths) - min(lengths) <= 2
