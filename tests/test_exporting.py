"""Exports: each file in its own runtime gives the model's answers, and proves it; what doesn't leaves nothing behind."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import openvino as ov
import pytest
import torch
from PIL import Image
from random_norms import randomised

import resnets
from resnets import metrics
from resnets.data.preprocessing import Preprocessing, crop, normalise
from resnets.data.synthetic import synthetic
from resnets.errors import WorkFailed
from resnets.exporting import certificate, export, making, read_certificate, verify
from resnets.exporting import pictures as exporting_pictures
from resnets.exporting.pictures import real
from resnets.model import Model
from resnets.prediction.exported import Exported, open_model
from resnets.prediction.predictor import Predictor

CLASSES = ("cat", "dog", "großer Uhu")
HOW = Preprocessing(size=32, crop=0.8)
WAYS = [
    ("openvino", "float32", "image"), ("openvino", "float32", "crops"), ("openvino", "float32", "tensor"),
    ("openvino", "bf16", "image"), ("onnx", "float32", "image"), ("onnx", "float32", "crops"), ("onnx", "float32", "tensor"),
    ("torch", "float32", "image"), ("torch", "float32", "crops"), ("torch", "bf16", "tensor"),
]  # fmt: skip


@cache
def tiny(how=HOW):
    """A small network of random weights whose head makes each class likeliest of some images."""
    net = randomised(resnets.network("resnet20", classes=3, channels=how.channels, seed=0), size=32)
    with torch.inference_mode():
        logits = net(torch.from_numpy(normalise(np.stack([crop(image, how) for image in pictures(how)]), how)))
        net.fc.weight /= logits.std(0)[:, None]
        net.fc.bias.copy_((net.fc.bias - logits.mean(0)) / logits.std(0))
    state = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    return Model(net.architecture, CLASSES, how, state, accuracy={"top1": 0.5, "images": 2, "split": "test"})


def pictures(how=HOW, count=40):
    """Smooth images of several shapes."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (count, 5, 6, 3), np.uint8)
    sizes = [(48, 40), (40, 48), (64, 33), (200, 150)]
    return [np.asarray(Image.fromarray(x).resize(sizes[i % 4]))[..., : how.channels] for i, x in enumerate(coarse)]


@pytest.fixture
def photos(tmp_path):
    """Files in class folders, labelled by chance."""
    for number, image in enumerate(pictures()):
        path = tmp_path / "photos" / CLASSES[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path / "photos"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def no_timing(monkeypatch):
    """Speeds are measured for a moment."""
    monkeypatch.setattr(certificate, "latency", lambda engine, batch: float(bool(engine(batch))))
    monkeypatch.setattr(certificate, "throughput", lambda engine, batch, images: 100.0 * bool(engine(batch)))


@pytest.mark.parametrize(("format", "precision", "input"), WAYS)
def test_an_export_is_a_model_that_predicts_the_same(format, precision, input, tmp_path):
    out = export(tiny(), tmp_path / "out", format=format, precision=precision, input=input)
    assert {path.name for path in tmp_path.iterdir()} <= {"out", "cache"}
    images = pictures()
    ours = list(resnets.predict(tiny(), images, precision="float32", engine="openvino"))
    theirs = list(resnets.predict(out, images))
    most = {"float32": 0.005, "bf16": 0.05}[precision]
    for mine, other in zip(ours, theirs, strict=True):
        assert dict(other.top(3)).keys() == set(CLASSES)
        assert all(abs(dict(mine.top(3))[name] - score) <= most for name, score in other.top(3))
    found = read_certificate(out)
    assert (found["format"], found["precision"], found["input"]) == (format, precision, input)
    assert found["model"]["classes"] == list(CLASSES)
    assert found["synthetic"]["top1_agreement"] == 1
    assert found["files"].keys() == {path.name for path in out.iterdir()} - {"certificate.json"}
    assert verify(out)["reference"]["top1_agreement"] == 1


@pytest.mark.parametrize("how", [
    replace(HOW, fit="pad", crop=1.0), replace(HOW, fit="squash", crop=1.0, interpolation="bicubic", colour="BGR"),
    replace(HOW, antialias=False), replace(HOW, colour="grey", mean=(0.4,), deviation=(0.2,)),
    replace(HOW, scale=1.0, mean=(123.0, 117.0, 104.0), deviation=(1.0, 1.0, 1.0), colour="BGR"),
], ids=["pad", "squash-bicubic-bgr", "no-antialias", "grey", "caffe"])  # fmt: skip
@pytest.mark.parametrize("format", ["openvino", "onnx", pytest.param("torch", marks=pytest.mark.slow)])
def test_every_preprocessing_goes_along(format, how, tmp_path):
    out = export(tiny(how), tmp_path / "out", format=format)
    ours = list(resnets.predict(tiny(how), pictures(how), precision="float32"))
    theirs = list(resnets.predict(out, pictures(how)))
    assert all(mine.labels[0] == other.labels[0] for mine, other in zip(ours, theirs, strict=True))
    assert max(abs(mine.scores[0] - other.scores[0]) for mine, other in zip(ours, theirs, strict=True)) < 0.02


def test_lanczos_goes_along_with_crops_alone(tmp_path):
    model = tiny(replace(HOW, interpolation="lanczos"))
    for format in ("openvino", "onnx", "torch"):
        with pytest.raises(ValueError, match=r"lanczos.*--input crops"):
            export(model, tmp_path / "out", format=format)
    assert export(model, tmp_path / "out", format="openvino", input="crops").is_dir()


def odd_files(folder):
    """A photo that lies on its side, one with transparency, 16-bit grey, a palette, and a text."""
    photo = Image.fromarray(pictures()[0])
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(folder / "side.jpg", exif=exif, quality=95)
    photo.convert("RGBA").resize((50, 40)).rotate(30).save(folder / "alpha.png")
    Image.fromarray((np.asarray(photo.convert("L")).astype(np.uint16)) * 257).save(folder / "deep.png")
    photo.convert("P").save(folder / "palette.gif")
    photo.convert("CMYK").save(folder / "print.jpg", quality=95)
    (folder / "text.jpg").write_text("no image")
    return sorted(folder.iterdir())


@pytest.mark.parametrize(("format", "input"), [("openvino", "image"), ("onnx", "image"), ("onnx", "tensor"),
                                               ("openvino", "crops"), ("torch", "image")])  # fmt: skip
def test_the_client_runs_the_file_alone(format, input, tmp_path):
    out = export(tiny(), tmp_path / "out", format=format, input=input)
    files = odd_files(tmp_path / "files")
    blocked = "resnets", "simplejpeg", *(() if format == "torch" else ("torch",))
    code = f"import sys, runpy; sys.modules.update(dict.fromkeys({blocked!r})); sys.argv[0] = {str(out / 'predict.py')!r}; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    answer = subprocess.run([sys.executable, "-c", code, *map(str, files), "--json"], cwd=tmp_path, capture_output=True,
                            text=True, check=False)  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    rows = json.loads(answer.stdout)
    expected = list(resnets.predict(tiny(), files, exact=True))
    assert [row["path"] for row in rows] == [str(path) for path in files]
    for row, mine in zip(rows, expected, strict=True):
        assert ("error" in row) == (mine.error is not None)
        if mine.error is None:
            assert row["labels"] == list(mine.labels)
            assert np.allclose(row["scores"], mine.scores, atol=0.01)


@pytest.mark.parametrize("input", ["image", "crops", "tensor"])
def test_an_export_mirrors_what_it_reads(input, tmp_path):
    out = export(tiny(), tmp_path / "out", format="onnx", input=input)
    squares = [image[:40, :40] for image in pictures()[::4]]

    def scores(images, **how):
        return np.array([[dict(found.top(3))[name] for name in CLASSES] for found in resnets.predict(out, images, **how)])

    there, back = scores(squares), scores([np.ascontiguousarray(image[:, ::-1]) for image in squares])
    assert np.abs(there - back).max() > 0.01
    np.testing.assert_allclose(scores(squares, mirror=True), (there + back) / 2, rtol=1e-3, atol=1e-4)


def test_an_image_file_takes_any_size_and_a_crops_file_any_number(tmp_path):
    whole = export(tiny(), tmp_path / "whole", format="openvino")
    compiled = ov.Core().compile_model(whole / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert [name for output in compiled.outputs for name in output.names] == ["probabilities", "logits", "features"]
    for shape in ((33, 70, 3), (400, 31, 3), (8, 8, 3)):
        answer = compiled([np.zeros(shape, np.uint8)])
        assert answer["probabilities"].shape == (1, 3) and abs(answer["probabilities"].sum() - 1) < 1e-5
    crops = export(tiny(), tmp_path / "crops", format="onnx", input="crops")
    import onnxruntime

    session = onnxruntime.InferenceSession(crops / "model.onnx", providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == ["images"]
    assert [output.name for output in session.get_outputs()] == ["probabilities", "logits", "features"]
    assert session.run(None, {"images": np.zeros((7, 32, 32, 3), np.uint8)})[0].shape == (7, 3)


def test_names_and_provenance_are_in_the_file(tmp_path):
    import onnxruntime

    onnx = export(tiny(), tmp_path / "onnx", format="onnx") / "model.onnx"
    said = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"]).get_modelmeta().custom_metadata_map
    assert json.loads(said["classes"]) == list(CLASSES)
    assert json.loads(said["resnets"])["sha256"] == tiny().sha256
    vino = ov.Core().read_model(export(tiny(), tmp_path / "vino", format="openvino") / "model.xml")
    assert json.loads(vino.get_rt_info("classes").astype(str)) == list(CLASSES)
    assert json.loads(vino.get_rt_info("resnets").astype(str))["preprocessing"]["size"] == 32


def test_bf16_takes_half_the_bytes(tmp_path):
    sizes = {}
    for precision in ("float32", "bf16"):
        sizes[precision] = (export(tiny(), tmp_path / precision, format="openvino", precision=precision)
                            / "model.bin").stat().st_size  # fmt: skip
    assert sizes["bf16"] < 0.55 * sizes["float32"]


def test_certified_on_the_users_images(photos, tmp_path):
    out = export(tiny(), tmp_path / "out", format="onnx", data=photos)
    measured = read_certificate(out)["real"]
    truth = resnets.evaluate(tiny(), photos, exact=True)
    assert measured["images"] == 40 and measured["part"] == "all"
    assert measured["accuracy"]["model"] == measured["accuracy"]["export"] == truth["top1"]
    assert measured["reduced_scale_decoding"]["probabilities"]["largest"] == 0  # small images are decoded in full
    assert resnets.evaluate(out, photos)["top1"] == truth["top1"]
    assert verify(out, photos)["real"] == {
        "top1": truth["top1"], "images": 40, "split": "all", "interval": truth["interval"], "data": "photos"}  # fmt: skip
    assert not any("40" in path.name or path.suffix == ".png" for path in out.iterdir()), "no photo of the user's"


def test_images_without_labels_are_certified_by_agreement(photos, tmp_path):
    (tmp_path / "flat").mkdir()
    for path in photos.rglob("*.png"):
        path.rename(tmp_path / "flat" / path.name)
    measured = read_certificate(export(tiny(), tmp_path / "out", format="openvino", data=tmp_path / "flat"))["real"]
    assert measured["accuracy"] == {"of": "agreement with the model", "model": 1, "export": 1, "drop": 0,
                                    "interval": [0, 0]}  # fmt: skip
    with pytest.raises(ValueError, match="nowhere"):
        export(tiny(), tmp_path / "other", format="openvino", data=tmp_path / "nowhere")


@pytest.mark.parametrize("most", [10, 10_000])
def test_verifying_measures_the_images_that_were_certified(most, photos, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(exporting_pictures, "MOST", most)
    out = export(tiny(), tmp_path / "out", format="openvino", data=photos)
    assert verify(out, photos)["real"]["images"] == min(most, 40)
    found = read_certificate(out)
    found["real"]["accuracy"]["export"] += 0.1
    (out / "certificate.json").write_text(json.dumps(found))
    with pytest.raises(WorkFailed, match=r"top-1 on photos \(all\) is .*, and was"):
        verify(out, photos)
    with caplog.at_level("INFO", "resnets"):
        found["real"]["data"] = "others"
        (out / "certificate.json").write_text(json.dumps(found))
        verify(out, photos)
    assert "isn't what was certified" in caplog.text
    (tmp_path / "flat").mkdir()
    for path in photos.rglob("*.png"):
        path.rename(tmp_path / "flat" / path.name)
    with pytest.raises(ValueError, match="has no labels"):
        verify(out, tmp_path / "flat")


def test_what_is_no_certificate_is_said(tmp_path):
    for said in ("{", "[]", "{}"):
        (tmp_path / "certificate.json").write_text(said)
        with pytest.raises(ValueError, match="no certificate of an export"):
            verify(tmp_path)


def test_data_of_no_image_is_refused(tmp_path):
    (tmp_path / "empty.csv").write_text("path\n")
    with pytest.raises(ValueError, match=r"empty\.csv names no image"):
        export(tiny(), tmp_path / "out", format="openvino", data=tmp_path / "empty.csv")


def test_a_file_that_predicts_something_else_is_no_export(monkeypatch, photos, tmp_path):
    from resnets.prediction.openvino import inputs

    right = inputs.of_image
    monkeypatch.setattr(inputs, "of_image", lambda net, how: right(net, replace(how, mean=(0.1, 0.1, 0.1))))
    for data in (None, photos):
        with pytest.raises(WorkFailed, match=r"differs from the model on (real|synthetic) images: a probability by 0"):
            export(tiny(), tmp_path / "out", format="openvino", data=data)
    assert {path.name for path in tmp_path.iterdir()} == {"photos"}


@pytest.mark.parametrize("name", ["model.xml", "model.bin", "predict.py", "reference.npz"])
def test_a_file_that_was_changed_is_found(name, tmp_path):
    out = export(tiny(), tmp_path / "out", format="openvino")
    content = bytearray((out / name).read_bytes())
    content[len(content) // 2] ^= 1
    (out / name).write_bytes(content)
    with pytest.raises(WorkFailed, match=f"{name} isn't the file that was certified"):
        verify(out)
    (out / name).unlink()
    with pytest.raises(WorkFailed, match=f"lacks {name}, which its certificate names"):
        verify(out)


def test_answers_that_differ_are_found_though_the_hashes_hold(tmp_path):
    out, other = (export(model, tmp_path / name, format="onnx") for name, model in
                  (("out", tiny()), ("other", tiny(replace(HOW, mean=(0.9, 0.2, 0.1))))))  # fmt: skip
    (out / "reference.npz").write_bytes((other / "reference.npz").read_bytes())
    found = read_certificate(out)
    found["files"]["reference.npz"] = read_certificate(other)["files"]["reference.npz"]
    (out / "certificate.json").write_text(json.dumps(found))
    with pytest.raises(WorkFailed, match="doesn't answer as it did"):
        verify(out)


@pytest.mark.parametrize(("how", "said"), [
    ({"format": "tflite"}, "onnx, openvino, torch, not 'tflite'"),
    ({"format": "onnx", "precision": "bf16"}, "float32 or int8"),
    ({"format": "torch", "precision": "int8"}, "float32 or bf16"),
    ({"format": "onnx", "input": "jpeg"}, "image, crops, tensor"),
    ({"format": "openvino", "precision": "int8"}, "--data"),
    ({"format": "openvino", "max_drop": -1}, "max-drop"),
])  # fmt: skip
def test_what_cannot_be_is_refused(how, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        export(tiny(), tmp_path / "out", **how)
    assert not (tmp_path / "out").exists()


def test_folders_in_use_and_models_without_preprocessing_are_refused(tmp_path):
    (tmp_path / "out").mkdir()
    export(tiny(), tmp_path / "out", format="openvino")
    with pytest.raises(ValueError, match="isn't empty"):
        export(tiny(), tmp_path / "out", format="openvino")
    with pytest.raises(ValueError, match="no folder"):
        export(tiny(), tmp_path / "no" / "out", format="openvino")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="is a file"):
        export(tiny(), tmp_path / "file", format="openvino")
    with pytest.raises(ValueError, match="how its images are prepared"):
        export(replace(tiny(), preprocessing=None), tmp_path / "new", format="openvino")
    with pytest.raises(ValueError, match=r"it has no certificate\.json"):
        verify(tiny().save(tmp_path / "m.safetensors"))


def test_an_export_runs_as_what_it_is(tmp_path):
    out = export(tiny(), tmp_path / "out", format="onnx")
    model = open_model(out)
    assert isinstance(model, Exported) and model.classes == CLASSES
    assert Predictor(model, engine="onnxruntime").precision == "float32"
    with pytest.raises(ValueError, match="an export for onnxruntime, which openvino doesn't run"):
        Predictor(model, engine="openvino")
    with pytest.raises(ValueError, match="carries float32, not int8"):
        Predictor(model, precision="int8")
    (out / "certificate.json").write_text("{}")
    with pytest.raises(ValueError, match="no certificate of an export: it lacks 'model'"):
        open_model(out)


@pytest.mark.parametrize("format", ["openvino", "onnx"])
def test_int8_is_calibrated_measured_and_kept(format, photos, tmp_path, caplog):
    out = export(tiny(), tmp_path / "out", format=format, precision="int8", input="crops", data=photos, max_drop=100)
    found = read_certificate(out)
    assert found["int8_speed_up"] == 1
    assert found["real"]["top1_agreement"] >= 0.8
    assert found["real"]["accuracy"]["of"] == "labels"
    weights = out / ("model.bin" if format == "openvino" else "model.onnx")
    plain = export(tiny(), tmp_path / "plain", format=format, input="crops") / weights.name
    assert weights.stat().st_size < 0.6 * plain.stat().st_size
    assert Predictor(open_model(out)).precision == "int8"
    with caplog.at_level("INFO", "resnets"):
        export(tiny(), tmp_path / "again", format=format, precision="int8", input="image", data=photos, max_drop=100)
    assert "int8 network from the cache" in caplog.text
    assert "times as fast as float32" in caplog.text  # the fixture's speeds are all the same
    with pytest.raises(WorkFailed, match="--require-faster"):
        export(tiny(), tmp_path / "slow", format=format, precision="int8", data=photos, max_drop=100, require_faster=True)


def test_other_networks_of_the_same_weights_are_not_each_others_and_no_cache_is_no_failure(
    photos, tmp_path, monkeypatch, caplog
):
    how = {"format": "openvino", "precision": "int8", "input": "crops", "data": photos, "max_drop": 100}
    export(tiny(), tmp_path / "one", **how)
    other = replace(tiny(), architecture=replace(tiny().architecture, norm_epsilon=0.5))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "file"))
    with caplog.at_level("INFO", "resnets"):
        export(other, tmp_path / "two", **how)
    assert "from the cache" not in caplog.text and "isn't kept in the cache" in caplog.text
    assert read_certificate(tmp_path / "two")["real"]["top1_agreement"] >= 0.8


def test_int8_that_costs_too_much_is_tried_with_care_then_refused(photos, tmp_path, monkeypatch):
    tried = []

    def with_care(network, format, tensors, identity, checked, most):
        tried.append((len(checked), most))
        return network

    monkeypatch.setattr(making, "quantised_with_care", with_care)
    monkeypatch.setattr(metrics, "paired_drop", lambda before, after: (0.2, 0.1, 0.3))
    with pytest.raises(WorkFailed, match=r"a drop of 20.00 points \(95% interval 10.00 to 30.00\); --max-drop is 0.5"):
        export(tiny(), tmp_path / "out", format="openvino", precision="int8", data=photos)
    assert tried == [(40, 0.005)]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("format", ["openvino", "onnx"])
def test_accuracy_control_works(format, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(certificate, "too_much", lambda measured, most: not (tmp_path / "second").exists())
    true_care = making.quantised_with_care

    def with_care(*how):
        (tmp_path / "second").touch()
        return true_care(*how)

    monkeypatch.setattr(making, "quantised_with_care", with_care)
    out = export(tiny(), tmp_path / "out", format=format, precision="int8", input="crops", data=photos)
    assert read_certificate(out)["real"]["top1_agreement"] >= 0.9


def test_synthetic_images_are_always_the_same():
    first, second = synthetic(HOW), synthetic(HOW)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert len(first) <= 16 and {image.dtype for image in first} == {np.dtype(np.uint8)}


def test_calibration_takes_other_images_than_are_measured():
    grey = replace(HOW, colour="grey", mean=(0.4,), deviation=(0.2,))
    found = real(replace(tiny(grey), classes=("0", "1", "2")), "digits")
    measured = {reader.args for reader in found.readers}
    assert found.labels is not None and set(found.labels) == {0, 1, 2}
    assert not measured & {reader.args for reader in found.calibration}


def test_calibration_takes_images_of_every_class_where_all_are_measured(photos):
    found = real(tiny(), photos)
    of = {reader.args: label for reader, label in zip(found.readers, found.labels, strict=True)}
    assert sorted(of) == sorted(reader.args for reader in found.calibration)
    assert {of[reader.args] for reader in found.calibration[:12]} == {0, 1, 2}


def test_a_drop_is_paired():
    before, after = np.array([1, 1, 1, 0] * 25, bool), np.array([1, 1, 0, 0] * 25, bool)
    drop, low, high = metrics.paired_drop(before, after)
    assert drop == 0.25 and low == pytest.approx(0.25 - 1.96 * np.sqrt(0.25 * 0.75 / 100), abs=1e-4) and high > drop
    assert metrics.paired_drop(before, before) == (0, 0, 0)


def test_from_the_command_line(photos, tmp_path, capsys):
    from resnets.cli import main

    def run(*arguments):
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        return left.value.code, capsys.readouterr()

    model = tiny().save(tmp_path / "tiny.safetensors")
    status, said = run("export", model, "--format", "openvino", "--data", photos, "--out", tmp_path / "out")
    assert status == 0 and "top-1 agrees on 100.00%" in said.out
    status, said = run("export", "--verify", tmp_path / "out", "--json")
    assert status == 0 and json.loads(said.out)["reference"]["images"] == 12
    for beside, name in (([model], "MODEL"), (["--input", "image"], "--input"), (["--max-drop", "1"], "--max-drop")):
        status, said = run("export", "--verify", tmp_path / "out", *beside)
        assert status == 2 and f"leave {name} out" in said.err
    status, said = run("export", model, "--out", tmp_path / "two")
    assert status == 2 and "--format" in said.err
    status, said = run("predict", tmp_path / "out", photos, "--json")
    assert status == 0 and len(json.loads(said.out)) == 40
    status, said = run("predict", model, photos, "--precision", "int8")
    assert status == 2 and "resnets export MODEL --format openvino --precision int8" in said.err
    (tmp_path / "out" / "model.bin").write_bytes(b"")
    status, said = run("export", "--verify", tmp_path / "out")
    assert status == 1 and "model.bin" in said.err
