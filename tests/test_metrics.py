import numpy as np
import pytest

from resnets import metrics


def scores(images=400, classes=10, seed=0, spread=3):
    """Logits float32 [images, classes] that often put the label first, and labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=images)
    logits = random.normal(size=(images, classes)) * spread
    logits[np.arange(images), labels] += spread
    return logits.astype(np.float32), labels


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_is_scikit_learns(k):
    from sklearn.metrics import top_k_accuracy_score

    logits, labels = scores()
    expected = top_k_accuracy_score(labels, logits, k=k, labels=np.arange(10))
    assert 0 < expected < 1
    assert metrics.top_k(logits, labels, k) == pytest.approx(expected, abs=1e-12)


def test_averaged_logits_have_the_mean_of_the_probabilities():
    one, other = scores(seed=1)[0], 40 * scores(seed=2)[0]
    found = metrics.averaged(one, other)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    expected = (metrics.softmax(one) + metrics.softmax(other)) / 2
    np.testing.assert_allclose(metrics.softmax(found), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("classes", [1, 2, 4, 5])
def test_every_label_is_among_the_first_five_of_at_most_five(classes):
    logits, labels = scores(classes=classes)
    assert metrics.top_k(logits, labels, 5) == 1
    assert metrics.summarise(logits, labels)["top5"] == 1


def test_a_network_that_says_the_same_of_every_class_is_not_right():
    labels = np.arange(10)
    assert metrics.top_k(np.zeros((10, 10), np.float32), labels, 1) < 0.5


def test_with_ties_top_1_is_the_share_of_right_predictions():
    logits, labels = scores(images=1000, classes=3)
    logits = np.rint(logits / 3)
    assert metrics.top_k(logits, labels, 1) == (logits.argmax(1) == labels).mean()


def test_logits_that_are_no_numbers_are_never_right():
    assert metrics.top_k(np.full((4, 3), np.nan, np.float32), np.array([0, 1, 2, 0]), 1) == 0


@pytest.mark.parametrize("spread", [1, 3, 100])
def test_cross_entropy_and_softmax_are_torchs(spread):
    import torch

    logits, labels = scores(spread=spread)
    tensor = torch.from_numpy(logits)
    expected = torch.nn.functional.cross_entropy(tensor.double(), torch.from_numpy(labels)).item()
    assert metrics.cross_entropy(logits, labels) == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(metrics.softmax(logits), tensor.softmax(1).numpy(), rtol=1e-5, atol=1e-7)


def test_huge_logits_overflow_nothing():
    logits = np.array([[1e38, 0, -1e38]], np.float32)
    assert metrics.softmax(logits).tolist() == [[1, 0, 0]]
    assert metrics.cross_entropy(logits / 1e30, np.array([1])) == pytest.approx(1e8)


@pytest.mark.parametrize(("classes", "spread"), [(2, 1), (10, 3), (10, 0.3), (100, 3)])
def test_calibration_is_torchmetrics(classes, spread):
    import torch
    from torchmetrics.classification import MulticlassCalibrationError

    logits, labels = scores(1000, classes, spread=spread)
    probabilities = metrics.softmax(logits)
    judge = MulticlassCalibrationError(classes, n_bins=15, norm="l1")
    expected = judge(torch.from_numpy(probabilities), torch.from_numpy(labels)).item()
    error, bins = metrics.calibration(probabilities, labels)
    assert error == pytest.approx(expected, abs=1e-6)
    assert error > 0.01
    assert sum(count for _, _, count in bins) == 1000
    assert all(0 <= accuracy <= 1 for _, accuracy, _ in bins)


def test_certainty_that_is_right_is_calibrated_and_certainty_that_is_wrong_is_not():
    certain = np.eye(3, dtype=np.float32)
    assert metrics.calibration(certain, np.array([0, 1, 2])) == (0, [(1, 1, 3)])
    assert metrics.calibration(certain, np.array([1, 2, 0])) == (1, [(1, 0, 3)])


@pytest.mark.parametrize(("right", "count"), [(0, 10), (10, 10), (1, 2), (7, 10), (9700, 10_000), (0, 1)])
def test_the_interval_is_wilsons(right, count):
    from scipy.stats import binomtest

    expected = binomtest(right, count).proportion_ci(method="wilson")
    assert metrics.interval(right / count, count) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_confusion_is_scikit_learns_also_where_a_class_never_occurs():
    from sklearn.metrics import confusion_matrix

    random = np.random.default_rng(0)
    predicted, labels = random.integers(4, size=(2, 100))
    table = metrics.confusion(predicted, labels, 6)
    np.testing.assert_array_equal(table, confusion_matrix(labels, predicted, labels=np.arange(6)))
    assert table.shape == (6, 6)


def test_the_summary_is_its_parts():
    logits, labels = scores()
    assert metrics.summarise(logits, labels) == {
        "top1": metrics.top_k(logits, labels, 1),
        "top5": metrics.top_k(logits, labels, 5),
        "loss": metrics.cross_entropy(logits, labels),
        "ece": metrics.calibration(metrics.softmax(logits), labels)[0],
    }
