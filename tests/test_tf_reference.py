"""The TF reference, computed again in NumPy from its description alone, in evaluation and over three training steps."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from resnets.architecture import named
from resnets.networks import network

EPSILON, DECAY = 1e-3, 0.999
SMALL = {
    "basic": named("resnet18-tf", width=8, classes=5),
    "bottleneck": replace(named("resnet50-tf"), blocks=(1, 1, 1, 1), width=8, classes=5),
    "two bottlenecks": replace(named("resnet50-tf"), blocks=(2, 1, 2, 1), width=4, classes=3, channels=1),
}


def windows(x, kernel, stride, fill):
    """TensorFlow's SAME: [batch, height, width, channels] → [batch, rows, columns, channels, kernel, kernel]."""
    edges = []
    for size in x.shape[1:3]:
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        edges.append((total // 2, total - total // 2))
    padded = np.pad(x, [(0, 0), *edges, (0, 0)], constant_values=fill)
    return np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (1, 2))[:, ::stride, ::stride]


class Reference:
    """The network on NHWC arrays in float64. Keeps the moving averages as TensorFlow 1 does: a biased average that
    starts at 0, divided by 1 − decayᵗ."""

    def __init__(self, state, blocks, bottleneck):
        self.state = {name: value.numpy().astype(np.float64) for name, value in state.items()}
        self.blocks, self.bottleneck = blocks, bottleneck
        self.biased = {name: 0.0 for name in self.state if "running" in name}
        self.step = 0

    def conv(self, x, name, stride=1):
        kernel = self.state[f"{name}.weight"].transpose(2, 3, 1, 0)  # height, width, in, out
        return np.einsum("nhwcij,ijco->nhwo", windows(x, kernel.shape[0], stride, 0.0), kernel, optimize=True)

    def norm(self, x, name):
        mean, variance = self.state[f"{name}.running_mean"], self.state[f"{name}.running_var"]
        if self.training:
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))  # 1/n
            self.average(f"{name}.running_mean", mean)
            self.average(f"{name}.running_var", variance)
        return (x - mean) / np.sqrt(variance + EPSILON) * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def average(self, name, value):
        self.biased[name] = DECAY * self.biased[name] + (1 - DECAY) * value
        self.state[name] = self.biased[name] / (1 - DECAY**self.step)

    def block(self, x, name, stride):
        y = x
        count = 3 if self.bottleneck else 2
        for index in range(1, count + 1):
            y = self.norm(self.conv(y, f"{name}.conv{index}", stride if index == 1 else 1), f"{name}.bn{index}")
            y = np.maximum(y, 0) if index < count else y
        if f"{name}.downsample.0.weight" in self.state:
            x = self.norm(self.conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
        return np.maximum(x + y, 0)

    def __call__(self, x, training):
        self.training = training
        self.step += training
        x = np.maximum(self.norm(self.conv(x, "conv1", 2), "bn1"), 0)
        x = windows(x, 3, 2, -np.inf).max((-2, -1))
        for stage, count in enumerate(self.blocks, 1):
            for index in range(count):
                x = self.block(x, f"layer{stage}.{index}", 2 if stage > 1 and index == 0 else 1)
        return x.mean((1, 2)) @ self.state["fc.weight"].T + self.state["fc.bias"]


def both(kind):
    """Our network with norms and a bias that matter, and the reference with its weights."""
    net = network(SMALL[kind], seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in net.named_parameters():
            if value.ndim == 1:  # gamma, beta and the bias of fc
                value.uniform_(0.5, 1.5, generator=generator) if value.min() == 1 else value.normal_(generator=generator)
            assert value.std() > 0, name
    return net, Reference(net.state_dict(), net.architecture.blocks, kind != "basic")


def batch(net, size, seed):
    x = np.random.default_rng(seed).normal(size=(4, *size, net.architecture.channels))
    return x, torch.from_numpy(x.transpose(0, 3, 1, 2).astype(np.float32))


def assert_close(found, expected, what):
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max(), what


@pytest.mark.parametrize("size", [(33, 33), (64, 64), (47, 34)])
@pytest.mark.parametrize("kind", SMALL)
@torch.no_grad()
def test_logits_and_moving_averages(kind, size):
    net, reference = both(kind)
    nhwc, nchw = batch(net, size, seed=0)
    assert_close(net.eval()(nchw).numpy(), reference(nhwc, training=False), "before training")
    for step in (1, 2, 3):
        nhwc, nchw = batch(net, size, seed=step)
        assert_close(net.train()(nchw).numpy(), reference(nhwc, training=True), f"logits in training, step {step}")
        for name, value in net.state_dict().items():
            if "running" in name:
                assert_close(value.numpy(), reference.state[name], f"{name}, step {step}")
            if "tracked" in name:
                assert value == step, name
        assert_close(net.eval()(nchw).numpy(), reference(nhwc, training=False), f"logits in evaluation, step {step}")


@torch.no_grad()
def test_the_first_step_replaces_the_initial_averages():
    net, _ = both("basic")
    _, x = batch(net, (64, 64), seed=0)
    before = net.conv1(x)
    net.train()(x)
    torch.testing.assert_close(net.bn1.running_mean, before.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net.bn1.running_var, before.var((0, 2, 3), correction=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("size", "expected"), [(224, (2, 3)), (225, (3, 3)), (33, (3, 3)), (64, (2, 3))])
@torch.no_grad()
def test_the_first_convolution_pads_as_tensorflow_does(size, expected):
    conv = network("resnet18-tf", width=8, channels=1).conv1
    before, after = expected
    x = torch.randn(1, 1, size, size, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(x, (before, after, before, after))
    torch.testing.assert_close(conv(x), torch.nn.functional.conv2d(padded, conv.weight, stride=2))


@pytest.mark.parametrize("size", [(17, 17), (16, 16), (9, 12)])
def test_the_max_pool_pads_with_minus_infinity(size):
    x = -1 - np.random.default_rng(0).random((2, *size, 3), np.float32)
    pooled = network("resnet18-tf", width=8).maxpool(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    np.testing.assert_array_equal(pooled.numpy().transpose(0, 2, 3, 1), windows(x, 3, 2, -np.inf).max((-2, -1)))
