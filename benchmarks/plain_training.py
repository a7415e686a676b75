"""How others train, for `time_to_accuracy.py`: the script that most people write, and the same with good settings.

Both train our ResNet-20 module, so that the arithmetic is the same. Each is a function of (images, epochs, until, seed,
threads) to a `Curve`: after each epoch, the seconds of training so far, evaluation not counted, and the top-1 on the test
images. The epoch that reaches `until` is the last one trained, with the schedule of all.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from training_data import Images, Stopwatch

import resnets
from resnets import machine

MEAN, DEVIATION = 0.2860, 0.3530  # of Fashion-MNIST's training images, in 0…1
BATCH, EVALUATED = 128, 500  # images of a batch, in training and in evaluation
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Point(NamedTuple):
    """The end of an epoch."""

    seconds: float
    top1: float


class Curve(NamedTuple):
    """One run."""

    points: list[Point]
    settings: str
    precision: str
    images: int  # trained on in those seconds, each view counted


class Photos(Dataset):
    """torchvision's FashionMNIST: an image from memory, made a PIL image, transformed."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, transform: Any) -> None:
        self.pixels, self.labels, self.transform = pixels, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), int(self.labels[index])


def plain(images: Images, epochs: int, until: float, seed: int, threads: int) -> Curve:
    """Float32; Dataset, DataLoader and torchvision's transforms; SGD whose rate drops at 50% and 75% of the epochs."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    watch = Stopwatch()
    transform = transforms.Compose([
        transforms.RandomCrop(images.train.shape[1], padding=4), transforms.RandomHorizontalFlip(),
        transforms.ToTensor(), transforms.Normalize((MEAN,), (DEVIATION,)),
    ])  # fmt: skip
    photos = Photos(images.train, images.train_labels, transform)
    loader = DataLoader(photos, BATCH, shuffle=True, num_workers=threads)
    model = resnets.network("resnet20", channels=1, classes=10, seed=seed).to(DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [epochs // 2, epochs * 3 // 4], 0.1)
    points = []
    for _ in range(epochs):
        model.train()
        for batch, labels in loader:
            loss = F.cross_entropy(model(batch.to(DEVICE)), labels.to(DEVICE))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
        with stopped(watch) as seconds:
            points.append(Point(seconds, top1(model, images)))
        if points[-1].top1 >= until:
            break
    settings = f"DataLoader with {threads} workers, steps at 50% and 75% of {epochs} epochs"
    return Curve(points, settings, "float32", len(points) * len(images.train))


def good(images: Images, epochs: int, until: float, seed: int, threads: int, compiled: bool) -> Curve:
    """What people know to be faster, in one loop: bf16 where it is native, channels last, torch.compile where wanted,
    images kept as a uint8 tensor and augmented a batch at a time, memory kept, cosine after a warm-up, Nesterov's momentum,
    smoothed labels, no weight decay on norms and biases, a smaller shift."""
    machine.keep_freed_memory()
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    watch = Stopwatch()
    bf16 = DEVICE.type == "cuda" or machine.fast_bf16()
    pixels, labels = torch.from_numpy(images.train).to(DEVICE), torch.from_numpy(images.train_labels).to(DEVICE)
    model = resnets.network("resnet20", channels=1, classes=10, seed=seed).to(memory_format=torch.channels_last).to(DEVICE)
    forward = torch.compile(model) if compiled else model
    steps = len(pixels) // BATCH
    optimizer = torch.optim.SGD(groups(model), lr=0.1, momentum=0.9, nesterov=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.1, total_steps=epochs * steps, pct_start=0.1, cycle_momentum=False, div_factor=100
    )
    points = []
    for _ in range(epochs):
        model.train()
        for chosen in torch.randperm(len(pixels), device=DEVICE)[: steps * BATCH].split(BATCH):
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bf16):
                loss = F.cross_entropy(forward(views(pixels[chosen], 2)), labels[chosen], label_smoothing=0.05)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            rate.step()
        with stopped(watch) as seconds:
            points.append(Point(seconds, top1(model, images)))
        if points[-1].top1 >= until:
            break
    settings = "channels last, " + "torch.compile, " * compiled + "uint8 tensor, cosine, Nesterov, smoothed labels"
    return Curve(points, settings, "bf16" if bf16 else "float32", len(points) * steps * BATCH)


def groups(model: nn.Module) -> list[dict[str, Any]]:
    """The parameters with weight decay, and norms and biases without."""
    parameters = list(model.parameters())
    decayed = [parameter for parameter in parameters if parameter.ndim > 1]
    return [{"params": decayed, "weight_decay": 5e-4},
            {"params": [parameter for parameter in parameters if parameter.ndim == 1], "weight_decay": 0.0}]  # fmt: skip


def views(pixels: Tensor, padding: int) -> Tensor:
    """Each of uint8 [batch, size, size] shifted at random by up to `padding` pixels and mirrored or not, normalised:
    float32 [batch, 1, size, size], channels last."""
    count, size = pixels.shape[:2]
    padded = F.pad(pixels, (padding,) * 4)
    shift = torch.randint(0, 2 * padding + 1, (2, count, 1), device=pixels.device)
    along = torch.arange(size, device=pixels.device)
    flipped = torch.rand(count, 1, device=pixels.device) < 0.5
    rows, columns = shift[0] + along, shift[1] + torch.where(flipped, size - 1 - along, along)
    cut = padded[torch.arange(count, device=pixels.device)[:, None, None], rows[:, :, None], columns[:, None]]
    x = (cut.float() / 255 - MEAN) / DEVIATION
    return x[:, None].contiguous(memory_format=torch.channels_last)


def stopped(watch: Stopwatch) -> Any:
    """`watch.stopped()`, once the device has done all that it was given."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return watch.stopped()


@torch.no_grad()
def top1(model: nn.Module, images: Images) -> float:
    """The share of the test images that are labelled rightly."""
    model.eval()
    right = 0
    for first in range(0, len(images.test), EVALUATED):
        part = torch.from_numpy(images.test[first : first + EVALUATED]).to(DEVICE)
        logits = model(((part.float() / 255 - MEAN) / DEVIATION)[:, None])
        right += int((logits.argmax(1).cpu().numpy() == images.test_labels[first : first + EVALUATED]).sum())
    return right / len(images.test)
