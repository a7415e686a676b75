"""The image processors of Hugging Face transformers: what a `preprocessor_config.json` says, as a `Preprocessing`, and back.

Resizing is as here. The middle of a resized image is cut half a pixel further up and left where that isn't whole, and here
at the even pixel (as torchvision cuts it): for one in four shapes the crops are a pixel apart along the longer side.
"""

import re
from collections.abc import Mapping
from typing import Any

from resnets.data.preprocessing import Interpolation, Preprocessing

CLIP = {
    "size": {"shortest_edge": 224},
    "do_center_crop": True,
    "crop_size": 224,
    "resample": 3,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
PROCESSORS: dict[str, dict[str, Any]] = {  # what each does where its document is silent
    "ConvNextImageProcessor": {"size": {"shortest_edge": 384}, "crop_pct": 224 / 256, "resample": 3},
    "BitImageProcessor": CLIP,
    "CLIPImageProcessor": CLIP,
    "ViTImageProcessor": {"size": {"height": 224, "width": 224}, "resample": 2},
}
SILENT = {  # what they have in common
    "do_resize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": 0.5,
    "image_std": 0.5,
}
SETTLED = {"do_resize": True, "do_pad": False, "do_flip_channel_order": False}  # what has no other value here
WARPED = 384  # ConvNext's: from this size up an image is squashed, below it is cropped
RESAMPLE: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers


def preprocessing_of(document: Mapping[str, Any], channels: int) -> Preprocessing:
    """What a processor does to images of 1 or 3 channels. Raises ValueError, naming the key, where it has no place here."""
    name = str(document.get("image_processor_type") or document.get("feature_extractor_type"))
    kind = re.sub("(Fast|Pil)$", "", name.replace("FeatureExtractor", "ImageProcessor"))
    if kind not in PROCESSORS:
        raise ValueError(f"image_processor_type is {name!r}, and those that are read are {', '.join(PROCESSORS)}")
    said: dict[str, Any] = SILENT | PROCESSORS[kind] | {key: value for key, value in document.items() if value is not None}
    for key, wanted in SETTLED.items():
        if bool(said.get(key, wanted)) != wanted:
            raise ValueError(f"{key} is {said[key]}, which preprocessing has no place for here")
    if said["resample"] not in RESAMPLE:
        raise ValueError(f"resample is {said['resample']!r}, and here it is one of {RESAMPLE}")
    squashed, size, resized = _geometry(kind, said)
    if size > resized:
        raise ValueError(
            f"the middle {size} pixels are cut from a shorter side of {resized}, and here nothing fills a crop up"
        )
    mean, deviation = (said["image_mean"], said["image_std"]) if said["do_normalize"] else (0.0, 1.0)
    return Preprocessing(
        size=size,
        crop=1.0 if squashed else size / resized,
        fit="squash" if squashed else "crop",
        interpolation=RESAMPLE[said["resample"]],
        colour="grey" if channels == 1 else "RGB",
        scale=float(said["rescale_factor"]) if said["do_rescale"] else 1.0,
        mean=of_each(mean, channels),
        deviation=of_each(deviation, channels),
    )


def of_each(numbers: Any, channels: int) -> tuple[float, ...]:
    """A number for every channel, from one number or from as many."""
    several = tuple(float(number) for number in (numbers if isinstance(numbers, list | tuple) else [numbers]))
    return several * channels if len(several) == 1 else several


def _geometry(kind: str, said: Mapping[str, Any]) -> tuple[bool, int, int]:
    """Whether an image is squashed; the size that comes out; and what the shorter side (squashed: each) is resized to."""
    size = said["size"]
    if isinstance(size, int):  # of documents from before 2023
        size = {"height": size, "width": size} if kind == "ViTImageProcessor" else {"shortest_edge": size}
    cut = _side(said["crop_size"], "crop_size") if said.get("do_center_crop") else None
    if kind == "ConvNextImageProcessor" and (cut is not None or "shortest_edge" not in size):
        raise ValueError(
            f"size is {size} and do_center_crop {cut is not None}, and of a {kind} a shortest_edge alone is read"
        )
    if "shortest_edge" not in size:
        side = _side(size, "size")
        if cut not in (None, side):
            raise ValueError(f"crop_size is {said['crop_size']} and size {size}: here what is squashed isn't cropped")
        return True, side, side
    shortest = int(size["shortest_edge"])
    if "longest_edge" in size:
        raise ValueError(f"size is {size}, and here the longer side is as long as it comes out, without a longest_edge")
    if kind == "ConvNextImageProcessor":
        return (True, shortest, shortest) if shortest >= WARPED else (False, shortest, int(shortest / said["crop_pct"]))
    if cut is None:
        raise ValueError(f"size is {size} without do_center_crop, and what a network here reads is a square")
    return False, cut, shortest


def _side(size: Any, key: str) -> int:
    """The side of a square, given as a number or as height and width."""
    height, width = (size["height"], size["width"]) if isinstance(size, Mapping) else (size, size)
    if height != width:
        raise ValueError(f"{key} is {size}, and what a network here reads is a square")
    return int(height)


def processor_of(how: Preprocessing | None) -> dict[str, Any] | None:
    """The document of the processor that does this; None where there is none."""
    if how is None or any(without_place(how)):
        return None
    square = {"height": how.size, "width": how.size}
    crop = how.fit == "crop"
    return {
        "image_processor_type": "BitImageProcessor" if crop else "ViTImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": how.resized} if crop else square,
        "resample": next(number for number, name in RESAMPLE.items() if name == how.interpolation),
        **({"do_center_crop": True, "crop_size": square} if crop else {}),
        "do_rescale": True,
        "rescale_factor": how.scale,
        "do_normalize": True,
        "image_mean": list(how.mean),
        "image_std": list(how.deviation),
        "do_convert_rgb": how.colour == "RGB",
    }


def without_place(how: Preprocessing) -> tuple[str, ...]:
    """What no processor does, nor timm's transforms, in words."""
    reasons = (
        (how.fit == "pad", "filling images up to a square (fit 'pad')"),
        (how.colour == "BGR", "the order of colours, BGR"),
        (not how.antialias and how.interpolation != "nearest", "resizing without antialiasing"),
    )
    return tuple(reason for holds, reason in reasons if holds)
