"""Ways to bring images to a network for `data.py`: files to normalised float32 batches, augmented as ImageNet training does.

Each is made for a folder of class folders, and `run` goes through so many images; a DataLoader has a worker a core, as many
as our threads.
"""

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
import torch
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2 import functional

from resnets import machine
from resnets.bench.loading import Here
from resnets.data import open_dataset
from resnets.data.augmentation import Augmentation, numbers, random_box
from resnets.data.cache import CachedImages
from resnets.data.decode import read
from resnets.data.loader import Batch, Loader, Samples
from resnets.data.preprocessing import Preprocessing
from resnets.training.normalised import Normalised
from resnets.training.resizing import resized

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CPU = torch.device("cpu")


class Case(NamedTuple):
    """Images and what training does to them."""

    title: str
    folder: Path  # of class folders
    size: int  # pixels of what the network sees
    batch: int

    @property
    def small(self) -> bool:
        """Whether images are shifted and mirrored as CIFAR's are, not cropped and resized."""
        return self.size <= 64

    @property
    def augmentation(self) -> Augmentation:
        """As one of ours."""
        return Augmentation(crop="padded", padding=4, flip=True) if self.small else Augmentation(crop="resized", flip=True)

    @property
    def how(self) -> Preprocessing:
        """The preprocessing that training has."""
        return Preprocessing(size=self.size, crop=1.0 if self.small else 224 / 256)

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return sorted(self.folder.glob("*/*"))


class Torchvision:
    """ImageFolder, transforms and DataLoader, as torchvision's own reference scripts have them."""

    def __init__(self, case: Case) -> None:
        first = transforms.RandomCrop(case.size, padding=4) if case.small else transforms.RandomResizedCrop(case.size)
        steps = [first, transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize(MEAN, DEVIATION)]
        self.batch = case.batch
        self.data: Any = ImageFolder(str(case.folder), transforms.Compose(steps))

    def run(self, paths: Sequence[Path], count: int) -> list[str]:
        """So many images, shuffled."""
        order = np.random.default_rng(0).integers(0, len(paths), count).tolist()
        loader = torch.utils.data.DataLoader(self.data, self.batch, sampler=order, num_workers=machine.cores())
        for _ in loader:
            pass
        return []


class Timm:
    """timm's dataset and loader, as its train.py makes them, without what a recipe adds to crop and flip."""

    def __init__(self, case: Case) -> None:
        from timm.data.dataset_factory import create_dataset

        self.case = case
        self.data: Any = create_dataset("", root=str(case.folder), is_training=True)
        self.samples = list(self.data.reader.samples)

    def run(self, paths: Sequence[Path], count: int) -> list[str]:
        """So many images, shuffled."""
        from timm.data.loader import create_loader

        self.data.reader.samples = list(itertools.islice(itertools.cycle(self.samples), count))
        loader: Any = create_loader(
            self.data, (3, self.case.size, self.case.size), self.case.batch, is_training=True, num_workers=machine.cores(),
            device=CPU, color_jitter=0.0, use_prefetcher=False, persistent_workers=False,
        )  # fmt: skip
        for _ in loader:
            pass
        return []


class Ours:
    """Our loader; with `cached`, its images from the cache of decoded ones; with `anew`, each epoch a first one; without
    `floats`, its batches as they are, uint8."""

    def __init__(self, case: Case, cached: bool = False, anew: bool = False, floats: bool = True) -> None:
        data = open_dataset(case.folder)
        images = CachedImages(data.images) if cached else data.images
        self.case, self.anew = case, anew
        self.samples = Samples(images, np.arange(len(data)), data.labels)
        self.loader = loader_of(case, self.samples)
        self.normalised = Normalised(case.how, CPU) if floats else None
        self.epoch = 0

    def run(self, paths: Sequence[Path], count: int) -> list[str]:
        """So many images, shuffled, in as many epochs as that takes."""
        done = 0
        while done < count:
            if self.anew:
                self.loader = loader_of(self.case, self.samples)
            for batch in self.loader.batches(self.epoch):
                if self.normalised is not None:
                    self.normalised(batch)
                done += len(batch.labels)
                if done >= count:
                    break
            self.epoch += 1
        return []


def loader_of(case: Case, samples: Samples) -> Loader:
    """Our loader as training has it."""
    loader = Loader(samples, case.how, case.batch, augmentation=case.augmentation, workers=machine.cores())
    loader.resize = resized
    return loader


class Processes:
    """The same decoding and cropping by a process a core instead of a thread: each makes whole batches, which come through
    shared memory. They are started before anything is timed."""

    def __init__(self, case: Case) -> None:
        data = open_dataset(case.folder)
        self.samples = Samples(data.images, np.arange(len(data)), data.labels)
        self.case, self.steps, self.done = case, len(data) // case.batch, 0
        self.normalised = Normalised(case.how, CPU)
        self.order: list[tuple[int, int]] = []  # of a run: (epoch, batch)
        self.loader: Any = torch.utils.data.DataLoader(
            InWorker(case, self.samples), None, sampler=self.order, num_workers=machine.cores(), persistent_workers=True,
            multiprocessing_context="spawn", worker_init_fn=as_training,
        )  # fmt: skip

    def run(self, paths: Sequence[Path], count: int) -> list[str]:
        """So many images, shuffled."""
        stop = self.done + -(-count // self.case.batch)
        self.order[:] = [divmod(number, self.steps) for number in range(self.done, stop)]
        self.done = stop
        nothing = np.array([], np.int64)
        for images, labels in self.loader:
            self.normalised(Batch(images.numpy(), labels.numpy(), None, nothing))
        return []


class InWorker(torch.utils.data.Dataset):
    """Batches as our loader makes them, by (epoch, number), on one thread; every epoch is a first one."""

    def __init__(self, case: Case, samples: Samples) -> None:
        self.case, self.samples, self.epoch = case, samples, -1

    def __getitem__(self, place: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        epoch, number = place
        if epoch != self.epoch:
            self.loader, self.epoch = loader_of(self.case, self.samples), epoch
        batch = self.loader.begin(epoch, number, Here())()
        return torch.from_numpy(batch.images), torch.from_numpy(batch.labels)


def as_training(worker: int) -> None:
    """What training does to its process, in a worker."""
    machine.keep_freed_memory()


def limits(case: Case) -> dict[str, Callable[[Sequence[Path], int], list[str]]]:
    """Files to ready crops on a thread a core and nothing else, by two ways that are known to be fast."""
    return {"ours": partial(cropped, our_crop, case), "simplejpeg and torchvision": partial(cropped, their_crop, case)}


def cropped(one: Callable[[Case, Path, np.ndarray], object], case: Case, paths: Sequence[Path], count: int) -> list[str]:
    """So many files, each another random part, dropped."""
    draws = numbers(0, 0, np.arange(count), np.zeros(count, int), case.augmentation)
    with ThreadPoolExecutor(machine.cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for _ in pool.map(partial(one, case), itertools.islice(itertools.cycle(paths), count), draws):
            pass
    return []


def our_crop(case: Case, path: Path, draws: np.ndarray) -> np.ndarray:
    """By our decoding at a part of the size, and our resize."""
    image = read(path, least=case.size)
    return resized(image, random_box(image.shape[0], image.shape[1], draws, case.augmentation, case.how), case.how)


def their_crop(case: Case, path: Path, draws: np.ndarray) -> torch.Tensor:
    """By simplejpeg and torchvision's antialiased resize of the part."""
    image = torch.from_numpy(simplejpeg.decode_jpeg(path.read_bytes(), "RGB")).permute(2, 0, 1)
    left, top, right, bottom = random_box(image.shape[1], image.shape[2], draws, case.augmentation, case.how)
    part = image[:, int(top) : int(bottom), int(left) : int(right)]
    return functional.resize(part, [case.size, case.size], antialias=True)
