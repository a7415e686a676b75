"""Stochastic depth: which branches stay, and that it is a function of (seed, epoch, sample)."""

import numpy as np
import pytest
import torch
from halves import small, whole

import resnets
from resnets.networks import Block
from resnets.training.paths import Paths

__all__ = ["small"]
SAMPLES = np.arange(4000)


def branches(paths, epoch=0, samples=SAMPLES):
    """What each block's residual is multiplied by: float32 [blocks, samples]."""
    paths.choose(epoch, samples)
    return np.stack([block.branch.view(-1).numpy() for block in paths.blocks])


@pytest.fixture
def net():
    return resnets.network("resnet20", channels=1, classes=10, seed=0)


def test_each_block_keeps_its_share_and_its_mean(net):
    found = branches(Paths(net, 0.4, seed=3))
    assert found.shape == (9, 4000)
    assert (found[0] == 1).all()  # the first is never left out
    for number, row in enumerate(found):
        keep = 1 - 0.4 * number / 8
        assert set(np.unique(row)) <= {0.0, np.float32(1 / keep)}
        assert (row > 0).mean() == pytest.approx(keep, abs=0.03)
        assert row.mean() == pytest.approx(1, abs=0.04)


def test_the_branches_are_a_function_of_seed_epoch_and_sample(net):
    paths = Paths(net, 0.5, seed=3)
    every = branches(paths, 2)
    torch.manual_seed(0)
    some = np.array([700, 3, 12])
    np.testing.assert_array_equal(branches(paths, 2, some), every[:, some])
    np.testing.assert_array_equal(branches(Paths(net, 0.5, seed=3), 2), every)
    assert not np.array_equal(branches(paths, 3), every)
    assert not np.array_equal(branches(Paths(net, 0.5, seed=4), 2), every)
    kept = every[1:] > 0
    assert abs(np.corrcoef(kept)[np.triu_indices(8, 1)]).max() < 0.1  # blocks are left out each by itself


@pytest.mark.parametrize("name", ["resnet20", "preact-resnet20"])
def test_in_bf16_blocks_stay_in_bf16(name):
    block = [module for module in resnets.network(name, seed=0).modules() if isinstance(module, Block)][1].bfloat16()
    block.branch = torch.tensor([1.0, 0.0, 2.0]).view(-1, 1, 1, 1)
    assert block(torch.ones(3, block.conv1.in_channels, 8, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["resnet20", "resnet18", "preact-resnet20"])
def test_a_branch_that_is_left_out_leaves_the_shortcut(name):
    block = [module for module in resnets.network(name, seed=0).eval().modules() if isinstance(module, Block)][1]
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(3, block.conv1.in_channels, 8, 8)).astype(np.float32)).relu()
    with torch.no_grad():
        every = block(x)
        block.branch = torch.tensor([1.0, 0.0, 2.0]).view(-1, 1, 1, 1)
        some = block(x)
    torch.testing.assert_close(some[0], every[0])
    torch.testing.assert_close(some[1], x[1])
    assert not torch.allclose(some[2], every[2])


def test_all_paths_are_open_where_nothing_is_chosen(net):
    paths = Paths(net, 0.5, seed=0)
    branches(paths)
    paths.all()
    assert all(block.branch is None for block in paths.blocks)
    none = Paths(net, 0.0, seed=0)
    none.choose(0, SAMPLES)
    assert none.blocks == []


def test_a_plain_network_is_refused(tmp_path):
    with pytest.raises(ValueError, match="drop_path needs shortcuts, and a plain network has none; leave it at 0"):
        Paths(resnets.network("plain20", seed=0), 0.1, seed=0)
    Paths(resnets.network("plain20", seed=0), 0.0, seed=0)


def test_training_leaves_blocks_out_and_measuring_does_not(tmp_path, monkeypatch):
    seen = {True: set(), False: set()}
    real = Block.forward

    def forward(self, x):
        seen[self.training].add(self.branch is None)
        return real(self, x)

    monkeypatch.setattr("resnets.networks.Block.forward", forward)
    whole(tmp_path / "run", steps=3, epochs=None, drop_path=0.3)
    assert False in seen[True]
    assert seen[False] == {True}
