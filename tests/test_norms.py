"""Batch normalisation while training: over all processes, of the batch alone, and computed anew."""

import copy

import numpy as np
import pytest
import torch
from torch import distributed, nn

import resnets
from resnets.networks import DebiasedBatchNorm2d
from resnets.training.processes import norms


@pytest.fixture
def alone(tmp_path):
    """A group of one process."""
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def images(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(1.5, 3.0, shape))


def pair(kind, momentum=0.1):
    """A norm in float64 with weights of its own, and its synchronised twin."""
    norm = kind(5, 1e-5, momentum).double()
    with torch.no_grad():
        norm.weight.copy_(images(5, seed=1))
        norm.bias.copy_(images(5, seed=2))
    holder = nn.Sequential(copy.deepcopy(norm))
    norms.synchronised(holder)
    return norm, holder[0]


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, DebiasedBatchNorm2d])
def test_norms_over_all_processes_equal_pytorchs_own(alone, kind):
    norm, synced = pair(kind)
    assert type(synced) is (norms.SyncedBatchNorm2d if kind is nn.BatchNorm2d else norms.SyncedDebiasedBatchNorm2d)
    assert synced.state_dict().keys() == norm.state_dict().keys()
    for step in range(3):
        found = []
        for layer in (norm, synced):
            x = images(4 + step, 5, 3, 2, seed=step).requires_grad_()
            y = layer(x)
            (y * images(*y.shape, seed=9)).sum().backward()
            found.append((y.detach(), x.grad, layer.weight.grad, layer.bias.grad, *layer.buffers()))
        for own, other in zip(*found, strict=True):
            torch.testing.assert_close(other, own, rtol=1e-10, atol=1e-10)
    x = images(2, 5, 4, 4)
    torch.testing.assert_close(synced.eval()(x), norm.eval()(x))


def test_in_bf16_numbers_are_rounded_once_as_by_pytorchs_own(alone):
    x, dy = (images(16, 5, 6, 6, seed=seed).bfloat16() for seed in (3, 4))
    found = []
    for layer in (layer.float() for layer in pair(nn.BatchNorm2d)):
        given = x.clone().requires_grad_()
        y = layer(given)
        y.backward(dy)
        assert y.dtype == given.grad.dtype == torch.bfloat16
        found.append((y.detach(), given.grad))
    for own, other in zip(*found, strict=True):
        assert (own != other).float().mean() < 0.01  # where the order of sums decides which way it is rounded
        torch.testing.assert_close(other, own, rtol=2**-7, atol=1e-3)


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, DebiasedBatchNorm2d])
def test_an_empty_batch_moves_nothing_and_has_gradients(alone, kind):
    _, synced = pair(kind)
    synced(images(4, 5, 3, 3))
    before = {name: value.clone() for name, value in synced.named_buffers()}
    x = images(0, 5, 3, 3).requires_grad_()
    y = synced(x)
    assert y.shape == x.shape
    y.sum().backward()
    assert torch.equal(synced.weight.grad, torch.zeros(5, dtype=torch.float64))
    for name, value in synced.named_buffers():
        assert torch.equal(value, before[name]), name


def test_a_network_keeps_its_names_and_values(alone):
    net = resnets.network("resnet20", classes=3, channels=1, seed=0)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    parameters = list(map(id, net.parameters()))
    x = images(6, 1, 8, 8).float()
    plain = copy.deepcopy(net).train()(x)
    norms.synchronised(net)
    assert list(map(id, net.parameters())) == parameters  # what the optimizer holds
    assert list(net.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert sum(isinstance(module, norms.SyncedBatchNorm2d) for module in net.modules()) == len(list(norms.norms(net))) == 19
    torch.testing.assert_close(net.train()(x), plain, rtol=1e-4, atol=1e-4)


def test_statistics_of_a_batch_leave_averages_and_modes():
    net = resnets.network("resnet20", classes=3, channels=1, seed=0).eval()
    net.layer2.train()
    modes = [module.training for module in net.modules()]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x = images(6, 1, 8, 8).float()
    with torch.no_grad():
        plain = copy.deepcopy(net)(x)
    with torch.no_grad(), norms.batch_statistics(net):
        assert all(norm.training for norm in norms.norms(net))
        batch = net(x)
    assert not torch.allclose(batch, plain)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    "kind", [nn.BatchNorm2d, DebiasedBatchNorm2d, norms.SyncedBatchNorm2d, norms.SyncedDebiasedBatchNorm2d]
)
def test_recomputed_statistics_are_the_means_over_the_batches(alone, kind):
    layer = kind(5, 1e-5, 0.3).double()
    layer.running_mean += 7
    batches = [images(count, 5, 3, 3, seed=count) for count in (2, 5, 9)]
    debiased = kind in (DebiasedBatchNorm2d, norms.SyncedDebiasedBatchNorm2d)
    norms.recompute(layer, batches)
    mean = torch.stack([x.mean((0, 2, 3)) for x in batches]).mean(0)
    variance = torch.stack([x.var((0, 2, 3), correction=0 if debiased else 1) for x in batches]).mean(0)
    torch.testing.assert_close(layer.running_mean, mean)
    torch.testing.assert_close(layer.running_var, variance)
    assert layer.num_batches_tracked == 3
    assert layer.momentum == 0.3
