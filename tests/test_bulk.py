import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny import CLASSES, HOW, photos_in, tiny

from resnets import machine, predict
from resnets.cli import main
from resnets.data.preprocessing import Preprocessing, named_preprocessing
from resnets.errors import WorkFailed
from resnets.prediction import bulk, predict_to
from resnets.prediction.paths import Part, listed
from resnets.prediction.predictor import Predictor
from resnets.prediction.preparing import prepared
from resnets.prediction.progress import BulkProgress
from resnets.prediction.record import Record
from resnets.prediction.tables import Layout, read_best
from resnets.prediction.timing import Plan

FORMATS = (".parquet", ".csv", ".jsonl")
IMAGES = 60
BROKEN = [number for number in range(IMAGES) if number % 10 == 7]


@pytest.fixture(scope="module")
def model():
    return tiny(HOW)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of 60 photos, 0.png … 59.png, of which 7.png, 17.png, … are text."""
    return photos_in(tmp_path_factory.mktemp("bulk") / "photos", broken=BROKEN)


@pytest.fixture(scope="module")
def model_file(model, photos):
    return model.save(photos.parent / "tiny.safetensors")


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch, tmp_path_factory):
    monkeypatch.setattr(bulk, "CHUNK", 8)
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path_factory.getbasetemp() / "no-cache"))  # no plan measured elsewhere


def rows_of(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    with path.open(newline="") as file:
        return [json.loads(line) for line in file] if path.suffix == ".jsonl" else list(csv.DictReader(file))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def command(*arguments):
    """The exit status of the command."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code


# What is written


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_row_an_image_in_order(model, photos, tmp_path, suffix):
    written = predict_to(model, [photos], tmp_path / f"labels{suffix}", top=2)
    assert names(tmp_path) == [f"labels{suffix}", f"labels{suffix}.json"]
    rows = rows_of(written.out)
    expected = list(predict(model, [photos], top=2))
    assert list(rows[0]) == ["path", "label", "score", "label_2", "score_2", "error"]
    assert [row["path"] for row in rows] == [answer.path for answer in expected]
    for row, answer in zip(rows, expected, strict=True):
        assert (row["error"] or None) == answer.error
        if answer.error is None:
            assert (row["label"], row["label_2"]) == answer.labels
            assert (float(row["score"]), float(row["score_2"])) == pytest.approx(answer.scores, abs=1e-5)
    assert [number for number, row in enumerate(rows) if row["error"]] == BROKEN
    assert (written.predicted, written.failed, written.already) == (IMAGES - len(BROKEN), len(BROKEN), 0)
    assert written.images_per_second > 0 and written.limit in ("decoding", "arithmetic")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("content", [[], ["7.png"], ["1.png"]])
def test_small_tables(model, photos, tmp_path, suffix, content):
    (tmp_path / "list.csv").write_text("\n".join(["path", *(str(photos / name) for name in content)]) + "\n")
    out = tmp_path / f"labels{suffix}"
    written = predict_to(model, tmp_path / "list.csv", out)
    assert [row["path"] for row in rows_of(out)] == [str(photos / name) for name in content]
    assert (written.predicted, written.failed) == (content.count("1.png"), content.count("7.png"))
    assert written.status() == (content == ["7.png"])


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_features(model, photos, tmp_path, suffix):
    rows = rows_of(predict_to(model, [photos], tmp_path / f"labels{suffix}", features=True).out)
    expected = list(predict(model, [photos], features=True))
    for row, answer in zip(rows, expected, strict=True):
        if answer.error is None:
            assert np.array_equal(np.array(row["features"], np.float32), answer.features)
        else:
            assert row["features"] is None
    assert list(rows[0])[-2:] == ["error", "features"]
    if suffix == ".parquet":
        assert str(pq.read_schema(tmp_path / "labels.parquet").field("features").type) == "list<element: float>"


def test_features_have_no_place_in_a_csv(model, photos, tmp_path):
    with pytest.raises(ValueError, match=r"labels\.parquet or labels\.jsonl"):
        predict_to(model, [photos], tmp_path / "labels.csv", features=True)
    assert names(tmp_path) == []


def test_settings_are_recorded_beside_and_in_the_parquet_file(model, photos, tmp_path):
    out = predict_to(model, [photos], tmp_path / "labels.parquet", top=2, above=0.1, exact=True).out
    beside = json.loads((tmp_path / "labels.parquet.json").read_text())
    assert beside.pop("finished") == {"predicted": IMAGES - len(BROKEN), "failed": len(BROKEN)}
    assert json.loads(pq.read_schema(out).metadata[b"resnets"]) == beside
    expected = {"format": 1, "model": model.sha256, "engine": "openvino", "exact": True, "mirror": False, "top": 2,
                "above": 0.1, "features": False, "part": None, "images": IMAGES, "preprocessing": HOW.to_json()}  # fmt: skip
    assert beside == beside | expected
    assert beside.keys() == expected.keys() | {"resnets", "network", "precision", "batch", "lanes", "chunk", "inputs"}
    assert pq.read_metadata(out).num_row_groups == -(-IMAGES // beside["chunk"])


@pytest.mark.parametrize(("batch", "chunk"), [(1, 8), (3, 6), (8, 8), (20, 20)])
def test_a_chunk_is_whole_batches(model, photos, tmp_path, batch, chunk):
    predict_to(model, [photos], tmp_path / "labels.csv", batch=batch)
    assert json.loads((tmp_path / "labels.csv.json").read_text())["chunk"] == chunk


@pytest.mark.parametrize(("least", "lanes"), [(IMAGES, 1), (IMAGES + 1, None)])
def test_many_images_have_their_plan_measured(model, photos, tmp_path, monkeypatch, least, lanes):
    monkeypatch.setattr(bulk, "MEASURED", least)
    monkeypatch.setattr(Predictor, "tune", lambda self: Plan(1, 2))
    predict_to(model, [photos], tmp_path / "labels.csv")
    settings = json.loads((tmp_path / "labels.csv.json").read_text())
    assert (settings["lanes"], settings["batch"]) == ((1, 2) if lanes else (machine.cores(), 8))


def test_batch_and_lanes_change_no_score(model, photos):
    images = [photos / f"{number}.png" for number in range(IMAGES) if number not in BROKEN]
    first = None
    for batch, lanes in ((8, 2), (1, 1), (7, 2), (16, 3)):
        found = np.stack([
            output.logits for output in Predictor(model, precision="float32", batch=batch, lanes=lanes)(images)
        ])  # fmt: skip
        first = found if first is None else first
        assert np.abs(found - first).max() < 1e-5


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads its memory as Linux tells it")
def test_an_image_of_100_megapixels_in_bounded_memory(model_file, tmp_path):
    Image.new("RGB", (10000, 10000), (200, 30, 30)).save(tmp_path / "large.png", compress_level=1)
    Image.new("RGB", (10000, 10000), (200, 30, 30)).save(tmp_path / "large.jpg")
    code = (
        "import sys; from resnets.prediction import predict_to;"
        "found = predict_to(*sys.argv[1:]); assert (found.predicted, found.failed) == (2, 0);"
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"  # ru_maxrss begins with the parent's
    )
    used = subprocess.run(
        [sys.executable, "-c", code, model_file, tmp_path, tmp_path / "labels.csv"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(used.stdout) < 2_000_000  # kilobytes


# Killed and given again

CHILD = """
import os, signal, sys
from resnets.prediction import bulk, predict_to

bulk.CHUNK = 8
model, photos, out, last = sys.argv[1:]
rename, count = os.replace, 0

def counting(source, target):
    global count
    count += 1
    if count == int(last):
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(source, target)

os.replace = counting
predict_to(model, [photos], out, features=not out.endswith(".csv"), batch=4)
print(count)
"""


def child(model_file, photos, out, last):
    """predict_to in a process of its own, killed before it renames for the `last`-th time."""
    arguments = [sys.executable, "-c", CHILD, *map(str, (model_file, photos, out, last))]
    return subprocess.run(arguments, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def undisturbed(model_file, photos, tmp_path_factory):
    """The bytes of the three tables and of their records, written in one go; and how often each was renamed to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    renames = {}
    for suffix in FORMATS:
        done = child(model_file, photos, folder / f"labels{suffix}", 0)
        assert done.returncode == 0, done.stderr
        renames[suffix] = int(done.stdout)
    return {path.name: path.read_bytes() for path in folder.iterdir()}, renames


@pytest.mark.parametrize(
    ("suffix", "place"), [(".parquet", 0.0), (".parquet", 0.5), (".parquet", 1.0), (".csv", 0.5), (".jsonl", 0.8)]
)
def test_a_kill_at_any_file_changes_no_byte(model_file, photos, tmp_path, undisturbed, suffix, place):
    expected, renames = undisturbed
    out = tmp_path / f"labels{suffix}"
    last = 1 + round(place * (renames[suffix] - 1))
    assert child(model_file, photos, out, last).returncode == -signal.SIGKILL
    assert not out.exists()
    assert child(model_file, photos, out, 0).returncode == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        name: content for name, content in expected.items() if name.startswith(out.name)
    }


def test_a_kill_from_outside_and_the_command_again(model_file, photos, tmp_path):
    (tmp_path / "list.csv").write_text("path\n" + "".join(f"{photos}/{number % IMAGES}.png\n" for number in range(1200)))
    code = "from resnets.prediction import bulk; bulk.CHUNK = 40; from resnets.cli import main; main()"

    def start(out):
        arguments = ["predict", model_file, tmp_path / "list.csv", "--out", out, "--engine", "auto"]
        return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stderr=subprocess.PIPE, text=True)

    whole = start(tmp_path / "whole.csv")
    assert "1200 rows" in whole.communicate()[1]
    killed = start(tmp_path / "killed.csv")
    while not (tmp_path / ".killed.csv.chunks" / "00002").exists():
        assert killed.poll() is None
        time.sleep(0.002)
    killed.kill()
    killed.communicate()
    assert not (tmp_path / "killed.csv").exists()
    again = start(tmp_path / "killed.csv")
    assert "of 1200 rows are there, going on" in again.communicate()[1]
    assert (tmp_path / "killed.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert names(tmp_path) == ["killed.csv", "killed.csv.json", "list.csv", "whole.csv", "whole.csv.json"]


def stopped(model, photos, out, monkeypatch, chunks=3, **how):
    """A run that ends when it comes to write its fourth chunk."""
    write = bulk.write_chunk

    def stopping(path, rows, layout):
        if int(path.name) == chunks:
            raise KeyboardInterrupt
        write(path, rows, layout)

    with monkeypatch.context() as patch:
        patch.setattr(bulk, "write_chunk", stopping)
        with pytest.raises(KeyboardInterrupt):
            predict_to(model, [photos], out, **how)


def test_it_goes_on_at_a_chunk_and_with_what_was_settled(model, photos, tmp_path, monkeypatch):
    out = tmp_path / "labels.csv"
    stopped(model, photos, out, monkeypatch, batch=4, lanes=1, engine="torch", precision="bf16")
    assert names(tmp_path / ".labels.csv.chunks") == ["00000", "00001", "00002", "lock"]
    monkeypatch.setattr(bulk, "CHUNK", 100)
    seen = []
    ours = Predictor._input
    monkeypatch.setattr(Predictor, "_input", lambda self, source: (seen.append(source), ours(self, source))[1])
    written = predict_to(model, [photos], out)
    assert len(seen) == IMAGES - 24 == IMAGES - written.already
    settings = json.loads((tmp_path / "labels.csv.json").read_text())
    assert settings == settings | {"batch": 4, "lanes": 1, "engine": "torch", "precision": "bf16", "chunk": 8}
    assert [row["path"] for row in rows_of(out)] == list(listed([photos]))


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_whole_table_is_left_alone(model_file, photos, tmp_path, suffix, capsys):
    out = tmp_path / f"labels{suffix}"
    assert command("predict", model_file, photos, "--out", out) == 0
    before = [(path.name, path.stat().st_mtime_ns) for path in sorted(tmp_path.iterdir())]
    capsys.readouterr()
    assert command("predict", model_file, photos, "--out", out, "--json") == 0
    said = capsys.readouterr()
    assert "nothing to do" in said.err
    document = json.loads(said.out)
    assert document == {"out": str(out), "predicted": IMAGES - len(BROKEN), "failed": len(BROKEN), "already": IMAGES,
                        "images_per_second": None, "limit": None}  # fmt: skip
    assert [(path.name, path.stat().st_mtime_ns) for path in sorted(tmp_path.iterdir())] == before


def test_a_table_that_was_taken_away_is_made_anew(model, photos, tmp_path):
    out = predict_to(model, [photos], tmp_path / "labels.csv").out
    content = out.read_bytes()
    out.unlink()
    assert predict_to(model, [photos], out).already == 0
    assert out.read_bytes() == content


def test_chunks_whose_record_is_gone_are_not_used(model, photos, tmp_path, monkeypatch):
    out = tmp_path / "labels.csv"
    stopped(model, photos, out, monkeypatch)
    (tmp_path / "labels.csv.json").unlink()
    assert predict_to(model, [photos], out, top=1).already == 0
    assert names(tmp_path) == ["labels.csv", "labels.csv.json"]
    assert len(rows_of(out)) == IMAGES


# Refused

OTHERS = {
    "top": ({"top": 3}, "top was 5 and is now 3"),
    "above": ({"above": 0.5}, "above was 0.0 and is now 0.5"),
    "features": ({"features": True}, "features was false and is now true"),
    "engine": ({"engine": "torch"}, 'engine was "openvino" and is now "torch"'),
    "batch": ({"batch": 3}, "batch was 8 and is now 3"),
    "lanes": ({"lanes": 7}, "and is now 7"),
    "exact": ({"exact": True}, "exact was false and is now true"),
    "mirror": ({"mirror": True}, "mirror was false and is now true"),
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("whole", [False, True])
def test_another_option_is_refused_with_the_difference(model, photos, tmp_path, monkeypatch, kind, whole):
    out = tmp_path / "labels.jsonl"
    if whole:
        predict_to(model, [photos], out)
    else:
        stopped(model, photos, out, monkeypatch)
    other, said = OTHERS[kind]
    with pytest.raises(ValueError, match=said):
        predict_to(model, [photos], out, **other)
    assert predict_to(model, [photos], out, precision="auto", engine="openvino").predicted == IMAGES - len(BROKEN)


def changed(model, kind):
    if kind == "weights":
        return replace(model, state={**model.state, "fc.bias": model.state["fc.bias"] + 1})
    if kind == "classes":
        return replace(model, classes=("a", "b", "c"))
    if kind == "preprocessing":
        return replace(model, preprocessing=replace(HOW, interpolation="bicubic"))
    return replace(model, architecture=replace(model.architecture, padding="same"))


@pytest.mark.parametrize(
    ("kind", "said"),
    [("weights", "model was "), ("classes", "network was "), ("preprocessing", '"bilinear"'), ("padding", "network was ")],
)
def test_another_model_is_refused(model, photos, tmp_path, monkeypatch, kind, said):
    stopped(model, photos, tmp_path / "labels.csv", monkeypatch)
    with pytest.raises(ValueError, match=said):
        predict_to(changed(model, kind), [photos], tmp_path / "labels.csv")


def test_other_images_are_refused(model, photos, tmp_path, monkeypatch):
    stopped(model, photos, tmp_path / "labels.csv", monkeypatch)
    with pytest.raises(ValueError, match=r"images was 60 and is now 1; inputs was \w{12} and is now"):
        predict_to(model, [photos / "1.png"], tmp_path / "labels.csv")
    backwards = list(reversed(listed([photos])))
    with pytest.raises(ValueError, match=r"otherwise: inputs was"):
        predict_to(model, backwards, tmp_path / "labels.csv")


def test_a_refusal_is_one_sentence_and_exits_2(model_file, photos, tmp_path, capsys):
    arguments = ["predict", model_file, photos, "--out", tmp_path / "labels.csv"]
    assert command(*arguments) == 0
    capsys.readouterr()
    assert command(*arguments, "--top", "2") == 2
    said = capsys.readouterr().err
    assert "top was 5 and is now 2" in said and "Traceback" not in said


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_of_someone_else_is_not_overwritten(model, photos, tmp_path, suffix):
    out = tmp_path / f"labels{suffix}"
    out.write_bytes(b"precious")
    with pytest.raises(ValueError, match=r"exists, and no labels\S+json beside it .* another --out"):
        predict_to(model, [photos], out)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(out.name, b"precious")]


@pytest.mark.parametrize("content", ["", "[]", "{}", "precious", "\x00"])
def test_a_record_that_is_none_is_not_overwritten(model, photos, tmp_path, content):
    (tmp_path / "labels.csv.json").write_text(content)
    with pytest.raises(ValueError, match=r"labels\.csv\.json is no record"):
        predict_to(model, [photos], tmp_path / "labels.csv")
    assert (tmp_path / "labels.csv.json").read_text() == content


def test_a_file_that_came_while_the_table_was_under_way(model, photos, tmp_path, monkeypatch):
    out = tmp_path / "labels.csv"
    stopped(model, photos, out, monkeypatch)
    out.write_text("precious")
    with pytest.raises(ValueError, match="came from elsewhere"):
        predict_to(model, [photos], out)
    assert out.read_text() == "precious"


@pytest.mark.parametrize("name", ["labels.txt", "none/labels.csv", "folder.csv"])
def test_where_no_table_can_be(model, photos, tmp_path, name):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError):
        predict_to(model, [photos], tmp_path / name)
    assert names(tmp_path) == ["folder.csv"]


def test_a_link_stays_and_what_it_points_to_is_written(model, photos, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "labels.csv").symlink_to(tmp_path / "elsewhere" / "table.csv")
    predict_to(model, [photos], tmp_path / "labels.csv")
    assert (tmp_path / "labels.csv").is_symlink()
    assert names(tmp_path / "elsewhere") == ["table.csv", "table.csv.json"]
    assert predict_to(model, [photos], tmp_path / "labels.csv").images_per_second is None


def test_two_writers(model, photos, tmp_path, monkeypatch):
    out = tmp_path / "labels.csv"
    stopped(model, photos, out, monkeypatch)
    with Record(out).locked(), pytest.raises(WorkFailed, match="another process is writing"):
        predict_to(model, [photos], out)
    assert predict_to(model, [photos], out).already == 24


def test_the_other_writer_finished_in_between(model, photos, tmp_path, monkeypatch):
    out = tmp_path / "labels.csv"
    ours = Record.locked

    def late(self):
        monkeypatch.setattr(Record, "locked", ours)
        predict_to(model, [photos], out)
        return ours(self)

    monkeypatch.setattr(Record, "locked", late)
    assert predict_to(model, [photos], out).images_per_second is None
    assert names(tmp_path) == ["labels.csv", "labels.csv.json"]


def test_a_full_disk_is_named_and_the_run_goes_on_after(model_file, model, photos, tmp_path, monkeypatch, capsys):
    out = tmp_path / "labels.parquet"
    synced = 0

    def full(descriptor):
        nonlocal synced
        synced += 1
        if synced > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert command("predict", model_file, photos, "--out", out) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert not out.exists()
    assert predict_to(model_file, [photos], out).already == 24
    predict_to(model, [photos], tmp_path / "whole.parquet")
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


# Parts


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("parts", [1, 4, 7])
def test_parts_are_the_whole(model, photos, tmp_path, suffix, parts):
    whole = rows_of(predict_to(model, [photos], tmp_path / f"whole{suffix}").out)
    found = []
    for number in range(1, parts + 1):
        written = predict_to(model, [photos], tmp_path / f"labels{suffix}", part=f"{number}/{parts}")
        assert written.out.name == f"labels-{number}-of-{parts}{suffix}"
        assert written.status() == 0
        found += rows_of(written.out)
    assert [row["path"] for row in found] == [row["path"] for row in whole]
    for row, other in zip(found, whole, strict=True):
        assert (row["label"], row["error"]) == (other["label"], other["error"])
        assert not row["score"] or float(row["score"]) == pytest.approx(float(other["score"]), abs=1e-5)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_part_without_images_is_an_empty_table(model_file, photos, tmp_path, suffix):
    arguments = ["predict", model_file, photos / "1.png", photos / "2.png", "--out", tmp_path / f"labels{suffix}"]
    for number in (1, 2, 3):
        assert command(*arguments, "--part", f"{number}/3") == 0
    assert [len(rows_of(tmp_path / f"labels-{number}-of-3{suffix}")) for number in (1, 2, 3)] == [0, 1, 1]
    if suffix == ".parquet":
        tables = pq.read_table([tmp_path / f"labels-{number}-of-3.parquet" for number in (1, 2, 3)])
        assert tables["path"].to_pylist() == [str(photos / "1.png"), str(photos / "2.png")]


@pytest.mark.parametrize(
    "part", ["0/4", "5/4", "a/b", "1", "", "1/0", "-1/4", "1/4/2", "1.5/4", " 1/4", "١/٤", "1/" + "9" * 5000]
)
def test_what_is_no_part_is_refused_with_the_form(model, photos, tmp_path, part):
    with pytest.raises(ValueError, match="I/N"):
        predict_to(model, [photos], tmp_path / "labels.csv", part=part)
    assert names(tmp_path) == []


def test_a_part_of_what_is_printed(model_file, photos, capsys):
    assert command("predict", model_file, photos, "--part", "2/4", "--json") == 0
    assert [row["path"] for row in json.loads(capsys.readouterr().out)] == [
        str(photos / f"{number}.png") for number in range(15, 30)
    ]
    assert command("predict", model_file, photos, "--part", "5/4") == 2


def test_parts_cover_any_list():
    for images in range(12):
        for parts in range(1, 15):
            shares = [Part(number, parts).of_images(listed(map(str, range(images)))) for number in range(1, parts + 1)]
            assert [image for share in shares for image in share] == [str(number) for number in range(images)]
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


# Paths


def test_a_tables_own_files_are_no_images(model, photos, tmp_path):
    shutil.copy(photos / "1.png", tmp_path)
    everything = f"{tmp_path}/*"
    for _ in range(2):
        assert predict_to(model, [everything], tmp_path / "labels.csv").predicted == 1
    for number in (1, 2, 1):
        ours = listed([everything], out=tmp_path / "parts.csv", part=Part(number, 2))
        assert [Path(image).name for image in ours] == ["1.png", "labels.csv", "labels.csv.json"]
        predict_to(model, [everything], tmp_path / "parts.csv", part=f"{number}/2")
    shell = [str(path) for path in tmp_path.iterdir() if "parts" not in path.name]
    assert listed(shell, out=tmp_path / "labels.csv") == [str(tmp_path / "1.png")]


def test_a_folder_without_images_is_refused(model_file, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert command("predict", model_file, tmp_path / "empty", "--out", tmp_path / "labels.csv") == 2
    assert "holds no image" in capsys.readouterr().err
    assert names(tmp_path) == ["empty"]


# What is said


@pytest.mark.parametrize("seconds", [(3.0, 1.0), (1.0, 3.0)])
def test_progress_says_speed_time_left_and_the_limit(model, monkeypatch, caplog, seconds):
    caplog.set_level("INFO", "resnets")
    predictor = Predictor(model)
    predictor.decoding, predictor.computing = seconds
    clock = [100.0]
    monkeypatch.setattr("resnets.data.progress.time.monotonic", lambda: clock[0])
    with BulkProgress("labels.csv", 1000, 100, predictor) as progress:
        for _ in range(900):
            clock[0] += 0.0625
            progress.step()
    said = [record.message for record in caplog.records if "left" in record.message]
    assert len(said) == 1 + 5  # after 2 s, then every 10 of 56
    limit = "decoding" if seconds[0] > seconds[1] else "arithmetic"
    assert said[0] == f"labels.csv: 132 of 1000 images, 54 s left, 16 images/s, {limit} is the limit (75%)"


def test_the_command_says_what_came_of_it(model_file, photos, tmp_path, capsys):
    assert command("predict", model_file, photos, "--out", tmp_path / "labels.csv") == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "labels.csv: 60 rows" in said.err and "images/s" in said.err and "is the limit" in said.err
    assert "6 of 60 images couldn't be read" in said.err


def test_features_need_a_place(model_file, photos, capsys):
    assert command("predict", model_file, photos / "1.png", "--features") == 2
    assert "--out" in capsys.readouterr().err
    assert command("predict", model_file, photos / "1.png", "--features", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert len(row["features"]) == 64


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_likeliest_of_each_row(model, photos, tmp_path, suffix):
    out = predict_to(model, [photos], tmp_path / f"labels{suffix}", above=0.5).out
    found = list(read_best(out, Layout(suffix, 5)))
    expected = list(predict(model, [photos], above=0.5))
    assert found == [(answer.labels[0] if answer.labels else None, answer.error) for answer in expected]
    assert {label for label, _ in found} == {*CLASSES, None}


# Preprocessing


def test_a_preprocessing_by_name_by_file_or_as_another_model_has_it(model, model_file, tmp_path, caplog):
    bare = replace(model, preprocessing=None)
    assert prepared(bare, None) is bare
    assert prepared(bare, "imagenet").preprocessing == Preprocessing()
    assert prepared(bare, "cifar10").preprocessing.size == 32
    assert prepared(bare, model_file).preprocessing == HOW
    how = Preprocessing(size=48, fit="pad")
    (tmp_path / "how.json").write_text(json.dumps(how.to_json()))
    assert prepared(bare, tmp_path / "how.json").preprocessing == how
    assert not caplog.records
    assert prepared(model, "cifar10").preprocessing == named_preprocessing("cifar10")
    assert "not as the model does" in caplog.text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("imagnet", "imagenet, cifar10, a .json file"),
        ("none.json", "none.json can't be read"),
        ("none.safetensors", "no file"),
        ("{folder}/list.json", "JSON object of size"),
        ("{folder}/text.json", "says no preprocessing"),
        ("{folder}/unknown.json", "'sizes'"),
        ("{folder}/wrong.json", "size is a whole number"),
        ("{folder}/kind.json", "says no preprocessing"),
        ("{folder}/grey.json", "1 channels"),
        ("{folder}/bare.safetensors", "either"),
    ],
)
def test_a_preprocessing_that_is_none(model, tmp_path, given, said):
    contents = {"list": "[]", "text": "size", "unknown": '{"sizes": 3}', "wrong": '{"size": 3}', "kind": '{"crop": "a"}',
                "grey": '{"colour": "grey", "mean": [0.5], "deviation": [1]}'}  # fmt: skip
    for name, content in contents.items():
        (tmp_path / f"{name}.json").write_text(content)
    replace(model, preprocessing=None).save(tmp_path / "bare.safetensors")
    with pytest.raises(ValueError, match=said):
        prepared(model, given.format(folder=tmp_path))


def test_the_command_with_a_preprocessing(model, photos, tmp_path, capsys):
    bare = replace(model, preprocessing=None).save(tmp_path / "bare.safetensors")
    assert command("predict", bare, photos / "1.png") == 2
    assert "--preprocessing" in capsys.readouterr().err
    assert command("predict", bare, photos / "1.png", "--preprocessing", "cifar10", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert set(row["labels"]) == set(CLASSES)
