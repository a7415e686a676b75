"""Record what transformers itself says: names, shapes and logits of its ResNets, and tensors of its image processors.

Run with the extra [convert] from the folder `tests`: python recorded/record_huggingface.py
"""

import importlib.metadata
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1]))
from photos import photo
from seeded import images, seeded

NETWORKS = {
    "basic": {"depths": [1, 2], "hidden_sizes": [8, 16], "embedding_size": 8, "layer_type": "basic", "num_channels": 1},
    "bottleneck": {"depths": [1, 2, 1], "hidden_sizes": [32, 64, 128], "embedding_size": 8},
    "bottleneck, stride in the first 1×1": {
        "depths": [1, 2, 1],
        "hidden_sizes": [32, 64, 128],
        "embedding_size": 8,
        "downsample_in_bottleneck": True,
        "id2label": {0: "cat", 1: "dog", 2: "cat"},
    },
    "resnet-50": {"num_labels": 10},
}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
PROCESSORS = {
    "cropped": ("ConvNextImageProcessor", {"size": {"shortest_edge": 16}, "crop_pct": 0.875, "resample": 3, **IMAGENET}),
    "squashed from 384 up": ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}, "resample": 2, **IMAGENET}),
    "middle": ("BitImageProcessor", {"size": {"shortest_edge": 20}, "crop_size": {"height": 16, "width": 16}}),
    "squashed": ("ViTImageProcessor", {"size": {"height": 16, "width": 16}, "do_rescale": False, "do_normalize": False}),
}
PICTURES = {"wide": (40, 61), "tall": (57, 30)}
EVERY = 24  # of the pixels of a large tensor


def network(said: dict) -> dict:
    """A network with seeded weights: its document, its variables in its order, its logits."""
    torch.manual_seed(0)
    net = transformers.ResNetForImageClassification(transformers.ResNetConfig(**said)).eval()
    state = net.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point():
            tensor.copy_(torch.from_numpy(seeded(name, tuple(tensor.shape))))
    with torch.inference_mode():
        logits = net(torch.from_numpy(images(2, net.config.num_channels, 64))).logits
    assert logits.std(0).max() > 0.005 * logits.abs().max(), "the answer depends on the image"
    return {
        "config": saved(net.config, "config.json"),
        "variables": {name: list(tensor.shape) for name, tensor in state.items()},
        "logits": [[float(f"{value:.7g}") for value in row] for row in logits.tolist()],
    }


def processor(kind: str, said: dict) -> dict:
    """A processor: its document, and what it makes of pictures."""
    made = getattr(transformers, kind)(**said)
    tensors = {}
    for name, (height, width) in PICTURES.items():
        found = made(photo(height, width), return_tensors="np", input_data_format="channels_last")["pixel_values"][0]
        step = EVERY if found.shape[1] > 100 else 1
        tensors[name] = np.asarray(found)[:, ::step, ::step].round(3).tolist()
    return {"document": saved(made, "preprocessor_config.json"), "tensors": tensors}


def saved(what: object, name: str) -> dict:
    """The document as transformers writes it."""
    with tempfile.TemporaryDirectory() as folder:
        what.save_pretrained(folder)
        return json.loads((Path(folder) / name).read_text(encoding="utf-8"))


if __name__ == "__main__":
    document = {
        "transformers": importlib.metadata.version("transformers"),
        "networks": {name: network(said) for name, said in NETWORKS.items()},
        "processors": {name: processor(*given) for name, given in PROCESSORS.items()},
        "pictures": PICTURES,
        "every": EVERY,
    }
    target = Path(__file__).with_name("huggingface.json")
    target.write_text(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    print(target, target.stat().st_size, "bytes")
