"""Distillation: a teacher's answers to the images that the student sees (Hinton et al. 2015; VanillaKD, Hao et al. 2023)."""

import logging
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from resnets.data.loader import Loader
from resnets.data.preprocessing import Preprocessing
from resnets.model import load
from resnets.training.normalised import Normalised, on

log = logging.getLogger("resnets")


def numbers(how: Preprocessing, device: torch.device) -> Tensor:
    """A preprocessing's mean and deviation: [2, 1, channels, 1, 1]."""
    return torch.tensor([how.mean, how.deviation], device=device).view(2, 1, -1, 1, 1)


class Teacher:
    """A trained model, asked about batches as its student sees them."""

    def __init__(self, path: str, classes: Sequence[str], how: Preprocessing, device: torch.device) -> None:
        """Raises ValueError where the file is no model, lacks a class of the student's, or reads other channels."""
        model = load(path)
        if missing := [name for name in classes if name not in model.classes]:
            raise ValueError(f"the teacher {path} doesn't know the class {missing[0]!r}; it can teach only what it knows")
        if model.preprocessing is None or model.preprocessing.channels != how.channels:
            raise ValueError(
                f"the teacher {path} doesn't read images of {how.channels} channels as this network does; take one that does"
            )
        self.how = model.preprocessing
        self.columns = torch.tensor([model.classes.index(name) for name in classes], device=device)
        self.network = model.network().to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
        self.same = (self.how.mean, self.how.deviation, self.how.scale, self.how.colour) == (
            how.mean, how.deviation, how.scale, how.colour)  # fmt: skip
        self.student = how
        self.numbers, self.student_numbers = numbers(self.how, device), numbers(how, device)
        self.table: Tensor | None = None

    def logits(self, images: Tensor, samples: np.ndarray) -> Tensor:
        """[batch, classes], of normalised images [batch, channels, height, width]; `samples` are their places."""
        if self.table is not None:
            return self.table[on(self.table.device, samples)]
        return self.ask(images)

    @torch.no_grad()
    def ask(self, images: Tensor) -> Tensor:
        """The teacher's logits, in the student's order of classes."""
        as_it_is = self.same and images.shape[-1] == self.how.size
        return self.network(images if as_it_is else self._as_read(images)).float()[:, self.columns]

    def remember(self, loader: Loader, normalised: Normalised) -> None:
        """Ask about every image once: for images that look the same in every epoch."""
        rows = torch.zeros(len(loader.samples), len(self.columns), device=self.columns.device)
        for batch in loader.batches(0):
            if len(batch.samples):
                rows[torch.from_numpy(batch.samples)] = self.ask(normalised(batch))
        self.table = rows
        log.info("the teacher's answers to %d images are computed once: nothing about them changes", len(rows))

    def _as_read(self, images: Tensor) -> Tensor:
        """The student's normalised images as the teacher normalises and sizes them."""

        (mean, deviation), (own_mean, own_deviation) = self.student_numbers, self.numbers
        student, teacher = self.student, self.how
        pixels = (images * deviation + mean) / student.scale
        if student.colour != teacher.colour:
            pixels = pixels.flip(1)
        if teacher.size != images.shape[-1]:
            # They were resized once already: made smaller by bilinear means too they would be blurred.
            mode = "bicubic" if teacher.size < images.shape[-1] else "bilinear"
            pixels = F.interpolate(pixels, size=(teacher.size, teacher.size), mode=mode, antialias=True)
        return (pixels * teacher.scale - own_mean) / own_deviation
