"""torchvision's own network, and what it computes with a file's weights."""

from pathlib import Path

import numpy as np

from resnets.architecture import Architecture
from resnets.errors import need

LIBRARY = "torchvision"


def logits(path: Path, net: Architecture, tensors: np.ndarray) -> np.ndarray:
    """float32 [n, channels, height, width] → [n, classes], by `torchvision.models.resnet.ResNet` with the file's weights."""
    torch, resnet = need("torch", "train", LIBRARY), need("torchvision.models.resnet", "train", LIBRARY)
    block = resnet.BasicBlock if net.block == "basic" else resnet.Bottleneck
    width = net.inner_width(0) // net.groups
    theirs = resnet.ResNet(block, list(net.blocks), net.classes, groups=net.groups, width_per_group=width)
    if net.channels != 3:  # which its own constructor doesn't offer
        theirs.conv1 = torch.nn.Conv2d(net.channels, 64, 7, 2, 3, bias=False)
    theirs.load_state_dict(state_dictionary(path))
    with torch.inference_mode():
        return theirs.eval()(torch.from_numpy(np.ascontiguousarray(tensors))).numpy()


def tensors(path: Path, images: list[np.ndarray]) -> np.ndarray | None:
    """None: a file of torchvision's says nothing of images."""
    return None


def state_dictionary(path: Path) -> dict:
    """What a file has for `load_state_dict`: plain tensors, out of a wrapper and without `DataParallel`'s prefix."""
    torch = need("torch", "train", LIBRARY)
    if path.suffix == ".safetensors":
        return need("safetensors.torch", "train", LIBRARY).load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    for wrapper in ("state_dict", "model_state_dict", "model"):
        state = state[wrapper] if isinstance(state.get(wrapper), dict) else state
    state = dict(state)
    need("torch.nn.modules.utils", "train", LIBRARY).consume_prefix_in_state_dict_if_present(state, "module.")
    return state
