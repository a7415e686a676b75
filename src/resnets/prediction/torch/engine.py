"""The PyTorch engine: the same network as modules, norms folded, channels last; the rule on CUDA."""

import threading
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from resnets import machine
from resnets.data.preprocessing import Preprocessing
from resnets.graph import walk
from resnets.model import Model
from resnets.networks import ResNet

LANES = 1  # one call at a time, which has every core or the device


class TorchEngine:
    """A model as PyTorch modules: uint8 crops in, logits and features out."""

    name = "torch"
    lanes = LANES

    def __init__(self, model: Model, how: Preprocessing, precision: str) -> None:
        self.precision = precision
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        machine.keep_freed_memory()
        self.how = how
        self.network = folded(model.network()).to(self.device).to(memory_format=torch.channels_last)
        self.mean, self.deviation = (
            torch.tensor(x, device=self.device).view(1, -1, 1, 1) for x in (how.mean, how.deviation)
        )
        self.turn = threading.Lock()

    @torch.inference_mode()
    def __call__(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [batch, size, size, channels] → float32 logits [batch, classes] and features [batch, features]."""
        crops = torch.from_numpy(np.require(batch, requirements=["C", "W"]))
        mixed = torch.autocast(self.device, torch.bfloat16) if self.precision == "bf16" else nullcontext()
        with self.turn, mixed:
            x = crops.to(self.device).permute(0, 3, 1, 2)
            x = (x.flip(1) if self.how.colour == "BGR" else x).float() * self.how.scale
            x = (x - self.mean) / self.deviation
            features = self.network.features(x)
            logits = self.network.fc(features)
            return logits.float().cpu().numpy(), features.float().cpu().numpy()


class ExportedTorchEngine:
    """A program of `torch.export`, read from its `.pt2` file."""

    name = "torch"
    lanes = LANES

    def __init__(self, file: Path, precision: str) -> None:
        self.precision = precision
        machine.keep_freed_memory()
        self.program = torch.export.load(file).module()
        self.turn = threading.Lock()

    @torch.inference_mode()
    def __call__(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the program reads → float32 logits [batch, classes] and features [batch, features]."""
        with self.turn:
            _, logits, features = self.program(torch.from_numpy(np.require(batch, requirements=["C", "W"])))
        return logits.float().numpy(), features.float().numpy()


class FoldablePairs:
    """The interpreter that finds each norm that reads a convolution; a map is the name of the convolution it comes from."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str]] = []

    def conv(self, x: str, name: str, width: int, kernel: int, stride: int = 1, groups: int = 1) -> str:
        return name

    def norm(self, x: str, name: str) -> str:
        if x:
            self.pairs.append((x, name))
        return ""

    def relu(self, x: str) -> str:
        return ""

    def add(self, x: str, y: str) -> str:
        return ""

    def pad_shortcut(self, x: str, width: int, stride: int) -> str:
        return ""

    def max_pool(self, x: str) -> str:
        return ""

    def avg_pool(self, x: str) -> str:
        return ""

    def global_pool(self, x: str) -> str:
        return ""

    def linear(self, x: str, name: str, width: int) -> str:
        return ""


def folded(net: ResNet) -> ResNet:
    """The network in evaluation mode with each norm folded into the convolution before it, where there is one."""
    pairs = FoldablePairs()
    walk(net.architecture, pairs, "")
    for conv, norm in pairs.pairs:
        fused = fuse_conv_bn_eval(net.get_submodule(conv), net.get_submodule(norm))  # pyright: ignore[reportArgumentType]
        net.set_submodule(conv, fused)
        net.set_submodule(norm, nn.Identity())
    return net
