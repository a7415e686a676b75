"""The model card of a folder for timm or transformers: what the model is, how good, measured how, and whose."""

from resnets.architecture import name_of
from resnets.complexity import layers
from resnets.model import Model
from resnets.weights.ecosystem import Ecosystem

LIBRARIES = {"timm": "timm", "huggingface": "transformers"}
USE = {
    "timm": 'import timm\n\nmodel = timm.create_model("local-dir:FOLDER", pretrained=True).eval()',
    "huggingface": 'from transformers import pipeline\n\npipeline("image-classification", model="FOLDER")("photo.jpg")',
}


def model_card(model: Model, ecosystem: Ecosystem, licence: str | None) -> str:
    """README.md in Markdown, its front matter as the hub reads it."""
    net = model.architecture
    size = model.preprocessing.size if model.preprocessing else net.natural_input
    counted = layers(net, size)
    parameters, macs = sum(layer.parameters for layer in counted), sum(layer.macs for layer in counted)
    head = [f"license: {licence}"] if licence else []
    front = ["---", *head, f"library_name: {LIBRARIES[ecosystem.name]}", "pipeline_tag: image-classification",
             "tags:", "- image-classification", f"- {LIBRARIES[ecosystem.name]}", "- resnets", "---"]  # fmt: skip
    shown = ", ".join(model.classes[:20]) + (f" and {len(model.classes) - 20} more" if len(model.classes) > 20 else "")
    facts = [
        f"- **Network**: {name_of(net)}, {parameters:,} parameters, {macs:,} multiply-adds at {size}×{size}",
        f"- **Classes** ({len(model.classes)}): {shown}",
        f"- **Preprocessing**: {model.preprocessing.in_words if model.preprocessing else 'not known'}",
        f"- **Training data**: {_data(model)}",
        f"- **Accuracy**: {_accuracy(model)}",
        f"- **Licence**: {licence or 'not stated by whoever converted it'}",
        f"- **Weights**: converted by resnets; SHA-256 of the tensors {model.sha256}",
    ]
    return "\n".join([*front, "", f"# {name_of(net)}", "", *facts, "", "```python", USE[ecosystem.name], "```", ""])


def _data(model: Model) -> str:
    if not model.data:
        return "not known"
    return (
        f"{model.data.get('name')}, {model.data.get('images')} images, fingerprint {str(model.data.get('fingerprint'))[:12]}"
    )


def _accuracy(model: Model) -> str:
    found = model.accuracy
    if not found:
        return "not measured"
    low, high = found["interval"]
    return (
        f"top-1 {found['top1']:.2%} (95% interval {low:.1%} – {high:.1%}) on {found['images']} images of {found['data']} "
        f"({found['split']}), one view of each, float32"
    )
