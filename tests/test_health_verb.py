"""The verb `check`: what it prints, writes and exits with, and that train reads its list."""

import base64
import io
import json
import os
import re

import numpy as np
import pytest
from healthy import encoded, jpeg, picture, put
from PIL import Image

from resnets.cli import main
from resnets.data import open_dataset
from resnets.data.health import KINDS, check
from resnets.pages.health import health_page

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")
GOOD = {f"{name}/{number}.jpg": jpeg(100 * ord(name) + number) for name in "ab" for number in range(3)}
BAD = {"a/8.jpg": jpeg(9), "b/9.jpg": jpeg(9), "a/cut.jpg": jpeg(8)[:900], "a/none.png": b""}


def run(capsys, *arguments):
    """(exit status, standard output, standard error) of a command."""
    with pytest.raises(SystemExit) as ended:
        main(["check", *map(str, arguments)])
    return ended.value.code, *capsys.readouterr()


@pytest.mark.parametrize(("files", "strict", "status"), [
    (GOOD, False, 0), (GOOD, True, 0), ({**GOOD, **BAD}, False, 0), ({**GOOD, **BAD}, True, 1),
])  # fmt: skip
@pytest.mark.parametrize("json_too", [False, True])
def test_the_status_says_whether_there_are_problems_where_asked(tmp_path, capsys, files, strict, status, json_too):
    put(tmp_path, files)
    arguments = ["--input", 64, *["--strict"] * strict, *["--json"] * json_too]
    assert run(capsys, tmp_path, *arguments)[0] == status


@pytest.mark.parametrize("data", ["nowhere", "empty"])
def test_data_that_is_none_is_a_wrong_request(tmp_path, capsys, data):
    (tmp_path / "empty").mkdir()
    status, out, error = run(capsys, tmp_path / data, "--strict")
    assert (status, out) == (2, "")
    assert data in error


def test_the_document(tmp_path, capsys):
    status, out, error = run(capsys, put(tmp_path, {**GOOD, **BAD}), "--json", "--input", 64)
    document = json.loads(out)
    assert (status, error) == (0, "")
    assert list(document)[:4] == ["images", "classes", "splits", "problems"]
    assert {"sizes", "types"} <= set(document)
    assert (document["images"], document["classes"], document["splits"]) == (10, {"a": 6, "b": 4}, {})
    assert [(problem["kind"], problem["paths"]) for problem in document["problems"]] == [
        ("truncated", ["a/cut.jpg"]), ("empty_file", ["a/none.png"]), ("label_conflict", ["a/8.jpg", "b/9.jpg"]),
    ]  # fmt: skip
    assert all(set(problem) == {"kind", "paths", "detail"} and problem["detail"] for problem in document["problems"])


def test_what_a_person_reads(tmp_path, capsys):
    files = {**GOOD, **BAD, **{f"train/x{n}.jpg": b"" for n in range(7)}, "b/[red]x.jpg": b""}
    status, out, _ = run(capsys, put(tmp_path / "pets", files), "--input", 64)
    assert status == 0
    assert "pets: 18 images" in out
    assert "empty_file (9): " + KINDS["empty_file"] in out
    assert "b/[red]x.jpg" in out
    assert out.count("/x") + out.count("none.png: 0 bytes") + out.count("]x.jpg: 0 bytes") == 5
    assert "and 4 more" in out
    assert "a/8.jpg, b/9.jpg: the same bytes, in the classes a, b" in out


def test_a_healthy_set_is_said_to_be(tmp_path, capsys):
    _, out, _ = run(capsys, put(tmp_path, {f"train/{key}": content for key, content in GOOD.items()}), "--input", 64)
    assert "no problem was found" in out
    assert re.search(r"a +│ +3 │ +3", out)


def test_nothing_is_changed(tmp_path, capsys):
    put(tmp_path / "data", {**GOOD, **BAD})
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "data").rglob("*.*")}
    run(capsys, tmp_path / "data", "--exclude", tmp_path / "list", "--out", tmp_path / "page.html")
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "data").rglob("*.*")} == before


# The list that train reads


def test_the_list_holds_what_is_better_left_out(tmp_path, capsys):
    files = {
        **{f"train/{key}": content for key, content in GOOD.items()},
        **{f"test/{key}": jpeg(7000 + n) for n, key in enumerate(GOOD)},
        "train/a/decodes.png": jpeg(500),
        "train/a/page.jpg": b"<!doctype html>",
        "train/b/zero.jpg": b"",
        "train/b/half.jpg": jpeg(501)[:800],
        "train/b/noise.jpg": np.random.default_rng(0).bytes(999),
        "train/b/twice.jpg": GOOD["b/0.jpg"],
        "train/a/leak.jpg": jpeg(7001, quality=70),
        "train/a/either ü.jpg": jpeg(502),
        "train/b/either.jpg": jpeg(502),
    }
    root = put(tmp_path / "data", files)
    (root / "train/a/out.jpg").symlink_to("/nowhere.jpg")
    status, out, _ = run(capsys, root, "--exclude", tmp_path / "list", "--input", 64)
    assert status == 0
    assert f"{tmp_path / 'list'}: 9 images" in out
    lines = (tmp_path / "list").read_text(encoding="utf-8").splitlines()
    keys = list(open_dataset(root).images.keys)
    assert lines == sorted(lines, key=keys.index)
    assert lines == [key for key in keys if key in {
        "train/a/page.jpg", "train/b/zero.jpg", "train/b/half.jpg", "train/b/noise.jpg", "train/b/twice.jpg",
        "train/a/leak.jpg", "train/a/either ü.jpg", "train/b/either.jpg", "train/a/out.jpg",
    }]  # fmt: skip


def test_train_leaves_out_what_the_list_says(tmp_path, caplog):
    pytest.importorskip("torch")
    from resnets.training.options import Options
    from resnets.training.plan import plan

    small = {f"{name}/ {number} ü.png": encoded(picture(100 * ord(name) + number, 32, 32), "PNG")
             for name in "ab" for number in range(9)}  # fmt: skip
    root = put(tmp_path / "data", {**small, "a/zero.png": b"", "b/copy.png": small["b/ 3 ü.png"]})
    health = check(root, exclude=tmp_path / "list")
    assert health.leave_out == ("a/zero.png", "b/copy.png")
    made = plan(Options(data=str(root), exclude=str(tmp_path / "list"), init="none", out=str(tmp_path / "run")))
    used = set(made.data.keys(np.concatenate([made.division.train, made.division.val])))
    assert used == set(small)
    assert "are no images" not in caplog.text


def test_a_list_that_was_there_stays_where_the_new_one_cannot_be(tmp_path):
    (tmp_path / "list").write_text("old")
    root = put(tmp_path / "data", {**GOOD, "a/two\nlines.jpg": b""})
    with pytest.raises(ValueError, match="line break"):
        check(root, exclude=tmp_path / "list")
    assert (tmp_path / "list").read_text() == "old"
    with pytest.raises(ValueError, match="no folder"):
        check(root, exclude=tmp_path / "nowhere/list")


@pytest.mark.skipif(os.name == "nt", reason="names are bytes on POSIX alone")
def test_a_name_that_is_no_text_is_written_as_it_is(tmp_path, capsys):
    root = put(tmp_path / "data", GOOD)
    name = os.fsencode(root) + b"/a/\xff\xfe.jpg"
    with open(name, "wb"):  # noqa: PTH123
        pass
    status, out, _ = run(capsys, root, "--exclude", tmp_path / "list", "--out", tmp_path / "page.html")
    assert status == 0
    assert (tmp_path / "list").read_bytes() == b"a/\xff\xfe.jpg\n"
    assert r"a/\udcff\udcfe.jpg" in out
    assert r"\udcff" in (tmp_path / "page.html").read_text(encoding="utf-8")


# The page


def test_the_page_shows_pictures_and_runs_no_name(tmp_path, capsys):
    evil = "<img src=x onerror=alert(1)>.jpg"
    files = {**GOOD, f"a/{evil}": jpeg(9), "<i>b/<script>1&2.jpg": jpeg(9), "a/<b>.jpg": b"<!doctype html><script>alert(2)"}
    root = put(tmp_path / "<i>data", files)
    status, out, _ = run(capsys, root, "--out", tmp_path / "page.html", "--input", 64)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert status == 0
    assert str(tmp_path / "page.html") in out
    pictures = re.findall(r'<img alt="" src="data:image/jpeg;base64,([^"]+)">', page)
    assert len(pictures) == 2
    with Image.open(io.BytesIO(base64.b64decode(pictures[0]))) as image:
        assert image.size == (128, 96)
    assert page.count("<img") == 2
    assert "<script" not in page
    assert "<i>" not in page  # of the folder and of a class, which a detail names
    assert "&lt;img src=x onerror=alert(1)&gt;.jpg" in page
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_the_page_says_what_to_do_and_how_many_more(tmp_path):
    root = put(tmp_path, {**GOOD, **{f"a/x{n}.jpg": b"" for n in range(25)}, **{f"b/y{n}.jpg": jpeg(9) for n in range(8)}})
    page = health_page(check(root, size=64), open_dataset(root))
    assert "Empty file: 25" in page
    assert "and 5 more" in page
    assert page.count("<img") == 6
    assert "; and 2 more" in page
    for kind in ("empty_file", "duplicate"):
        assert KINDS[kind][1:] in page


def test_the_page_of_arrays(tmp_path):
    page = health_page(check("digits"), open_dataset("digits"))
    assert "No problem was found." in page
    assert "1,797" in page
