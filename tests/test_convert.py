"""`resnets convert`: any source to any target, the certificate, the proofs; and nothing half-written."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from random_norms import assert_close, randomised
from safetensors.numpy import load_file
from safetensors.torch import save_file

import resnets
from resnets.architecture import NAMED, named
from resnets.arguments import ECOSYSTEMS
from resnets.cli import main
from resnets.conversion import convert, proof, writing
from resnets.data.preprocessing import Preprocessing
from resnets.errors import WorkFailed
from resnets.graph import weight_shapes
from resnets.model import Model, load
from resnets.networks import network
from resnets.weights.ecosystems import ecosystems
from resnets.weights.reading import Wishes, read

HOW = Preprocessing(size=64, crop=64 / 72, interpolation="bicubic", mean=(0.5, 0.4, 0.3), deviation=(0.3, 0.25, 0.2))


def model_of(name, classes=3, how=HOW, **changes):
    net = named(name, classes=classes, **changes)
    state = {key: x.numpy() for key, x in randomised(network(name, seed=0, classes=classes, **changes)).state_dict().items()}
    return Model(net, tuple(f"class {index}" for index in range(classes)), how, state)


def absent(monkeypatch):
    """No other library is installed."""
    monkeypatch.setattr(proof, "library", lambda ecosystem: None)


def test_the_command_line_knows_every_ecosystem():
    assert sorted(ECOSYSTEMS) == sorted(ecosystems())


def test_the_documented_example_is_an_ecosystem():
    text = (Path(__file__).parent.parent / "docs" / "weights.md").read_text()
    code = next(block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "ECOSYSTEM" in block)
    scope = {}
    exec(code, scope)
    example, model = scope["ECOSYSTEM"], model_of("resnet50-v1.5")
    theirs = example.from_ours(model.state, model.architecture)
    assert example.recognises(theirs) and theirs["conv1.weight"].shape == (7, 7, 3, 64)
    back = example.to_ours(theirs).state
    assert all(np.array_equal(back[name], array) for name, array in model.state.items())


# Names, for every network and ecosystem, without files


HAVING = [(name, eco) for name in NAMED for eco in ECOSYSTEMS if ecosystems()[eco].why_not(NAMED[name]) is None]


@pytest.mark.parametrize(("name", "ecosystem"), HAVING)
def test_there_and_back_every_number_is_the_same(name, ecosystem):
    eco, net = ecosystems()[ecosystem], named(name, classes=2)
    generator = np.random.default_rng(0)
    state = {
        key: np.array(5, np.int64) if key.endswith("num_batches_tracked") else generator.random(shape, np.float32)
        for key, shape in weight_shapes(net).items()
    }
    theirs = eco.from_ours(state, net)
    back = eco.to_ours({key.removeprefix("module."): array for key, array in theirs.items()}).state
    kept = {key: array for key, array in state.items() if key in back or not key.endswith("num_batches_tracked")}
    assert back.keys() == kept.keys()
    for key, array in kept.items():
        assert np.array_equal(back[key], array), key


@pytest.mark.parametrize("ecosystem", ECOSYSTEMS)
def test_each_has_a_network_that_it_can_have_and_one_that_it_cannot(ecosystem):
    answers = {name: ecosystems()[ecosystem].why_not(net) for name, net in NAMED.items()}
    assert None in answers.values()
    reasons = [answer for answer in answers.values() if answer is not None]
    assert len(reasons) > 10 and all(reason[0].islower() for reason in reasons)
    assert ecosystems()[ecosystem].why_not(named("preact-resnet50")) is not None
    assert ecosystems()[ecosystem].why_not(named("plain20")) is not None


@pytest.mark.parametrize("epsilon", [1e-3, 1.001e-5, 1e-5])
def test_another_epsilon_is_folded_into_the_scale(epsilon):
    model = model_of("resnet20", blocks=(1, 1, 1))
    other = Model(named("resnet20", blocks=(1, 1, 1), classes=3, norm_epsilon=epsilon), model.classes, HOW,
                  writing.with_epsilon(model, epsilon))  # fmt: skip
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert_close(other.network()(images).numpy(), model.network()(images).numpy())
    assert np.array_equal(other.state["bn1.running_var"], model.state["bn1.running_var"])
    assert np.array_equal(other.state["bn1.weight"], model.state["bn1.weight"]) == (epsilon != 1e-3)


# Files


@pytest.mark.parametrize(
    ("to", "out", "name"),
    [
        pytest.param("torchvision", "out.pth", "resnet18", marks=pytest.mark.slow),
        pytest.param("torchvision", "out.safetensors", "resnet50-v1.5", marks=pytest.mark.slow),
        ("timm", "out", "resnet18"),
        pytest.param("timm", "out.safetensors", "resnet50d", marks=pytest.mark.slow),
        ("cifar", "out.th", "resnet20"),
    ],
)
def test_to_another_ecosystem_and_back(tmp_path, to, out, name):
    model = model_of(name, how=HOW if name != "resnet20" else Preprocessing(size=32, crop=1.0))
    path = model.save(tmp_path / "ours.safetensors")
    certificate = convert(path, tmp_path / out, to=to, licence="cc-by-4.0")
    folder = (tmp_path / out).is_dir()
    written = (tmp_path / out / "certificate.json") if folder else tmp_path / f"{out}.certificate.json"
    assert json.loads(written.read_text()) == json.loads(json.dumps(certificate))
    (target,) = certificate["proofs"]
    assert certificate["proof"] == ("round trip" if to == "cifar" else "parity") == target["kind"]
    if to != "cifar":
        assert target["logits"]["relative"] < 1e-4 and target["top1_agreement"] == 1
    again = convert(tmp_path / out, tmp_path / "again.safetensors", ecosystem=to)
    back = load(tmp_path / "again.safetensors")
    assert again["proof"] in ("parity", "round trip")
    assert back.architecture == model.architecture
    assert back.sha256 == model.sha256
    if folder:
        assert back.classes == model.classes
        assert back.preprocessing == model.preprocessing
        assert "cc-by-4.0" in (tmp_path / out / "README.md").read_text()
    left = {path.name for path in tmp_path.iterdir()}
    assert not any(name.startswith(".") for name in left)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_is_kept_where_asked_for(tmp_path, kind):
    model = model_of("resnet18")
    state = {
        name: torch.from_numpy(x).to(getattr(torch, kind)) if x.ndim else torch.from_numpy(x)
        for name, x in model.state.items()
    }
    save_file(state, tmp_path / "half.safetensors")
    convert(tmp_path / "half.safetensors", tmp_path / "kept.pth", to="torchvision", keep_half=True, check=False)
    kept = torch.load(tmp_path / "kept.pth", weights_only=True)
    assert all(torch.equal(kept[name], x) and kept[name].dtype == x.dtype for name, x in state.items())
    convert(tmp_path / "half.safetensors", tmp_path / "kept.safetensors", to="torchvision", keep_half=True, check=False)
    convert(tmp_path / "half.safetensors", tmp_path / "wide.safetensors", to="torchvision", check=False)
    assert all(array.dtype in (np.float32, np.int64) for array in load_file(tmp_path / "wide.safetensors").values())
    with pytest.raises(ValueError, match="weights for resnets are float32"):
        convert(tmp_path / "half.safetensors", tmp_path / "x.safetensors", keep_half=True)


def test_without_the_library_a_round_trip_is_the_proof(tmp_path, monkeypatch):
    absent(monkeypatch)
    path = model_of("resnet18").save(tmp_path / "ours.safetensors")
    certificate = convert(path, tmp_path / "out", to="timm")
    assert certificate["proof"] == "round trip"
    assert certificate["proofs"] == [
        {"of": "target", "kind": "round trip", "weights": 122, "numbers_changed": 0, "relative": 0.0}
    ]
    assert convert(tmp_path / "out", tmp_path / "b.safetensors")["proof"] == "round trip"


def test_without_a_check_the_certificate_says_so(tmp_path):
    path = model_of("resnet18").save(tmp_path / "ours.safetensors")
    certificate = convert(path, tmp_path / "out.pth", to="torchvision", check=False)
    assert certificate["proof"] == "none" and certificate["proofs"] == []


def test_a_wrong_number_fails_the_proof_and_leaves_nothing(tmp_path, monkeypatch):
    path = model_of("resnet18").save(tmp_path / "ours.safetensors")
    right = writing.their_state

    def wrong(model, ecosystem):
        state = right(model, ecosystem)
        return {**state, "layer2.0.bn1.running_mean": state["layer2.0.bn1.running_mean"] + 0.1}

    monkeypatch.setattr(writing, "their_state", wrong)
    with pytest.raises(WorkFailed, match="torchvision gets other logits from it: they differ by"):
        convert(path, tmp_path / "out.pth", to="torchvision")
    absent(monkeypatch)
    with pytest.raises(WorkFailed, match="numbers didn't come back as they were"):
        convert(path, tmp_path / "out.pth", to="torchvision")
    assert [path.name for path in tmp_path.iterdir()] == ["ours.safetensors"]


def test_another_preprocessing_fails_the_proof(tmp_path, monkeypatch):
    path = model_of("resnet18").save(tmp_path / "ours.safetensors")
    timm = ecosystems()["timm"]

    def wrong(model):
        files = timm.configuration(model)
        files["config.json"]["pretrained_cfg"]["mean"] = [0.485, 0.456, 0.406]
        return files

    from dataclasses import replace

    monkeypatch.setitem(ecosystems(), "timm", replace(timm, configuration=wrong))
    with pytest.raises(WorkFailed, match=r"prepares images otherwise: by .* levels"):
        convert(path, tmp_path / "out", to="timm")
    assert [path.name for path in tmp_path.iterdir()] == ["ours.safetensors"]


@pytest.mark.parametrize(
    ("to", "out", "said"),
    [
        ("torchvision", "out", "written as .pth, .safetensors, not as out"),
        ("timm", "out.zip", r"written as .*not as out.zip"),
        ("resnets", "out.pth", "written as .safetensors, not as out.pth"),
        ("keras", "out.pth", "written as .weights.h5, .keras, .h5, not as out.pth"),
        ("keras", "out.weights.h5", "can't have this network"),
        ("tensorflow", "out", "can't have this network"),
        ("caffe", "out", "--to is one of resnets, cifar"),
        ("torchvision", "no/out.pth", "there is no folder"),
        ("torchvision", "ours.safetensors", "exists; remove it"),
    ],
)
def test_what_cannot_be_written_is_said_first(tmp_path, to, out, said):
    path = model_of("resnet18").save(tmp_path / "ours.safetensors")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=said):
        convert(path, tmp_path / out, to=to)
    assert [path.name for path in tmp_path.iterdir()] == ["ours.safetensors"]
    assert path.read_bytes() == before


def test_an_empty_folder_may_be_filled_and_another_not(tmp_path):
    path = model_of("resnet18").save(tmp_path / "ours.safetensors")
    (tmp_path / "out").mkdir()
    convert(path, tmp_path / "out", to="timm", check=False)
    with pytest.raises(ValueError, match="exists"):
        convert(path, tmp_path / "out", to="timm", check=False)


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    path = model_of("resnet18").save(tmp_path / "ours.safetensors")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        convert(path, tmp_path / "out", to="timm", check=False)
    assert [path.name for path in tmp_path.iterdir()] == ["ours.safetensors"]


def test_weights_that_are_no_numbers_still_convert_and_say_so(tmp_path):
    model = model_of("resnet18")
    state = {**model.state, "fc.bias": model.state["fc.bias"] * np.nan}
    path = Model(model.architecture, model.classes, HOW, state).save(tmp_path / "ours.safetensors")
    certificate = convert(path, tmp_path / "out.safetensors", to="torchvision")
    assert certificate["not_finite"] == 3 and certificate["proof"] == "round trip"


# The command line


def test_the_command(tmp_path, capsys):
    torch.save(network("resnet50-v1.5", seed=0, classes=3).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(SystemExit) as stopped:
        main(["convert", str(tmp_path / "weights.pth"), str(tmp_path / "out.safetensors")])
    assert stopped.value.code == 2
    assert "--from torchvision" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["convert", str(tmp_path / "weights.pth"), str(tmp_path / "out.safetensors"), "--from", "torchvision"])
    assert stopped.value.code == 0
    said = capsys.readouterr()
    assert "resnet50-v1.5" in said.out and "gets the same logits" in said.out and "--preprocessing" in said.err
    with pytest.raises(SystemExit) as stopped:
        main(["convert", str(tmp_path / "out.safetensors"), str(tmp_path / "back.pth"), "--to", "torchvision", "--json",
              "--no-check"])  # fmt: skip
    assert stopped.value.code == 0
    document = json.loads(capsys.readouterr().out)
    assert document["proof"] == "none"
    assert torch.equal(torch.load(tmp_path / "back.pth", weights_only=True)["fc.bias"],
                       torch.load(tmp_path / "weights.pth", weights_only=True)["fc.bias"])  # fmt: skip


def test_predicting_images_with_a_model_of_unknown_preprocessing_asks_for_it(tmp_path, capsys):
    model_of("resnet18", how=None).save(tmp_path / "ours.safetensors")
    from PIL import Image

    Image.new("RGB", (50, 50)).save(tmp_path / "photo.png")
    for given, status in (([], 2), (["--preprocessing", "imagenet"], 0)):
        with pytest.raises(SystemExit) as stopped:
            main(["predict", str(tmp_path / "ours.safetensors"), str(tmp_path / "photo.png"), *given])
        assert stopped.value.code == status
    assert "--preprocessing" in capsys.readouterr().err


def test_a_conversion_without_pytorch_files_needs_no_pytorch(tmp_path):
    path = model_of("resnet18").save(tmp_path / "ours.safetensors")
    code = (
        "import sys, resnets\n"
        f"resnets.convert({str(path)!r}, {str(tmp_path / 'out')!r}, to='timm', check=False)\n"
        f"resnets.convert({str(tmp_path / 'out')!r}, {str(tmp_path / 'back.safetensors')!r}, check=False)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert load(tmp_path / "back.safetensors").sha256 == load(path).sha256


def test_training_starts_from_what_convert_reads(tmp_path):
    from PIL import Image

    for number in range(8):
        (tmp_path / "photos" / f"class {number % 2}").mkdir(parents=True, exist_ok=True)
        Image.effect_noise((40, 40), 50 + 20 * (number % 2)).save(
            tmp_path / "photos" / f"class {number % 2}" / f"{number}.png"
        )
    convert(model_of("resnet18", classes=2, how=Preprocessing(size=32, crop=1.0)).save(tmp_path / "m.safetensors"),
            tmp_path / "timm", to="timm", check=False)  # fmt: skip
    trained = resnets.train(
        tmp_path / "photos", init=str(tmp_path / "timm"), epochs=1, recipe="quick", out=str(tmp_path / "run")
    )
    assert trained.architecture == named("resnet18", classes=2)
    assert trained.preprocessing is not None and trained.preprocessing.size == 32


def test_every_option_of_the_command_is_one_of_the_function(tmp_path):
    path = model_of("resnet18").save(tmp_path / "ours.safetensors")
    with pytest.raises(TypeError):
        convert(path, tmp_path / "x.safetensors", nonsense=1)
    assert read(path, Wishes()).model.classes


def test_crops_that_lie_a_pixel_apart_are_no_other_preprocessing():
    generator = np.random.default_rng(0)
    ours = generator.random((2, 3, 32, 32), np.float32)
    scale = np.full((3, 1, 1), 255, np.float32)
    assert proof._levels(ours, np.roll(ours, (1, -1), (2, 3)), scale).max() == 0
    assert proof._levels(ours, np.roll(ours, 2, 2), scale).mean() > 20
    assert proof._levels(ours, ours + 0.1, scale).mean() == pytest.approx(25.5, rel=1e-3)
