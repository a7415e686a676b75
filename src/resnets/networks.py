"""The networks as PyTorch modules: shortcut, basic block, bottleneck, ResNet.

A block is relu(shortcut(x) + residual(x)) (equation 1 of the paper); basic block and bottleneck differ in `residual`
alone, and so do their pre-activated forms. This is the second statement of `graph.walk`, in the form that a reader of
PyTorch expects; a test holds the two equal for every named network. State-dict keys are torchvision's.
"""

import contextlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnets.architecture import Architecture, Unit, named
from resnets.graph import edges, pad_channels, residual_convolutions


def same_edges(x: Tensor, kernel: int, stride: int) -> tuple[int, ...]:
    """TensorFlow's SAME padding of x [batch, channels, height, width] as `F.pad` takes it: left, right, top, bottom."""
    height, width = x.shape[-2:]
    return *edges("same", width, kernel, stride), *edges("same", height, kernel, stride)


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding: the odd pixel goes after, not before."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(F.pad(input, same_edges(input, self.kernel_size[0], self.stride[0])))


class SameMaxPool2d(nn.MaxPool2d):
    """3×3 max pool with stride 2 and TensorFlow's SAME padding, of −∞."""

    def forward(self, input: Tensor) -> Tensor:
        return F.max_pool2d(F.pad(input, same_edges(input, 3, 2), value=float("-inf")), 3, 2)


class DebiasedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation with TensorFlow 1's zero-debiased moving averages, of the biased batch variance.

    After update t each average m becomes m + (v − m)·(1 − d)/(1 − dᵗ) with decay d = 1 − momentum, so that the first
    update replaces the initial mean 0 and variance 1 by the batch's own. With momentum None it is the plain mean of all v.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            variance, mean = torch.var_mean(input.to(self.running_mean.dtype), (0, 2, 3), correction=0)
            number = self.num_batches_tracked.double()
            rate = 1 / number if self.momentum is None else self.momentum / (1 - (1 - self.momentum) ** number)
            self.running_mean.lerp_(mean, rate.to(mean.dtype))
            self.running_var.lerp_(variance, rate.to(mean.dtype))
        return F.batch_norm(input, None, None, self.weight, self.bias, True, 0.0, self.eps)


class PadShortcut(nn.Module):
    """Option A: every `stride`-th pixel, then zero channels, half before and half after. No parameters."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.channels = pad_channels(width_in, width_out)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, in, height, width] → [batch, out, ⌈height/stride⌉, ⌈width/stride⌉]."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.channels))


class Block(nn.Module):
    """One residual block: relu(shortcut(x) + residual(x)); without a shortcut, as in a plain network, relu(residual(x))."""

    conv1: nn.Module
    conv2: nn.Module
    conv3: nn.Module
    bn1: nn.Module
    bn2: nn.Module
    bn3: nn.Module

    def __init__(self, convolutions: list[nn.Conv2d], norms: list[nn.Module], shortcut: nn.Module | None) -> None:
        super().__init__()
        for index, (convolution, norm) in enumerate(zip(convolutions, norms, strict=True), 1):
            self.add_module(f"conv{index}", convolution)
            self.add_module(f"bn{index}", norm)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut
        self.branch: Tensor | None = None  # [batch, 1, 1, 1], what the residual is multiplied by (stochastic depth)

    def residual(self, x: Tensor) -> Tensor:
        """F(x)."""
        raise AssertionError("each kind of block says what its residual is")

    def forward(self, x: Tensor) -> Tensor:
        y = self.residual(x)
        y = y if self.branch is None else y * self.branch.to(y.dtype)
        return self.relu(y if self.downsample is None else self.downsample(x) + y)


class BasicBlock(Block):
    """3×3, 3×3 (figure 5 of the paper, left)."""

    def residual(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(x))


class Bottleneck(Block):
    """1×1 reduce, 3×3, 1×1 expand (figure 5 of the paper, right)."""

    def residual(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))


class PreactBasicBlock(Block):
    """Pre-activation (He et al. 2016): norm and ReLU before each convolution, nothing after the addition.

    The shortcut reads the map before the activation; where `splits_after` is set (a projection's, and the first block's
    of the network), the map after it.
    """

    splits_after = False

    def residual(self, x: Tensor) -> Tensor:
        """F of the activated map."""
        return self.conv2(self.relu(self.bn2(self.conv1(x))))

    def forward(self, x: Tensor) -> Tensor:
        activated = self.relu(self.bn1(x))
        y = self.residual(activated)
        y = y if self.branch is None else y * self.branch.to(y.dtype)
        return y if self.downsample is None else self.downsample(activated if self.splits_after else x) + y


class PreactBottleneck(PreactBasicBlock):
    """The bottleneck, pre-activated."""

    def residual(self, x: Tensor) -> Tensor:
        return self.conv3(self.relu(self.bn3(self.conv2(self.relu(self.bn2(self.conv1(x)))))))


BLOCKS = {
    ("basic", False): BasicBlock,
    ("bottleneck", False): Bottleneck,
    ("basic", True): PreactBasicBlock,
    ("bottleneck", True): PreactBottleneck,
}


class ResNet(nn.Module):
    """A residual network: images [batch, channels, height, width] in, logits [batch, classes] out.

    Raises ValueError for images of other channels or smaller than `architecture.smallest_input`.
    """

    def __init__(self, architecture: Architecture, zero_gamma: bool = False) -> None:
        """Initialised as the architecture says, from PyTorch's generator; `zero_gamma` starts the last norm of every
        block at 0, so that each block starts as the identity (Goyal et al. 2017, section 5.1)."""
        super().__init__()
        net = self.architecture = architecture
        if net.stem == "deep":
            self.conv1 = self._deep_stem()
        else:
            self.conv1 = self._conv(net.channels, net.width, *((3, 1) if net.stem == "cifar" else (7, 2)))
        self.bn1 = nn.Identity() if net.preactivation else self._norm(net.width)
        self.relu = nn.Identity() if net.preactivation else nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if net.stem == "cifar" else self._max_pool()
        self.stages = [f"layer{stage + 1}" for stage in range(len(net.blocks))]
        for stage in self.stages:
            blocks = [self._block(unit) for unit in net.units() if unit.name.startswith(f"{stage}.")]
            self.add_module(stage, nn.Sequential(*blocks))
        self.norm = self._norm(net.features) if net.preactivation else nn.Identity()
        self.fc = nn.Linear(net.features, net.classes)
        initialise(self, net, zero_gamma)

    def maps(self, x: Tensor) -> dict[str, Tensor]:
        """The maps after the stem and after each stage: {"stem": [batch, 64, 56, 56], "layer1": …} (Table 1)."""
        if not torch.compiler.is_compiling():
            self.architecture.check_input(*x.shape[1:])
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        found = {"stem": x}
        for stage in self.stages:
            found[stage] = x = self.get_submodule(stage)(x)
        return found

    def features(self, x: Tensor) -> Tensor:
        """The pooled vector before the fully connected layer: [batch, architecture.features]."""
        x = self.norm(self.maps(x)[self.stages[-1]])  # every other network ends in a ReLU already
        return (F.relu(x) if self.architecture.preactivation else x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x))

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """PyTorch's own; files from before 2018, which lack every `num_batches_tracked`, load too."""
        own = self.state_dict()
        counters = {name: own[name] for name in own if name.endswith(".num_batches_tracked")}
        if not counters.keys() & state_dict.keys():
            state_dict = {**state_dict, **counters}
        return super().load_state_dict(state_dict, strict, assign)

    def _conv(self, width_in: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
        if self.architecture.padding == "same" and stride > 1:
            return SameConv2d(width_in, width, kernel, stride, groups=groups, bias=False)
        return nn.Conv2d(width_in, width, kernel, stride, kernel // 2, groups=groups, bias=False)

    def _norm(self, width: int) -> nn.Module:
        kind = DebiasedBatchNorm2d if self.architecture.norm_debias else nn.BatchNorm2d
        return kind(width, self.architecture.norm_epsilon, self.architecture.norm_momentum)

    def _max_pool(self) -> nn.Module:
        return SameMaxPool2d(3, 2) if self.architecture.padding == "same" else nn.MaxPool2d(3, 2, 1)

    def _deep_stem(self) -> nn.Sequential:
        """ResNet-D's three 3×3 convolutions in place of the 7×7 (He et al. 2019, figure 2b)."""
        net, half = self.architecture, self.architecture.width // 2
        first, second, third = (
            self._conv(net.channels, half, 3, 2),
            self._conv(half, half, 3),
            self._conv(half, net.width, 3),
        )
        return nn.Sequential(
            *(first, self._norm(half), nn.ReLU(inplace=True)), *(second, self._norm(half), nn.ReLU(inplace=True)), third
        )

    def _block(self, unit: Unit) -> Block:
        net = self.architecture
        convolutions, norms, width_in = [], [], unit.width_in
        for width, kernel, stride, groups in residual_convolutions(net, unit):
            convolutions.append(self._conv(width_in, width, kernel, stride, groups))
            norms.append(self._norm(width_in if net.preactivation else width))
            width_in = width
        block = BLOCKS[net.block, net.preactivation](convolutions, norms, self._shortcut(unit))
        if isinstance(block, PreactBasicBlock):
            block.splits_after = net.splits_after_activation(unit)
        return block

    def _shortcut(self, unit: Unit) -> nn.Module | None:
        """Options A, B and C of section 3.3, for every kind of block; None in a plain network."""
        net = self.architecture
        if net.shortcut == "none":
            return None
        if net.projects(unit):
            if net.pool_shortcut:  # ResNet-D: average pool, then an unstrided projection
                pool = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False) if unit.stride > 1 else nn.Identity()
                return nn.Sequential(pool, self._conv(unit.width_in, unit.width_out, 1), self._norm(unit.width_out))
            projection = self._conv(unit.width_in, unit.width_out, 1, unit.stride)
            return nn.Sequential(projection, *([] if net.preactivation else [self._norm(unit.width_out)]))
        if unit.stride > 1 or unit.width_in != unit.width_out:
            return PadShortcut(unit.width_in, unit.width_out, unit.stride)
        return nn.Identity()


def initialise(network: nn.Module, net: Architecture, zero_gamma: bool = False) -> None:
    """Fresh weights: He's normal for convolutions (He et al. 2015, of the fan out) with PyTorch's own for the fully
    connected layer, or Glorot's uniform for both (the TF reference); norms 1 and 0, biases 0."""
    if zero_gamma and net.preactivation:
        raise ValueError(
            "zero_gamma needs a norm at the end of each block, and a pre-activation block ends in a convolution"
        )
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and net.initialisation == "he":
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Conv2d | nn.Linear) and net.initialisation == "xavier":
            nn.init.xavier_uniform_(module.weight)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if zero_gamma and isinstance(module, Block):
            last = module.get_submodule("bn3" if isinstance(module, Bottleneck) else "bn2")
            nn.init.zeros_(last.get_parameter("weight"))


def network(name: str | Architecture, *, seed: int | None = None, zero_gamma: bool = False, **changes: Any) -> ResNet:
    """A fresh network by name, with fields of its `Architecture` changed: `network("resnet50", classes=10, shortcut="A")`.

    With `seed` the weights are a function of it, and PyTorch's generator is left as it was. Raises ValueError for an
    unknown name (with the nearest), field or value.
    """
    wanted = named(name, **changes) if isinstance(name, str) else name
    with torch.random.fork_rng(devices=[]) if seed is not None else contextlib.nullcontext():
        if seed is not None:
            torch.manual_seed(seed)
        return ResNet(wanted, zero_gamma)
