"""Predict with the exported model beside this file. Needs NumPy, Pillow and the file's own runtime; nothing else.

    python predict.py IMAGE… [--top 5] [--json]

From Python: `classify(["cat.jpg"])` → [{"path", "labels", "scores"}], or {"path", "error"} for what can't be read.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent
CERTIFICATE = json.loads((HERE / "certificate.json").read_text(encoding="utf-8"))
CLASSES = CERTIFICATE["model"]["classes"]
HOW = CERTIFICATE["model"]["preprocessing"]

warnings.filterwarnings("ignore", module=r"PIL\.")


def read(path):
    """A file as the model wants it: uint8 [height, width, channels], upright, on white, 16-bit grey made 8-bit."""
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I"):
            image = Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
        if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
            pasted = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", pasted.size, "white"), pasted)
        pixels = np.asarray(image.convert("L" if HOW["colour"] == "grey" else "RGB"))
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def prepare(image):
    """What the file's input is of an image: the image itself, or its crop, or that normalised."""
    if CERTIFICATE["input"] == "image":
        return np.ascontiguousarray(image)
    sys.path.insert(0, str(HERE))
    from preprocessing import Preprocessing, crop, normalise  # pyright: ignore[reportMissingImports]

    how = Preprocessing(**HOW)
    square = crop(image, how)[None]
    return square if CERTIFICATE["input"] == "crops" else normalise(square, how)


def runner():
    """A function from the file's input to its probabilities, [1, classes]."""
    path = str(HERE / CERTIFICATE["file"])
    if CERTIFICATE["format"] == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda x: np.asarray(session.run(["probabilities"], {name: x})[0])
    if CERTIFICATE["format"] == "openvino":
        import openvino

        hint = "bf16" if CERTIFICATE["precision"] == "bf16" else "f32"
        compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": hint})
        return lambda x: np.asarray(compiled([x])["probabilities"])
    import torch

    program = torch.export.load(path).module()
    with torch.no_grad():
        return lambda x: program(torch.from_numpy(x.copy()))[0].detach().numpy()


def classify(paths, top=5):
    """Names and scores of each image, the likeliest first."""
    run = runner()
    answers = []
    for path in paths:
        try:
            image = read(path)
        except Exception as error:
            answers.append({"path": str(path), "error": str(error)})
            continue
        scores = run(prepare(image))[0]
        best = np.argsort(-scores, kind="stable")[:top]
        answers.append({"path": str(path), "labels": [CLASSES[i] for i in best],
                        "scores": [round(float(scores[i]), 6) for i in best]})  # fmt: skip
    return answers


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("images", nargs="+")
    parser.add_argument("--top", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = classify(options.images, options.top)
    if options.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        for row in found:
            said = row.get("error") or "  ".join(f"{a} {b:.1%}" for a, b in zip(row["labels"], row["scores"], strict=True))
            print(f"{row['path']}: {said}")
    sys.exit(all("error" in row for row in found))
