"""A small network that tells three classes apart, and photos for it."""

import functools

import numpy as np
import torch
from PIL import Image
from random_norms import randomised

import resnets
from resnets.data.preprocessing import Preprocessing, crop, normalise
from resnets.model import Model

CLASSES = ("cat", "dog", "owl")
HOW = Preprocessing(size=32, crop=1.0)


@functools.cache
def tiny(how):
    """A network of random weights, its head such that each class is likeliest of some images."""
    net = randomised(resnets.network("resnet20", classes=3, channels=how.channels, seed=0), size=32)
    with torch.inference_mode():
        logits = net(torch.from_numpy(normalise(np.stack([crop(image, how) for image in pictures(how.channels)]), how)))
        net.fc.weight /= logits.std(0)[:, None]
        net.fc.bias.copy_((net.fc.bias - logits.mean(0)) / logits.std(0))
    return Model(net.architecture, CLASSES, how, {name: tensor.numpy() for name, tensor in net.state_dict().items()})


def pictures(channels=3):
    """uint8 [60, 40, 48, channels]: blotches of every colour."""
    coarse = np.random.default_rng(0).integers(0, 256, (60, 5, 6, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(image).resize((48, 40))) for image in coarse])[..., :channels]


def photos_in(folder, count=60, broken=(7,)):
    """The first pictures as files of a new folder, 0.png, 1.png, …, of which the `broken` are text."""
    folder.mkdir()
    for number, pixels in enumerate(pictures()[:count]):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    for number in broken:
        (folder / f"{number}.png").write_text("no image")
    return folder
