import errno
import json
import os
from pathlib import Path

import pytest
from test_bulk import command
from tiny import CLASSES, HOW, photos_in, tiny

from resnets import predict
from resnets.prediction.paths import listed
from resnets.prediction.sorting import Sorter, folder_names, numbered


@pytest.fixture(scope="module")
def model():
    return tiny(HOW)


@pytest.fixture
def photos(tmp_path):
    """Twenty photos, 0.png … 19.png, of which 7.png is text."""
    return photos_in(tmp_path / "photos", 20)


@pytest.fixture
def model_file(model, tmp_path):
    return model.save(tmp_path / "tiny.safetensors")


def tree(folder):
    """Relative path → bytes of every file."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def put(root, **files):
    """Files by name, "__" for a slash: put(root, a__1="x") writes a/1.jpg."""
    for name, content in files.items():
        path = root / f"{name.replace('__', '/')}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def sort(into, *paths, label="cat", classes=("cat",)):
    sorter = Sorter(into, classes)
    for path in paths:
        sorter.add(str(path), label)
    return sorter.counts


def counts(linked=0, copied=0, there=0, left_out=0):
    return {"linked": linked, "copied": copied, "there": there, "left_out": left_out}


@pytest.fixture
def without_links(monkeypatch):
    """A file system to which nothing can be linked from elsewhere."""
    link = os.link

    def refusing(source, target):
        if Path(source).parent != Path(target).parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        link(source, target)

    monkeypatch.setattr(os, "link", refusing)


# The command


@pytest.mark.parametrize("out", [None, "labels.parquet", "labels.csv", "labels.jsonl"])
def test_each_photo_is_in_the_folder_of_its_class(model, model_file, photos, tmp_path, capsys, out):
    table = [] if out is None else ["--out", tmp_path / out]
    arguments = ["predict", model_file, photos, "--above", "0.6", "--sort-into", tmp_path / "sorted", *table]
    assert command(*arguments) == 0
    expected = {}
    for answer in predict(model, [photos], above=0.6):
        if answer.error is None:
            folder = answer.labels[0] if answer.labels else "_unsure"
            expected[f"{folder}/{Path(answer.path).name}"] = Path(answer.path).read_bytes()
    assert tree(tmp_path / "sorted") == dict(sorted(expected.items()))
    assert {name.split("/")[0] for name in expected} == {*CLASSES, "_unsure"}
    assert "19 images sorted (19 linked, 0 copied, 0 there already), 1 left out" in capsys.readouterr().err
    assert len(tree(photos)) == 20
    assert command(*arguments) == 0
    assert "19 images sorted (0 linked, 0 copied, 19 there already)" in capsys.readouterr().err
    assert tree(tmp_path / "sorted") == dict(sorted(expected.items()))


def test_the_document_says_what_was_sorted(model_file, photos, tmp_path, capsys):
    arguments = ["predict", model_file, photos, "--sort-into", tmp_path / "sorted", "--json"]
    assert command(*arguments, "--out", tmp_path / "labels.csv") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["sorted"] == {"into": str(tmp_path / "sorted"), **counts(linked=19, left_out=1)}
    assert command(*arguments) == 0
    assert len(json.loads(capsys.readouterr().out)) == 20


def test_a_part_is_sorted(model_file, photos, tmp_path):
    for number in (1, 2, 3):
        arguments = ["--sort-into", tmp_path / "sorted", "--part", f"{number}/3", "--out", tmp_path / "labels.csv"]
        assert command("predict", model_file, photos, *arguments) == 0
        assert len(tree(tmp_path / "sorted")) == {1: 6, 2: 12, 3: 19}[number]


@pytest.mark.parametrize("out", [None, "labels.csv"])
@pytest.mark.parametrize("into", ["photos/sorted", "photos"])
def test_a_folder_within_what_is_sorted_ends_and_grows_once(model_file, photos, tmp_path, capsys, into, out):
    arguments = ["predict", model_file, photos, "--sort-into", tmp_path / into]
    if out is not None and into == "photos/sorted":
        arguments += ["--out", tmp_path / out]
    assert command(*arguments) == 0
    once = tree(photos)
    assert len(once) == 20 + 19
    for _ in range(2):
        assert command(*arguments) == 0
        assert tree(photos) == once


def test_photos_within_the_folder_can_be_sorted_again(photos, tmp_path):
    put(tmp_path / "sorted", _unsure__1="x", cat__2="y")
    everything, within = [photos, tmp_path / "sorted"], [tmp_path / "sorted" / "_unsure"]
    assert len(listed(everything, sort_into=tmp_path / "sorted")) == 20
    assert listed(within, sort_into=tmp_path / "sorted") == [str(within[0] / "1.jpg")]
    assert sort(tmp_path / "sorted", within[0] / "1.jpg", tmp_path / "sorted" / "cat" / "2.jpg") == counts(linked=1, there=1)
    assert tree(tmp_path / "sorted") == {"_unsure/1.jpg": b"x", "cat/1.jpg": b"x", "cat/2.jpg": b"y"}


def test_a_file_where_the_folder_would_be_is_refused(model_file, photos, tmp_path, capsys):
    assert command("predict", model_file, photos, "--sort-into", photos / "1.png") == 2
    assert "is a file" in capsys.readouterr().err


def test_all_unreadable(model_file, photos, tmp_path):
    assert command("predict", model_file, photos / "7.png", "--sort-into", tmp_path / "sorted") == 1
    assert not (tmp_path / "sorted").exists()


# Names


def test_photos_of_one_name_get_a_number_each(tmp_path):
    put(tmp_path, a__x="1", b__x="2", c__x="1")
    paths = [tmp_path / name / "x.jpg" for name in "abc"]
    expected = {"cat/x.jpg": b"1", "cat/x-2.jpg": b"2", "cat/x-3.jpg": b"1"}
    assert sort(tmp_path / "sorted", *paths) == counts(linked=3)
    assert tree(tmp_path / "sorted") == dict(sorted(expected.items()))
    assert sort(tmp_path / "sorted", *paths) == counts(there=3)
    assert tree(tmp_path / "sorted") == dict(sorted(expected.items()))
    assert sort(tmp_path / "sorted", *reversed(paths), paths[0]) == counts(there=3)
    assert tree(tmp_path / "sorted") == dict(sorted(expected.items()))


def test_the_same_with_copies(tmp_path, without_links):
    put(tmp_path, a__x="1", b__x="2", c__x="1")
    paths = [tmp_path / name / "x.jpg" for name in "abc"]
    expected = {"cat/x.jpg": b"1", "cat/x-2.jpg": b"2", "cat/x-3.jpg": b"1"}
    assert sort(tmp_path / "sorted", *paths) == counts(copied=3)
    for order in (paths, paths[::-1]):
        assert tree(tmp_path / "sorted") == dict(sorted(expected.items()))
        assert sort(tmp_path / "sorted", *order) == counts(there=3)
    assert not any((tmp_path / "sorted" / "cat" / "x.jpg").samefile(path) for path in paths)


def test_what_came_later_than_its_namesake_keeps_its_place(tmp_path):
    put(tmp_path, a__x="1", b__x="2")
    sort(tmp_path / "sorted", tmp_path / "b" / "x.jpg")
    for there in (1, 2):
        expected = counts(linked=2 - there, there=there)
        assert sort(tmp_path / "sorted", tmp_path / "a" / "x.jpg", tmp_path / "b" / "x.jpg") == expected
    assert tree(tmp_path / "sorted") == {"cat/x-2.jpg": b"1", "cat/x.jpg": b"2"}


def test_nothing_that_is_there_is_overwritten(tmp_path):
    put(tmp_path, a__x="mine", sorted__cat__x="theirs")
    (tmp_path / "sorted" / "cat" / "x-2.jpg").mkdir()
    (tmp_path / "sorted" / "cat" / "x-3.jpg").symlink_to("nowhere")
    assert sort(tmp_path / "sorted", tmp_path / "a" / "x.jpg") == counts(linked=1)
    assert tree(tmp_path / "sorted") == {"cat/x-4.jpg": b"mine", "cat/x.jpg": b"theirs"}
    assert tree(tmp_path / "a") == {"x.jpg": b"mine"}


def test_a_link_is_sorted_as_what_it_points_to(tmp_path):
    put(tmp_path, far__photo="pixels")
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "x.jpg").symlink_to("../far/photo.jpg")
    for expected in (counts(linked=1), counts(there=1)):
        assert sort(tmp_path / "sorted", tmp_path / "near" / "x.jpg") == expected
    assert not (tmp_path / "sorted" / "cat" / "x.jpg").is_symlink()
    assert (tmp_path / "sorted" / "cat" / "x.jpg").read_text() == "pixels"


def test_a_photo_that_is_gone_is_left_out(tmp_path, caplog):
    put(tmp_path, a__x="1", sorted__cat__y="2")
    assert sort(tmp_path / "sorted", tmp_path / "y.jpg", tmp_path / "a" / "x.jpg") == counts(linked=1, left_out=1)
    assert "y.jpg is gone" in caplog.text


def test_a_copy_that_fails_leaves_nothing(tmp_path, monkeypatch, without_links):
    def full(source, target):
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    put(tmp_path, a__x="1")
    monkeypatch.setattr("shutil.copy2", full)
    with pytest.raises(OSError, match="No space"):
        sort(tmp_path / "sorted", tmp_path / "a" / "x.jpg")
    assert tree(tmp_path / "sorted") == {}


@pytest.mark.parametrize("length", [200, 250, 255])
def test_a_long_name_stays_within_what_a_name_can_be(length):
    name = f"{'ü' * ((length - 4) // 2)}.jpg"
    found = {os.path.basename(numbered(f"/folder/{name}", number)) for number in range(1, 120)}  # noqa: PTH119
    assert len(found) == 119
    assert all(len(name.encode()) <= 255 and name.endswith(".jpg") for name in found)


CLASS_NAMES = {
    ("cat", "dog"): ("cat", "dog"),
    ("a/b", "a_b", "a\\b"): ("a_b-2", "a_b", "a_b-3"),
    ("..", ".", "", ".hidden"): ("_.", "_", "_-2", "_hidden"),
    ("_unsure", "_unsure-2"): ("_unsure-3", "_unsure-2"),
    ("/etc/passwd", "../up"): ("_etc_passwd", "_._up"),
    ("a\nb", "a\0b"): ("a_b", "a_b-2"),
    ("v1.5", "Kätzchen ", "犬", "tench, Tinca tinca"): ("v1.5", "Kätzchen ", "犬", "tench, Tinca tinca"),
    ("A", "a"): ("A", "a"),
    ("x" * 300, "x" * 301): ("x" * 255, "x" * 253 + "-2"),
}


@pytest.mark.parametrize("classes", CLASS_NAMES, ids=[str(number) for number in range(len(CLASS_NAMES))])
def test_class_names_as_folders(tmp_path, classes, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    found = folder_names(classes)
    assert tuple(found[name] for name in classes) == CLASS_NAMES[classes]
    for name in found.values():
        (tmp_path / "sorted" / name).mkdir(parents=True)
    assert sorted(path.name for path in (tmp_path / "sorted").iterdir()) == sorted(found.values())
    assert [path.name for path in tmp_path.iterdir()] == ["sorted"]


def test_class_names_that_a_mac_takes_for_the_same(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    assert list(folder_names(("A", "a", "é", "e\u0301")).values()) == ["A", "a-2", "é", "e\u0301-2"]
