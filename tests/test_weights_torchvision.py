import numpy as np
import pytest
import torch
import torchvision
from random_norms import assert_close, randomised, state_of
from safetensors.torch import save_file
from seeded import images

from resnets.architecture import NAMED, Architecture, named
from resnets.conversion.witnesses import torchvision as witness
from resnets.model import Model
from resnets.networks import network
from resnets.weights.ecosystems.torchvision import ECOSYSTEM
from resnets.weights.shapes import architecture_of

NAMES = {  # torchvision's → ours
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50": "resnet50-v1.5",
    "resnet101": "resnet101-v1.5",
    "resnet152": "resnet152-v1.5",
    "wide_resnet50_2": "wide-resnet50-2",
    "wide_resnet101_2": "wide-resnet101-2",
    "resnext50_32x4d": "resnext50-32x4d",
    "resnext101_32x8d": "resnext101-32x8d",
}
QUICK = ("resnet18", "resnet50", "wide_resnet50_2", "resnext50_32x4d")
EACH = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in NAMES]
TENSORS = images(2, 3, 64)


def theirs(name, classes=7):
    """A network of torchvision's with weights of its own and norms that matter, in evaluation."""
    torch.manual_seed(0)
    net = getattr(torchvision.models, name)(weights=None, num_classes=classes)
    net.architecture = named(NAMES[name], classes=classes)
    return randomised(net)


def as_model(state):
    """The model of a state dictionary of torchvision's."""
    taken = ECOSYSTEM.to_ours(state)
    (net,) = ECOSYSTEM.candidates(architecture_of({name: array.shape for name, array in taken.state.items()}))
    return Model(net, tuple(map(str, range(net.classes))), None, taken.state)


@torch.inference_mode()
def logits(net, tensors=TENSORS):
    return net.eval()(torch.from_numpy(tensors)).numpy()


@pytest.mark.parametrize("name", EACH)
def test_a_network_of_torchvisions_is_ours_with_the_same_logits(name):
    net = theirs(name)
    model = as_model(state_of(net))
    assert model.architecture == named(NAMES[name], classes=7)
    assert_close(logits(model.network()), logits(net))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_training_step_leaves_both_the_same(name):
    net = theirs(name)
    before = {key: array.copy() for key, array in state_of(net).items()}
    ours = as_model(before).network()
    batch, labels = torch.from_numpy(images(8, 3, 64, seed=1)), torch.arange(8) % 7
    for each in (net, ours):
        optimizer = torch.optim.SGD(each.train().parameters(), 0.01, momentum=0.9)
        torch.nn.functional.cross_entropy(each(batch), labels).backward()
        optimizer.step()
    found, expected = ours.state_dict(), net.state_dict()
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert_close(found[key].numpy(), tensor.numpy())
    averages = [key for key in before if key.endswith("running_mean")]
    assert not any(np.allclose(expected[key], before[key]) for key in averages)
    assert_close(logits(ours), logits(net))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", ["resnet18", "resnext50-32x4d"])
def test_ours_in_a_file_is_torchvisions_with_the_same_logits(tmp_path, name, suffix):
    ours = randomised(network(name, classes=7, seed=0))
    path = tmp_path / f"weights{suffix}"
    state = {key: torch.from_numpy(array) for key, array in ECOSYSTEM.from_ours(state_of(ours), ours.architecture).items()}
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    assert_close(witness.logits(path, ours.architecture, TENSORS), logits(ours))
    assert witness.tensors(path, []) is None


def test_the_witness_reads_wrappers_prefixes_and_other_channels(tmp_path):
    ours = randomised(network("resnet18", classes=7, channels=1, seed=0))
    torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in ours.state_dict().items()}}, tmp_path / "old.pth")
    tensors = images(2, 1, 64)
    assert_close(witness.logits(tmp_path / "old.pth", ours.architecture, tensors), logits(ours, tensors))


def test_the_witness_wants_every_weight(tmp_path):
    state = network("resnet18", classes=7, seed=0).state_dict()
    del state["layer3.1.bn2.weight"]
    torch.save(state, tmp_path / "less.pth")
    with pytest.raises(RuntimeError, match=r"layer3\.1\.bn2\.weight"):
        witness.logits(tmp_path / "less.pth", named("resnet18", classes=7), TENSORS)


WHY_NOT = {
    "resnet50": "stride in the 3×3",
    "resnet18-tf": "pads symmetrically",
    "resnet50-tf": "pads symmetrically",
    "preact-resnet50": "pre-activation",
    "plain34": "option B",
    "resnet20": "7×7",
    "resnet50d": "7×7",
}


@pytest.mark.parametrize("name", WHY_NOT)
def test_what_it_cannot_be_is_said(name):
    assert WHY_NOT[name] in (ECOSYSTEM.why_not(NAMED[name]) or "")


@pytest.mark.parametrize("name", NAMES.values())
def test_what_it_can_be_has_no_reason_against(name):
    assert ECOSYSTEM.why_not(NAMED[name]) is None


def test_other_widths_depths_and_channels_are_not_its():
    assert ECOSYSTEM.why_not(Architecture("basic", (2, 2, 2))) is not None
    assert ECOSYSTEM.why_not(Architecture("basic", (2, 2, 2, 2), width=32)) is not None
    assert ECOSYSTEM.why_not(named("resnet18", channels=1)) is not None
    assert ECOSYSTEM.why_not(Architecture("basic", (1, 1, 1, 1), classes=3)) is None
