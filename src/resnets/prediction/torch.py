"""The PyTorch engine: the same network as modules, channels last; the rule on CUDA."""

from contextlib import nullcontext

import numpy as np
import torch

from resnets.data.preprocessing import Preprocessing
from resnets.model import Model


class TorchEngine:
    """A model as PyTorch modules: uint8 crops in, logits and features out."""

    name = "torch"

    def __init__(self, model: Model, how: Preprocessing, precision: str) -> None:
        self.precision = precision
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.how = how
        self.network = model.network().to(self.device).to(memory_format=torch.channels_last)
        self.mean, self.deviation = (
            torch.tensor(x, device=self.device).view(1, -1, 1, 1) for x in (how.mean, how.deviation)
        )

    @torch.inference_mode()
    def __call__(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [batch, size, size, channels] → float32 logits [batch, classes] and features [batch, features]."""
        x = torch.from_numpy(np.ascontiguousarray(crops)).to(self.device).permute(0, 3, 1, 2)
        x = (x.flip(1) if self.how.colour == "BGR" else x).float() * self.how.scale
        x = (x - self.mean) / self.deviation
        mixed = torch.autocast(self.device, torch.bfloat16) if self.precision == "bf16" else nullcontext()
        with mixed:
            features = self.network.features(x)
            logits = self.network.fc(features)
        return logits.float().cpu().numpy(), features.float().cpu().numpy()
