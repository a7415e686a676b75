"""transformers' own network and image processor, and what they make of a folder or a file."""

from pathlib import Path
from typing import Any

import numpy as np

from resnets.architecture import Architecture
from resnets.errors import WorkFailed, need

LIBRARY = "transformers"


def logits(path: Path, net: Architecture, tensors: np.ndarray) -> np.ndarray:
    """float32 [n, channels, height, width] → [n, classes], by `ResNetForImageClassification`: of a folder as its config.json
    says, of a file with this architecture."""
    transformers = need("transformers", "convert", f"{LIBRARY}' own network")
    torch = need("torch", "train", LIBRARY)
    network = transformers.ResNetForImageClassification
    if path.is_dir():
        theirs, loading = network.from_pretrained(
            path, local_files_only=True, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
        )
        _check_whole(loading)
    else:
        theirs = network(_config(transformers, net))
        theirs.load_state_dict(_state_dictionary(torch, path))
    with torch.inference_mode():
        return theirs.eval()(torch.from_numpy(np.ascontiguousarray(tensors))).logits.numpy()


def tensors(path: Path, images: list[np.ndarray]) -> np.ndarray | None:
    """uint8 [height, width, channels] each → float32 [n, channels, size, size], by `AutoImageProcessor`; None of a file, and
    of a folder without its document."""
    if not (path / "preprocessor_config.json").is_file():
        return None
    transformers = need("transformers", "convert", f"{LIBRARY}' own image processor")
    processor = transformers.AutoImageProcessor.from_pretrained(path, local_files_only=True)
    prepared = [processor(image, return_tensors="np", input_data_format="channels_last") for image in images]
    return np.concatenate([np.asarray(each["pixel_values"], np.float32) for each in prepared])


def _check_whole(loading: Any) -> None:
    """Raise WorkFailed where `from_pretrained` left weights as they were or over, which it does in silence."""
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        if found := list(loading[what]):
            raise WorkFailed(
                f"transformers loads it with {what}: {found[0]}" + f" and {len(found) - 1} more" * (len(found) > 1)
            )


def _config(transformers: Any, net: Architecture) -> Any:
    return transformers.ResNetConfig(
        num_channels=net.channels,
        embedding_size=net.width,
        hidden_sizes=[net.width * net.expansion * 2**stage for stage in range(len(net.blocks))],
        depths=list(net.blocks),
        layer_type=net.block,
        downsample_in_bottleneck=net.block == "bottleneck" and not net.stride_in_3x3,
        num_labels=net.classes,
    )


def _state_dictionary(torch: Any, path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        return need("safetensors.torch", "train", LIBRARY).load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)
