"""`resnets bench predict`: a row for each engine and precision, and the page."""

import json

import pytest
from test_prediction import tiny

from resnets.bench import prediction
from resnets.cli import main
from resnets.data.preprocessing import Preprocessing
from resnets.exporting import export

GREY = Preprocessing(size=32, crop=1.0, colour="grey", mean=(0.4,), deviation=(0.2,))


@pytest.fixture(autouse=True)
def for_a_moment(tmp_path, monkeypatch):
    """Speeds are measured for a moment."""
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(prediction, "latency", lambda engine, batch: 0.001 * bool(engine(batch)))
    monkeypatch.setattr(prediction, "throughput", lambda engine, batch, n, seconds: 100.0 * n * bool(engine(batch)))


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return left.value.code, capsys.readouterr()


def test_engines_and_sizes(tmp_path, capsys):
    model = tiny(GREY).save(tmp_path / "tiny.safetensors")
    status, said = run(capsys, "bench", "predict", model, "--sizes", "24", "--json", "--out", tmp_path / "page.html")
    rows = json.loads(said.out)["rows"]
    assert status == 0 and "no int8 without --data" in said.err
    assert {(row["engine"], row["size"]) for row in rows} == {
        (engine, size) for engine in ("openvino", "onnxruntime", "torch") for size in (32, 24)
    }
    assert all(row["images_per_second"] == 3200 and row["batch"] == 32 and row["top1"] is None for row in rows)
    assert "openvino float32, 24" in (tmp_path / "page.html").read_text()


def test_with_data_there_are_accuracies_and_int8(tmp_path, capsys):
    from dataclasses import replace

    model = replace(tiny(GREY), classes=("0", "1", "2")).save(tmp_path / "tiny.safetensors")
    status, said = run(capsys, "bench", "predict", model, "--data", "digits", "--json", "--out", tmp_path / "page.html")
    rows = json.loads(said.out)["rows"]
    assert status == 0 and "int8" in {row["precision"] for row in rows}
    assert all(0 <= row["top1"] <= 1 and row["images"] > 0 for row in rows)
    assert "top-1 by milliseconds" in (tmp_path / "page.html").read_text()
    status, said = run(capsys, "bench", "predict", model)
    assert status == 0 and "images/s" in said.out


def test_a_page_that_cannot_be_written_is_said_first(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(prediction, "open_model", None)
    status, said = run(capsys, "bench", "predict", tmp_path / "m.safetensors", "--out", tmp_path / "none" / "x.html")
    assert status == 2 and "there is no folder" in said.err


def test_an_export_is_measured_as_it_is(tmp_path, capsys):
    out = export(tiny(GREY), tmp_path / "out", format="openvino", input="crops")
    status, said = run(capsys, "bench", "predict", out, "--json")
    (row,) = json.loads(said.out)["rows"]
    assert status == 0 and row["engine"] == "openvino"
    status, said = run(capsys, "bench", "predict", out, "--sizes", "24")
    assert status == 2 and "one input size" in said.err
