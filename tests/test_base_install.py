"""What the base install does alone. CI also runs this file in an environment without PyTorch: `make test-base`."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from resnets.architecture import named
from resnets.data.preprocessing import Preprocessing
from resnets.graph import weight_shapes
from resnets.model import Model


def resnets(*arguments, **how):
    """The command, in a process of its own that can't import PyTorch, installed or not."""
    code = "import sys; sys.modules['torch'] = None; from resnets.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False, **how
    )


@pytest.fixture
def model(tmp_path):
    generator = np.random.default_rng(0)
    net = named("resnet20", classes=3)
    state = {name: generator.normal(0, 0.1, shape).astype(np.float32) for name, shape in weight_shapes(net).items()}
    state |= {name: abs(array) + 0.5 for name, array in state.items() if name.endswith("running_var")}
    how = Preprocessing(size=32, crop=1.0)
    return Model(net, ("ant", "bee", "cat"), how, state).save(tmp_path / "animals.safetensors")


@pytest.fixture
def photos(tmp_path):
    generator = np.random.default_rng(1)
    for name in ("ant", "bee"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(4):
            pixels = generator.integers(0, 256, (40, 50, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.jpg")
    return tmp_path / "photos"


def test_table_says_the_exact_counts():
    rows = json.loads(resnets("table", "--json").stdout)
    assert [row["parameters"] for row in rows] == [11_689_512, 21_797_672, 25_557_032, 44_549_160, 60_192_808]
    assert rows[2] == rows[2] | {"name": "resnet50", "depth": 50, "macs": 3_857_973_248, "paper_flops": 3.8e9}
    assert "3,857,973,248" in resnets("table").stdout
    assert "preact-resnet110" in resnets("table", "--all").stdout


def test_summary_of_a_name_and_of_a_model(model):
    assert "[64, 112, 112]" in resnets("summary", "resnet50").stdout
    said = resnets("summary", model).stdout
    assert "classes: ant, bee, cat" in said
    assert json.loads(resnets("summary", model, "--json").stdout)["classes"] == ["ant", "bee", "cat"]


def test_predict_answers_in_order_and_names_what_failed(model, photos):
    (photos / "bee" / "note.jpg").write_text("no image")
    answer = resnets("predict", model, photos, "--top", "2", "--json")
    rows = json.loads(answer.stdout)
    assert answer.returncode == 0
    assert [row["path"] for row in rows] == sorted(str(path) for path in photos.rglob("*.jpg"))
    assert "1 of 9 images couldn't be read" in answer.stderr
    good = [row for row in rows if "error" not in row]
    assert len(good) == 8
    assert all(len(row["labels"]) == 2 and row["scores"][0] >= row["scores"][1] for row in good)


def test_predict_fails_where_nothing_can_be_read(model, tmp_path):
    answer = resnets("predict", model, tmp_path / "nothing.jpg", "--json")
    assert answer.returncode == 1
    assert "No such file" in json.loads(answer.stdout)[0]["error"]


def test_predict_writes_a_table(model, photos, tmp_path):
    assert resnets("predict", model, photos, "--out", tmp_path / "labels.csv", "--top", "2").returncode == 0
    lines = (tmp_path / "labels.csv").read_text().splitlines()
    assert lines[0] == "path,label,score,label_2,score_2,error"
    assert len(lines) == 9


def test_evaluate(model, photos, tmp_path):
    answer = resnets("evaluate", model, photos, "--json", "--out", tmp_path / "report")
    figures = json.loads(answer.stdout)
    assert figures["images"] == 8
    assert figures["split"] == "all"
    assert 0 <= figures["top1"] <= 1
    assert figures["top5"] == 1
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"metrics.json", "predictions.csv", "report.html"}


def test_train_says_what_to_install(photos):
    answer = resnets("train", photos)
    assert answer.returncode == 1
    assert 'pip install "resnets[train]"' in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["summary", "resnet51"], "did you mean resnet"),
        (["summary", "resnet50", "--input", "16"], "from 32×32 pixels up"),
        (["predict", "missing.safetensors", "x.jpg"], "there is no file missing.safetensors"),
        (["predict", "{model}", "{photos}", "--top", "0"], "top is at least 1"),
        (["predict", "{model}", "{photos}", "--above", "7"], "above is a score from 0 to 1"),
        (["predict", "{model}", "{photos}", "--out", "x.txt"], ".parquet, .csv, .jsonl"),
        (["predict", "{model}", "{photos}", "--precision", "int8"], "export"),
        (["evaluate", "{model}", "nowhere"], "there is no data at nowhere"),
        (["evaluate", "{model}", "digits"], "share no class"),
        (["evaluate", "{model}", "{photos}", "--out", "{model}"], "is a file; --out is a folder"),
        (["evaluate", "{model}", "{photos}", "--split", "test"], "has no split 'test'"),
    ],
)
def test_a_wrong_request_is_one_sentence_and_exits_2(arguments, said, model, photos):
    answer = resnets(*[argument.format(model=model, photos=photos) for argument in arguments])
    assert answer.returncode == 2
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr
    assert answer.stdout == ""


def test_a_flipped_byte_is_noticed(model, photos):
    content = bytearray(model.read_bytes())
    content[-1000] ^= 1
    model.write_bytes(content)
    answer = resnets("predict", model, photos)
    assert answer.returncode == 2
    assert "the file is damaged" in answer.stderr


def test_version_and_help():
    assert resnets("--version").stdout.startswith("resnets 0.")
    assert "evaluate" in resnets("--help").stdout
