"""How others predict, for `predict.py` to measure beside ours: torchvision, timm and Keras. Each gives labels."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from resnets import machine

CHILD = Path(__file__).with_name("in_keras.py")


class Photos(Dataset):
    """Image files as the usual script reads them."""

    def __init__(self, paths: Sequence[Path], transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.paths = paths
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(Image.open(self.paths[index]).convert("RGB"))


class Plain:
    """The script that most people write: Pillow, torchvision's transforms, a DataLoader with a worker a core, float32."""

    autocast = channels_last = False

    def __init__(self, network: str, state: dict[str, np.ndarray], classes: Sequence[str], batch: int) -> None:
        self.classes = classes
        self.batch = batch
        self.model: Any = torchvision.models.get_model(network)
        self.model.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
        self.model.eval()
        self.transform = transforms.Compose([
            transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ])  # fmt: skip

    def run(self, paths: Sequence[Path], count: int) -> list[str]:
        """The labels of so many images, from the first again where there are fewer."""
        torch.set_num_threads(machine.cores())
        photos = Photos(list(itertools.islice(itertools.cycle(paths), count)), self.transform)
        labels = []
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            for batch in DataLoader(photos, self.batch, num_workers=machine.cores()):
                images = batch.to(memory_format=torch.channels_last) if self.channels_last else batch
                labels += [self.classes[index] for index in self.model(images).argmax(1).tolist()]
        return labels


class Best(Plain):
    """The same with the best settings: torch.compile, channels last, bf16 where it is native."""

    settings = "torch.compile, channels last"
    channels_last = True

    def __init__(self, network: str, state: dict[str, np.ndarray], classes: Sequence[str], batch: int) -> None:
        super().__init__(network, state, classes, batch)
        self.autocast = machine.fast_bf16()
        self.model = torch.compile(self.model.to(memory_format=torch.channels_last))


class Timm:
    """timm's own inference: its loader with the model's own preprocessing, as its inference.py does, in float32."""

    def __init__(self, network: str, state: dict[str, np.ndarray], classes: Sequence[str], batch: int) -> None:
        import timm  # here, since it takes seconds that --quick hasn't

        self.classes = classes
        self.batch = batch
        self.model = timm.create_model(network)
        self.model.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
        self.model.eval()

    def run(self, paths: Sequence[Path], count: int) -> list[str]:
        """The labels of so many images of the folder of `paths`, from the first again where there are fewer."""
        from timm.data.config import resolve_data_config
        from timm.data.dataset import ImageDataset
        from timm.data.loader import create_loader

        torch.set_num_threads(machine.cores())
        dataset: Any = ImageDataset(paths[0].parent)
        dataset.reader.samples = list(itertools.islice(itertools.cycle(dataset.reader.samples), count))
        loader: Any = create_loader(
            dataset, batch_size=self.batch, num_workers=machine.cores(), device=torch.device("cpu"),
            **resolve_data_config(model=self.model),
        )  # fmt: skip
        labels = []
        with torch.inference_mode():
            for images, _ in loader:
                likeliest = self.model(images).softmax(-1).topk(1).indices
                labels += [self.classes[index] for index in likeliest[:, 0].tolist()]
        return labels


class Keras:
    """Keras in a process of its own, which stays: TensorFlow and PyTorch in one process end in faults."""

    def __init__(self, folder: Path) -> None:
        settings = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"}
        self.child = subprocess.Popen(
            [sys.executable, str(CHILD), str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **settings},
        )  # fmt: skip

    def run(self, paths: Sequence[Path], count: int) -> list[str]:
        """The labels of so many images of the child's folder; `paths` are known to it."""
        assert self.child.stdin is not None and self.child.stdout is not None
        self.child.stdin.write(f"{count}\n")
        self.child.stdin.flush()
        answer = self.child.stdout.readline()
        if not answer:
            raise RuntimeError(f"{CHILD.name} ended with status {self.child.wait()}")
        return json.loads(answer)["labels"]

    def close(self) -> None:
        """Let the child end."""
        self.child.communicate()
