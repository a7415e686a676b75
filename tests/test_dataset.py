import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from resnets.data.dataset import ArrayImages, Dataset, FileImages, divide, held_out, natural
from resnets.data.sources import manifest_paths, open_dataset, read_idx


def put(root, *paths, content=b"x"):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


def labelled(data, split=None):
    """{key: class name} of a split, or of all."""
    return {data.images.keys[index]: data.classes[data.labels[index]] for index in data.indices(split)}


# A folder of class folders


def test_a_folder_of_class_folders(tmp_path):
    put(tmp_path / "pets", "cat/1.jpg", "cat/2.JPEG", "dog/1.PNG", "dog/deep/er/2.jpg", "dog/notes.txt")
    data = open_dataset(tmp_path / "pets")
    assert data.name == "pets"
    assert data.classes == ("cat", "dog")
    assert labelled(data) == {"cat/1.jpg": "cat", "cat/2.JPEG": "cat", "dog/1.PNG": "dog", "dog/deep/er/2.jpg": "dog"}
    assert (data.splits, data.empty, data.mirrors, len(data)) == ({}, {}, True, 4)
    assert data.labels.dtype == np.int64


def test_classes_and_images_are_in_natural_order(tmp_path):
    put(tmp_path, *(f"{name}/{image}.png" for name in ("10", "2", "1", "b10", "b9") for image in ("10", "9")))
    data = open_dataset(tmp_path)
    assert data.classes == ("1", "2", "10", "b9", "b10")
    assert list(data.images.keys)[:4] == ["1/9.png", "1/10.png", "2/9.png", "2/10.png"]


def test_images_of_a_folder_stand_before_those_of_its_folders(tmp_path):
    put(tmp_path, "a/2/1.png", "a/10/1.png", "a/z.png", "a/2/x/1.png", "a/2/9.png")
    assert list(open_dataset(tmp_path).images.keys) == ["a/z.png", "a/2/1.png", "a/2/9.png", "a/2/x/1.png", "a/10/1.png"]


def test_natural_order():
    names = ["n2", "n10", "n1", "10", "9", "n01", "a", "B", "n1b", "n1a2", "n1a10"]
    assert sorted(names, key=natural) == ["9", "10", "B", "a", "n01", "n1", "n1a2", "n1a10", "n1b", "n2", "n10"]
    assert len({repr(natural(name)) for name in ("1", "01", "001")}) == 3  # names that differ never tie


def test_hidden_folders_and_files_are_left_out(tmp_path):
    put(tmp_path, "a/1.png", ".ipynb_checkpoints/1.png", "__MACOSX/1.png", "a/._1.png", "a/.thumbs/1.png", "b/.hidden.png")
    data = open_dataset(tmp_path)
    assert labelled(data) == {"a/1.png": "a"}
    assert data.empty == {"": ("b",)}


@pytest.mark.parametrize(
    ("train", "val"), [("train", "val"), ("training", "valid"), ("Train", "Validation"), ("TRAINING", "VALID")]
)
def test_splits_by_their_names(tmp_path, train, val):
    put(
        tmp_path,
        f"{train}/a/1.png",
        f"{train}/b/1.png",
        f"{val}/a/2.png",
        f"{val}/b/2.png",
        "test/b/3.png",
        "extras/b/4.png",
    )
    data = open_dataset(tmp_path)
    assert data.classes == ("a", "b")
    assert list(data.splits) == ["train", "val", "test"]
    assert labelled(data, "train") == {f"{train}/a/1.png": "a", f"{train}/b/1.png": "b"}
    assert labelled(data, "val") == labelled(data, "validation") == {f"{val}/a/2.png": "a", f"{val}/b/2.png": "b"}
    assert labelled(data, "test") == {"test/b/3.png": "b"}


def test_a_split_that_is_not_there_is_named_with_those_that_are(tmp_path):
    put(tmp_path, "train/a/1.png", "test/a/1.png")
    with pytest.raises(ValueError, match=r"no split 'val'; its splits: train, test"):
        open_dataset(tmp_path).indices("val")
    with pytest.raises(ValueError, match="its splits: none"):
        open_dataset(tmp_path / "train").indices("test")


def test_splits_are_matched_by_class_name(tmp_path):
    put(tmp_path, *(f"train/{name}/1.png" for name in "abc"), "val/b/1.png", "val/c/1.png", "val/extra/1.png")
    for empty in ("train/extra", "val/a", "train/nowhere"):
        (tmp_path / empty).mkdir()
    data = open_dataset(tmp_path)
    assert data.classes == ("a", "b", "c", "extra")
    assert labelled(data, "val") == {"val/b/1.png": "b", "val/c/1.png": "c", "val/extra/1.png": "extra"}
    assert data.counts(data.indices("train")) == {"a": 1, "b": 1, "c": 1, "extra": 0}
    assert data.counts(data.indices("val")) == {"a": 0, "b": 1, "c": 1, "extra": 1}
    assert data.counts() == {"a": 1, "b": 2, "c": 2, "extra": 1}
    assert data.empty == {"train": ("extra", "nowhere"), "val": ("a",)}


def test_labels_as_another_order_of_classes(tmp_path):
    put(tmp_path, "1/x.png", "2/x.png", "10/x.png")
    data = open_dataset(tmp_path)
    assert data.labels_as(data.classes).tolist() == [0, 1, 2]
    assert data.labels_as(["1", "10", "other"]).tolist() == [0, -1, 1]  # as a string sort has them


def test_a_class_may_be_called_train(tmp_path):
    put(tmp_path, "bus/1.png", "car/1.png", "train/1.png")
    assert open_dataset(tmp_path).classes == ("bus", "car", "train")


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        ([], "is empty"),
        (["1.png", "2.png"], "images but no class folders"),
        (["a/notes.txt", "b/notes.txt"], "none of the 2 folders"),
        (["train/1.png", "test/1.png"], "no class folders"),
    ],
)
def test_a_folder_that_is_no_data_is_described(tmp_path, paths, said):
    put(tmp_path, *paths)
    with pytest.raises(ValueError, match=said) as caught:
        open_dataset(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"), [("nowhere", "there is no data at"), ("nowhere.csv", "no data"), ("a.txt", "is a file")]
)
def test_a_place_that_is_no_data_is_named(tmp_path, name, said):
    put(tmp_path, "a.txt")
    with pytest.raises(ValueError, match=said) as caught:
        open_dataset(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_images_of_files_are_read_in_colour_and_grey(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (3, 2), (250, 0, 0)).save(tmp_path / "a" / "1.png")
    images = open_dataset(str(tmp_path)).images
    assert images.read(0).tolist() == [[[250, 0, 0]] * 3] * 2
    assert images.read(0, grey=True).shape == (2, 3, 1)


# Manifests


def table(path, columns):
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    else:
        rows = [list(columns), *zip(*columns.values(), strict=True)]
        path.write_text("".join(",".join("" if value is None else value for value in row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture(params=["list.csv", "list.parquet", "LIST.CSV"])
def place(request, tmp_path):
    return tmp_path / request.param


def test_a_manifest(place):
    data = open_dataset(table(place, {"path": ["b.jpg", "x/a.jpg"], "label": ["007", "7"], "note": ["1", "2"]}))
    assert data.name == place.stem
    assert labelled(data) == {"b.jpg": "007", "x/a.jpg": "7"}
    assert (data.splits, data.empty) == ({}, {})
    assert data.images.root == place.parent


@pytest.mark.parametrize("label", ["NA", "null", "nan", "true", "1e3", "Käfer"])
def test_a_label_is_its_letters(place, label):
    assert open_dataset(table(place, {"path": ["a.jpg"], "label": [label]})).classes == (label,)


def test_numbers_and_categories_of_a_parquet_file_are_names(tmp_path):
    columns = {"path": ["a", "b", "c"], "label": [2, 10, 1]}
    assert open_dataset(table(tmp_path / "a.parquet", columns)).classes == ("1", "2", "10")
    columns["label"] = pa.array(["x", "y", "x"]).dictionary_encode()
    assert open_dataset(table(tmp_path / "b.parquet", columns)).classes == ("x", "y")


def test_a_manifests_images_are_relative_to_it(tmp_path, monkeypatch):
    (tmp_path / "x").mkdir()
    Image.new("RGB", (3, 2)).save(tmp_path / "x" / "1.png")
    table(tmp_path / "a.csv", {"path": ["x/1.png"], "label": ["a"]})
    monkeypatch.chdir("/")
    assert open_dataset(tmp_path / "a.csv").images.read(0).shape == (2, 3, 3)


@pytest.mark.parametrize("names", [("train", "val", "test"), ("training", "validation", "test"), ("Train", "Val", "TEST")])
def test_a_manifests_splits(place, names):
    columns = {
        "path": ["1", "2", "3", "4"],
        "label": ["a", "b", "a", "b"],
        "split": [names[0], names[0], names[1], names[2]],
    }
    splits = open_dataset(table(place, columns)).splits
    assert {name: indices.tolist() for name, indices in splits.items()} == {"train": [0, 1], "val": [2], "test": [3]}


def test_splits_of_other_names_stand_behind(place):
    columns = {"path": ["1", "2", "3"], "label": ["a", "a", "b"], "split": ["fold2", "test", "Fold1"]}
    assert list(open_dataset(table(place, columns)).splits) == ["test", "Fold1", "fold2"]


def test_a_split_column_without_a_word_is_none(place):
    assert open_dataset(table(place, {"path": ["1"], "label": ["a"], "split": [""]})).splits == {}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"path": ["1"], "class": ["a"]}, "no column 'label'; its columns: path, class"),
        ({"file": ["1"], "label": ["a"]}, "no column 'path'; its columns: file, label"),
        ({"path": ["1", "2"], "label": ["a", ""]}, "row 2 has no label"),
        ({"path": ["1", "2"], "label": ["a", None]}, "row 2 has no label"),
        ({"path": ["1", ""], "label": ["a", "b"]}, "row 2 has no path"),
        ({"path": ["1", None], "label": ["a", "b"]}, "row 2 has no path"),
        ({"path": ["1", "2"], "label": ["a", "b"], "split": ["train", ""]}, "row 2 has no split"),
        ({"path": ["1", "2"], "label": ["a", "b"], "split": [None, "train"]}, "row 1 has no split"),
        ({"path": pa.array([], pa.string()), "label": pa.array([], pa.string())}, "lists no image"),
    ],
)
def test_a_manifest_that_lacks_something_is_told_what(place, columns, said):
    with pytest.raises(ValueError, match=said) as caught:
        open_dataset(table(place, columns))
    assert str(place) in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"path,label\n1,K\xe4fer\n", b"path,label\n1,a\n2\n", b"path,label,label\n1,a,b\n"]
)
def test_a_file_that_is_no_table_is_refused(place, content):
    place.write_bytes(content)
    with pytest.raises(ValueError, match=place.name):
        open_dataset(place)


def test_labels_that_are_no_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.parquet"):
        open_dataset(table(tmp_path / "a.parquet", {"path": ["1"], "label": [["a", "b"]]}))


def test_the_paths_of_a_manifest_need_no_label(place):
    table(place, {"path": ["x/1.jpg", "/abs/2.jpg"], "id": ["1", "2"]})
    assert manifest_paths(place) == [place.parent / "x/1.jpg", Path("/abs/2.jpg")]


@pytest.mark.parametrize("missing", ["", None])
def test_a_row_without_a_path_is_named_for_predicting_too(place, missing):
    with pytest.raises(ValueError, match="row 2"):
        manifest_paths(table(place, {"path": ["1", missing], "id": ["1", "2"]}))


# IDX files

PIXELS = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def idx_bytes(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def put_idx(root, stem="train", pixels=PIXELS, labels=(10, 2, 2), end="", dot="-"):
    pack = gzip.compress if end else bytes
    put(root, f"{stem}-images{dot}idx{pixels.ndim}-ubyte{end}", content=pack(idx_bytes(pixels)))
    put(root, f"{stem}-labels{dot}idx1-ubyte{end}", content=pack(idx_bytes(np.array(labels))))
    return root


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("dot", ["-", "."])
def test_idx_files(tmp_path, end, dot):
    put_idx(tmp_path, end=end, dot=dot)
    put_idx(tmp_path, "t10k", PIXELS[:1], (7,), end=end, dot=dot)
    data = open_dataset(tmp_path)
    assert data.classes == ("2", "7", "10")
    assert data.labels.tolist() == [2, 0, 0, 1]
    assert {name: indices.tolist() for name, indices in data.splits.items()} == {"train": [0, 1, 2], "test": [3]}
    np.testing.assert_array_equal(data.images.read(1, grey=True), PIXELS[1, :, :, None])
    np.testing.assert_array_equal(data.images.read(1), PIXELS[1, :, :, None].repeat(3, 2))
    assert len(set(data.images.keys)) == 4


def test_idx_files_in_colour(tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(3, 4, 5, 3), dtype=np.uint8)
    images = open_dataset(put_idx(tmp_path, pixels=pixels)).images
    np.testing.assert_array_equal(images.read(2), pixels[2])
    grey = np.asarray(Image.fromarray(pixels[2]).convert("L"))
    assert np.abs(images.read(2, grey=True)[:, :, 0].astype(int) - grey).max() <= 1


def test_images_that_are_neither_grey_nor_rgb_are_refused(tmp_path):
    with pytest.raises(ValueError, match="images"):
        open_dataset(put_idx(tmp_path, pixels=np.zeros((3, 3, 8, 8), np.uint8)))


DAMAGED_IDX = {
    "short pixels": (idx_bytes(PIXELS)[:-1], "cut off"),
    "short header": (idx_bytes(PIXELS)[:9], "cut off"),
    "a byte more": (idx_bytes(PIXELS) + b"x", "too long"),
    "short gzip": (gzip.compress(idx_bytes(PIXELS))[:-9], "damaged gzip"),
    "wrong checksum": (gzip.compress(idx_bytes(PIXELS))[:-8] + bytes(8), "damaged gzip"),
    "zeros in gzip": (gzip.compress(idx_bytes(PIXELS))[:20] + bytes(20), "damaged gzip"),
    "floats": (b"\0\0\x0d" + idx_bytes(PIXELS)[3:], "no IDX file of unsigned bytes"),
    "empty": (b"", "no IDX file"),
    "a page": (b"<html>", "no IDX file"),
}


# Named, for gzip writes the second into its header: a name made of the bytes would differ between processes.
@pytest.mark.parametrize(("content", "said"), DAMAGED_IDX.values(), ids=DAMAGED_IDX)
def test_a_damaged_idx_file_is_named(tmp_path, content, said):
    path = put_idx(tmp_path) / "train-images-idx3-ubyte"
    path.write_bytes(content)
    for opening in (lambda: read_idx(path), lambda: open_dataset(tmp_path)):
        with pytest.raises(ValueError, match=said) as caught:
            opening()
        assert str(path) in str(caught.value)


def test_idx_files_that_do_not_belong_together_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"train-images.*\(3, 4, 5\).*\(2,\)"):
        open_dataset(put_idx(tmp_path / "counts", labels=(1, 2)))
    with pytest.raises(ValueError, match="several sizes"):
        open_dataset(put_idx(put_idx(tmp_path / "sizes"), "t10k", np.zeros((3, 9, 9), np.uint8)))
    put_idx(tmp_path / "half")
    (tmp_path / "half" / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(ValueError, match="only one of train-images and train-labels"):
        open_dataset(tmp_path / "half")


def test_idx_files_of_other_names_are_not_called_sizes(tmp_path):
    with pytest.raises(ValueError, match="train-images"):
        open_dataset(put_idx(tmp_path, "emnist-letters-train"))


# The built-in digits


def test_the_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    data, theirs = open_dataset("digits"), load_digits()
    assert (len(data), data.classes, data.mirrors, data.splits) == (1797, tuple("0123456789"), False, {})
    np.testing.assert_array_equal(data.labels, theirs.target)
    pixels = np.stack([data.images.read(index, grey=True) for index in range(1797)])
    assert pixels.shape == (1797, 8, 8, 1)
    np.testing.assert_array_equal(pixels[..., 0], np.rint(theirs.images * 255 / 16).astype(np.uint8))


def test_a_folder_called_digits_goes_before(tmp_path, monkeypatch):
    put(tmp_path, "digits/a/1.png")
    monkeypatch.chdir(tmp_path)
    assert open_dataset("digits").classes == ("a",)


# Held-out images

KEYS = [f"class{index % 5}/photo{index}.jpg" for index in range(5000)]


def listed(keys, **splits):
    classes = tuple(sorted({key.split("/")[0] for key in keys}))
    labels = np.array([classes.index(key.split("/")[0]) for key in keys])
    images = ArrayImages(np.zeros((len(keys), 1, 1), np.uint8), keys)
    return Dataset("listed", images, classes, labels, {name: np.array(indices) for name, indices in splits.items()})


@pytest.mark.parametrize("fraction", [0.1, 0.25])
def test_about_the_fraction_is_held_out_of_each_class(fraction):
    data = listed(KEYS)
    train, val, name, rule = divide(data, fraction, seed=3)
    assert (name, rule) == ("held-out", {"rule": "hash", "seed": 3, "fraction": fraction})
    np.testing.assert_array_equal(np.sort(np.concatenate([train, val])), np.arange(5000))
    assert all(abs(count / 1000 - fraction) < 0.05 for count in data.counts(val).values())


def test_what_is_held_out_depends_on_the_path_and_the_seed_alone():
    held = dict(zip(KEYS, held_out(KEYS, 0.1, 0), strict=True))
    some = KEYS[::-3]
    assert [held[key] for key in some] == held_out(some, 0.1, 0).tolist()
    more = {*held, *(f"class9/new{index}.jpg" for index in range(500))}
    again = dict(zip(more, held_out(list(more), 0.1, 0), strict=True))
    assert {key: again[key] for key in KEYS} == held
    other = held_out(KEYS, 0.1, 1)
    assert 0 < np.mean(other & list(held.values())) < 0.03  # two independent tenths


def test_a_larger_fraction_holds_out_the_same_and_more():
    assert (held_out(KEYS, 0.2, 0) >= held_out(KEYS, 0.1, 0)).all()
    assert held_out(KEYS, 1.0, 0).all()


def test_the_rule_is_the_one_that_models_have_stored():
    assert np.flatnonzero(held_out(KEYS[:60], 0.1, 0)).tolist() == [18, 38, 54]


def test_the_datas_own_val_is_used():
    train, val, name, rule = divide(listed(["a/1", "a/2", "a/3"], train=[0, 2], val=[1]), 0.5, 0)
    assert (train.tolist(), val.tolist(), name) == ([0, 2], [1], "val")
    assert rule == {"rule": "split", "split": "val"}


def test_without_val_images_of_train_are_held_out_and_none_of_test():
    data = listed(KEYS, train=range(0, 5000, 2), test=range(1, 5000, 2))
    train, val, name, _ = divide(data, 0.1, 0)
    assert name == "held-out"
    assert set(train) | set(val) == set(range(0, 5000, 2))
    assert 150 < len(val) < 350


@pytest.mark.parametrize("splits", [{}, {"train": [0, 1], "val": [2]}])
def test_a_fraction_of_0_holds_nothing_out(splits):
    train, val, name, rule = divide(listed(["a/1", "a/2", "a/3"], **splits), 0, 0)
    assert train.tolist() == splits.get("train", [0, 1, 2])
    assert (val.tolist(), val.dtype, name, rule) == ([], np.int64, "", {"rule": "none"})


def test_splits_without_train_are_refused_by_name():
    with pytest.raises(ValueError, match=r"the splits val, test and no train"):
        divide(listed(["a/1", "a/2"], val=[0], test=[1]), 0.1, 0)


# Fingerprints


def fingerprint(root, indices=None):
    data = open_dataset(root)
    return data.fingerprint(data.indices() if indices is None else np.array(indices))


def test_the_fingerprint_stays_when_the_folder_moves(tmp_path):
    put(tmp_path / "here", "a/1.png", "b/1.png")
    before = fingerprint(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    assert fingerprint(tmp_path / "there") == before
    assert len(before) == 64


@pytest.mark.parametrize(
    "change",
    [
        lambda root: put(root, "a/1.png", content=b"longer"),
        lambda root: (root / "a" / "1.png").rename(root / "a" / "2.png"),
        lambda root: (root / "a").rename(root / "c"),
        lambda root: put(root, "a/2.png"),
        lambda root: (root / "b" / "1.png").unlink(),
    ],
    ids=["size", "path", "class", "one more", "one less"],
)
def test_the_fingerprint_changes_with_the_data(tmp_path, change):
    before = fingerprint(put(tmp_path, "a/1.png", "b/1.png"))
    change(tmp_path)
    assert fingerprint(tmp_path) != before


def test_the_fingerprint_changes_with_a_label(tmp_path):
    one = table(tmp_path / "1.csv", {"path": ["1.png", "2.png"], "label": ["a", "b"]})
    other = table(tmp_path / "2.csv", {"path": ["1.png", "2.png"], "label": ["b", "a"]})
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(one) == fingerprint(table(tmp_path / "3.csv", {"path": ["1.png", "2.png"], "label": ["a", "b"]}))


def test_the_fingerprint_is_of_some_images_and_of_pixels(tmp_path):
    put(tmp_path, "a/1.png", "b/1.png")
    before = fingerprint(tmp_path, [0])
    put(tmp_path, "b/1.png", content=b"longer")
    assert fingerprint(tmp_path, [0]) == before != fingerprint(tmp_path, [1])
    data = listed(["a/1", "a/2"])
    brighter = replace(data, images=ArrayImages(np.ones((2, 1, 1), np.uint8), ["a/1", "a/2"]))
    assert data.fingerprint(data.indices()) != brighter.fingerprint(data.indices())


def test_the_fingerprints_are_those_that_models_have_stored():
    data = open_dataset("digits")
    assert data.fingerprint(data.indices())[:16] == "2973bc9c60eb5f8a"
    assert data.fingerprint(np.array([5, 3, 3, 1]))[:16] == "8ea8eef07c8e6cdb"
    assert data.fingerprint(divide(data, 0.1, 3).train)[:16] == "baaa765dc21ace5d"
    keys = [f"class{number % 5}/photo{number}ä.jpg" for number in range(3000)]
    files = FileImages(Path("/nowhere"), keys)
    gone = Dataset("x", files, tuple(f"class{number}" for number in range(5)), np.arange(3000) % 5)
    assert gone.fingerprint(np.arange(2999, 0, -3))[:16] == "ad2346985dad9f62"


def test_a_file_that_is_gone_still_has_a_fingerprint(tmp_path):
    data = Dataset("gone", FileImages(tmp_path, ["a/1.png"]), ("a",), np.array([0]))
    assert len(data.fingerprint(data.indices())) == 64
