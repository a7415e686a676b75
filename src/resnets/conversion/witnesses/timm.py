"""timm's own network and transforms, and what they make of a folder or a file."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from resnets.architecture import Architecture
from resnets.errors import need
from resnets.weights.ecosystems.timm import describes
from resnets.weights.timm_networks import named_in_timm

LIBRARY = "timm"


def logits(path: Path, net: Architecture, tensors: np.ndarray) -> np.ndarray:
    """float32 [n, channels, height, width] → [n, classes], by the network that the folder names, or of a file the one of
    timm that has this architecture."""
    timm, torch = need("timm", "convert", f"{LIBRARY}'s own network"), need("torch", "train", LIBRARY)
    if path.is_dir() and _said(path, "model_type") == "timm_wrapper":  # which transformers wrote of a timm model
        wrapper = need("transformers", "convert", "a folder that transformers wrote of a timm model")
        theirs = wrapper.AutoModelForImageClassification.from_pretrained(path, local_files_only=True).timm_model
    elif path.is_dir():
        theirs = timm.create_model(f"local-dir:{path}", pretrained=True)
    else:
        name, arguments = named_in_timm(net)
        theirs = timm.create_model(name, num_classes=net.classes, in_chans=net.channels, **arguments)
        timm.models.load_checkpoint(theirs, str(path), use_ema=False, strict=True, weights_only=True)
    with torch.inference_mode():
        return theirs.eval()(torch.from_numpy(np.ascontiguousarray(tensors))).numpy()


def tensors(path: Path, images: list[np.ndarray]) -> np.ndarray | None:
    """uint8 [height, width, channels] each → float32 [n, channels, size, size], by `timm.data.create_transform`; None of a
    file, and of a folder that says nothing of images."""
    if not path.is_dir() or not describes(_said(path, "pretrained_cfg")):
        return None
    timm, pillow = need("timm", "convert", f"{LIBRARY}'s own transforms"), need("PIL.Image", "convert", LIBRARY)
    config = timm.data.resolve_model_data_config(timm.create_model(f"local-dir:{path}", pretrained=False))
    transform = timm.data.create_transform(**config)
    pictures = [pillow.fromarray(image[:, :, 0] if image.shape[2] == 1 else image) for image in images]
    return np.stack([np.asarray(transform(picture), np.float32) for picture in pictures])


def _said(path: Path, key: str) -> Any:
    """What a folder's config.json says; of `pretrained_cfg` in older ones at the top."""
    document = json.loads((path / "config.json").read_text(encoding="utf-8"))
    return document.get(key, document if key == "pretrained_cfg" else None)
