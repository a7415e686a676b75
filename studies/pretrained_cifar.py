"""A CIFAR ResNet-20 that others trained (option A shortcuts) measured by our network on images of CIFAR-10.

    python studies/pretrained_cifar.py WEIGHTS.th IMAGES [--out FILE]

WEIGHTS is a PyTorch file of the `module.…` names that CIFAR ResNets are shared with; IMAGES a folder of CIFAR-10's test
images in class folders. The claim: 91.78% on the original images. On images that were coded again as lossy JPEG the
same weights reach 81.03%, by hand with another implementation. A third row pads option A's channels after, not half before.
"""

import contextlib
from pathlib import Path
from unittest import mock

import resnets
from resnets import bench
from resnets.architecture import named
from resnets.data.preprocessing import Preprocessing
from resnets.weights import read_weights


def main() -> None:
    parser = bench.parser(__doc__ or "")
    parser.add_argument("weights", type=Path)
    parser.add_argument("images", type=Path)
    options = parser.parse_args()
    data = resnets.open_dataset(options.images)
    model = resnets.Model(named("resnet20"), data.classes, Preprocessing(size=32, crop=1.0), read_weights(options.weights))
    rows = []
    for engine, padding in (("openvino", "half"), ("torch", "half"), ("openvino", "after")):
        after = mock.patch(
            "resnets.prediction.openvino.graph.pad_channels", lambda width_in, width_out: (0, width_out - width_in)
        )
        with after if padding == "after" else contextlib.nullcontext():
            figures = resnets.evaluate(model, data, engine=engine)
        kept = ("top1", "top5", "loss", "ece", "images", "split", "engine", "precision")
        rows.append(
            {"name": "resnet20 of others", "claim": 0.8103, "option A pads": padding, **{key: figures[key] for key in kept}}
        )
    bench.report(options, rows, {"top1_vs_claim": rows[0]["top1"] / 0.8103})


if __name__ == "__main__":
    main()
