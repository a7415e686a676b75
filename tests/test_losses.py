import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.loss import BinaryCrossEntropy

from resnets.training.losses import Targets, class_weights, distilled, loss
from resnets.training.recipe import Recipe

CLASSES = 7


def of_kind(kind="cross-entropy", **changes):
    return Recipe(epochs=1, loss=kind, **changes)


def drawn(count=12, mixes=True):
    """Logits, and labels that are mixed with others, some of the same class."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, CLASSES, generator=generator) * 3
    labels, others = (torch.randint(0, CLASSES, (count,), generator=generator) for _ in range(2))
    others[0] = labels[0]
    share = torch.rand(count, generator=generator) * 0.9 + 0.05
    return logits, Targets(labels, others, share) if mixes else Targets(labels)


def soft(targets):
    """The labels of `targets` as float32 [batch, classes]."""
    dense = F.one_hot(targets.labels, CLASSES).float()
    if targets.others is None:
        return dense
    share = targets.share[:, None]
    return share * dense + (1 - share) * F.one_hot(targets.others, CLASSES).float()


# Cross-entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("mixes", [False, True])
def test_cross_entropy_is_that_of_the_soft_labels(smoothing, mixes):
    logits, targets = drawn(mixes=mixes)
    found = loss(logits, targets, of_kind(label_smoothing=smoothing))
    wanted = F.cross_entropy(logits, soft(targets), reduction="none", label_smoothing=smoothing)
    assert found.shape == (12,)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_the_gradient_is_that_of_the_soft_labels():
    logits, targets = drawn()
    mine, dense = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss(mine, targets, of_kind(label_smoothing=0.1)).sum().backward()
    F.cross_entropy(dense, soft(targets), reduction="sum", label_smoothing=0.1).backward()
    torch.testing.assert_close(mine.grad, dense.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["cross-entropy", "binary"])
def test_a_share_of_all_or_nothing_is_one_label(kind):
    logits, (labels, others, _) = drawn()
    chosen = of_kind(kind, label_smoothing=0.1)
    for share, which in ((torch.ones(12), labels), (torch.zeros(12), others)):
        torch.testing.assert_close(
            loss(logits, Targets(labels, others, share), chosen), loss(logits, Targets(which), chosen), rtol=1e-6, atol=0
        )


@pytest.mark.parametrize("kind", ["cross-entropy", "binary"])
def test_the_loss_is_float32_whatever_the_logits(kind):
    logits, targets = drawn()
    found = loss(logits.bfloat16(), targets, of_kind(kind))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, loss(logits.bfloat16().float(), targets, of_kind(kind)))


# Binary


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_binary_is_timms_summed_over_classes(smoothing):
    logits, targets = drawn(mixes=False)
    found = loss(logits, targets, of_kind("binary", label_smoothing=smoothing))
    timms = BinaryCrossEntropy(smoothing=smoothing, sum_classes=True)
    assert found.shape == (12,)
    torch.testing.assert_close(found.mean(), timms(logits, targets.labels))
    torch.testing.assert_close(found.mean() / CLASSES, BinaryCrossEntropy(smoothing=smoothing)(logits, targets.labels))


def test_binary_takes_both_mixed_classes_for_true_as_timms_threshold_does():
    logits, targets = drawn()
    found = loss(logits, targets, of_kind("binary"))
    timms = BinaryCrossEntropy(smoothing=0, target_threshold=0.0, sum_classes=True)
    torch.testing.assert_close(found.mean(), timms(logits, soft(targets)))


def test_binary_smooths_the_classes_of_a_mixture_alike():
    logits, (labels, others, share) = drawn()
    off = 0.2 / CLASSES
    dense = torch.full((12, CLASSES), off)
    for place in range(12):
        dense[place, [labels[place], others[place]]] = 0.8 + off
    found = loss(logits, Targets(labels, others, share), of_kind("binary", label_smoothing=0.2))
    torch.testing.assert_close(found, F.binary_cross_entropy_with_logits(logits, dense, reduction="none").sum(1))


def test_binarys_gradient_in_a_logit_is_the_sigmoid_less_the_target():
    logits, targets = drawn(mixes=False)
    logits.requires_grad_()
    loss(logits, targets, of_kind("binary")).sum().backward()
    torch.testing.assert_close(logits.grad, logits.detach().sigmoid() - soft(targets), rtol=1e-5, atol=1e-6)


# Weights of classes


def test_class_weights_are_1_on_average_and_make_classes_count_alike():
    labels = np.repeat([0, 1, 3], [80, 15, 5])
    weights = class_weights(labels, 4)
    assert weights.dtype == torch.float32 and weights.shape == (4,)
    assert weights[torch.from_numpy(labels)].mean() == pytest.approx(1, rel=1e-6)
    assert weights[[0, 1, 3]] * torch.tensor([80, 15, 5]) == pytest.approx(torch.full((3,), 100 / 3), rel=1e-6)
    assert weights[2] == 0


def test_class_weights_of_balanced_classes_are_1():
    assert class_weights(np.arange(30) % 3, 3).tolist() == [1, 1, 1]


@pytest.mark.parametrize("kind", ["cross-entropy", "binary"])
def test_a_class_weight_multiplies_the_loss_of_its_images(kind):
    logits, targets = drawn(mixes=False)
    chosen, weights = of_kind(kind, label_smoothing=0.1), torch.linspace(0.5, 2, CLASSES)
    found = loss(logits, targets, chosen, weights)
    torch.testing.assert_close(found, loss(logits, targets, chosen) * weights[targets.labels])


def test_class_weights_of_a_mixture_weigh_each_of_its_labels():
    logits, targets = drawn()
    weights = torch.linspace(0.5, 2, CLASSES)
    found = loss(logits, targets, of_kind(), weights)
    torch.testing.assert_close(found, -(soft(targets) * weights * logits.log_softmax(1)).sum(1))
    found = loss(logits, targets, of_kind("binary"), weights)
    torch.testing.assert_close(found, loss(logits, targets, of_kind("binary")) * (soft(targets) * weights).sum(1))


# A teacher


@pytest.mark.parametrize("at", [0.5, 1.0, 4.0])
def test_distilled_is_the_divergence_at_a_temperature_times_its_square(at):
    student, teacher = drawn()[0], drawn()[0].flip(0)
    found = distilled(student, teacher, of_kind(teacher_temperature=at))
    p, q = (teacher.double() / at).softmax(1), (student.double() / at).softmax(1)
    assert found.dtype == torch.float32 and found.shape == (12,)
    torch.testing.assert_close(found.double(), (p * (p / q).log()).sum(1) * at**2, rtol=1e-5, atol=1e-6)


def test_at_1_distilled_has_the_gradient_of_soft_labels_and_the_teacher_none():
    logits = drawn()[0]
    student, teacher = logits.clone().requires_grad_(), logits.flip(0).requires_grad_()
    distilled(student, teacher, of_kind()).sum().backward()
    torch.testing.assert_close(student.grad, logits.softmax(1) - teacher.detach().softmax(1), rtol=1e-5, atol=1e-6)
    assert teacher.grad is None


def test_a_student_that_is_the_teacher_has_nothing_to_learn():
    logits = drawn()[0]
    assert distilled(logits, logits, of_kind(teacher_temperature=3.0)).abs().max() < 1e-5


def test_a_teacher_of_other_classes_is_refused():
    with pytest.raises(ValueError, match=r"7 classes.*4"):
        distilled(torch.zeros(2, 4), torch.zeros(2, 7), of_kind())
