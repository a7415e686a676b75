"""Images that lie in tables: Parquet as the Hugging Face hub has it, folders that `datasets` saved, `hf:` names."""

import hashlib
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from serving import Handler, serving

from resnets.data.decode import UnreadableImage
from resnets.data.sources import open_dataset, parquet
from resnets.errors import WorkFailed

NAMES = ["cat", "dog", "n10", "n9"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def png(number):
    """An image whose every pixel is its number."""
    content = io.BytesIO()
    Image.new("RGB", (3, 2), (number % 256, number // 256, 0)).save(content, "PNG")
    return content.getvalue()


def number_of(image):
    return int(image[0, 0, 0]) + 256 * int(image[0, 0, 1])


def metadata(names=NAMES, image="image", label="label"):
    features = {image: {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}}
    return {"huggingface": json.dumps({"info": {"features": features}})}


def rows(first, count, labels=None, *, image="image", label="label", names=NAMES, path=True, **more):
    """A table as the hub has it: struct {bytes, path}, whole numbers as labels, names in its metadata."""
    pictures = [
        {"bytes": png(number), **({"path": f"{number}.png"} if path else {})} for number in range(first, first + count)
    ]
    labels = [number % len(NAMES) for number in range(first, first + count)] if labels is None else labels
    table = pa.table({image: pictures, label: labels, **more})
    return table.replace_schema_metadata(metadata(names, image, label)) if names else table


def write(path, table, group=5):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group)
    return path


def said(data, split=None):
    """(number of the image, class) of each image."""
    return [(number_of(data.images.read(index)), data.classes[data.labels[index]]) for index in data.indices(split).tolist()]


def expected(numbers):
    return [(number, NAMES[number % len(NAMES)]) for number in numbers]


# Parquet


@pytest.mark.parametrize("kind", ["struct", "binary", "large binary"])
@pytest.mark.parametrize("image", ["image", "img"])
def test_a_parquet_file_with_images_inside(tmp_path, kind, image):
    table = rows(0, 23, image=image)
    if kind != "struct":
        column = pa.array([png(number) for number in range(23)], pa.binary() if kind == "binary" else pa.large_binary())
        table = table.set_column(0, image, column)
    data = open_dataset(write(tmp_path / "photos.parquet", table))
    assert (data.name, data.classes, data.splits, len(data)) == ("photos", ("cat", "dog", "n9", "n10"), {}, 23)
    assert said(data) == expected(range(23)) and data.labels.dtype == np.int64
    assert data.images.encoded(7) == png(7) and data.images.read(7, grey=True).shape == (2, 3, 1)
    assert data.images.keys[12] == "all/00000012" and len(set(data.images.keys)) == 23


@pytest.mark.parametrize("inside", ["", "data"])
def test_a_folder_of_parquet_files_has_the_splits_of_their_names(tmp_path, inside):
    place = tmp_path / "set" / inside
    write(place / "test-00000-of-00001.parquet", rows(100, 4))
    write(place / "train-00000-of-00002.parquet", rows(0, 7))
    write(place / "train-00001-of-00002-abcdef.parquet", rows(7, 6))
    write(place / "validation-00000-of-00001.parquet", rows(50, 3))
    data = open_dataset(tmp_path / "set")
    assert data.name == "set" and list(data.splits) == ["train", "val", "test"]
    assert said(data, "train") == expected(range(13)) and said(data, "test") == expected(range(100, 104))
    assert said(data, "val") == expected(range(50, 53))
    assert data.images.keys[12] == "train/00000012" and data.images.keys[13] == "val/00000000"


def test_a_folder_of_parts_has_no_splits(tmp_path):
    write(tmp_path / "set" / "data-00000-of-00002.parquet", rows(0, 7))
    write(tmp_path / "set" / "data-00001-of-00002.parquet", rows(7, 6))
    data = open_dataset(tmp_path / "set")
    assert data.splits == {} and said(data) == expected(range(13))


def test_a_test_split_without_labels_is_left_out_and_said(tmp_path, caplog):
    caplog.set_level("INFO", "resnets")
    write(tmp_path / "set" / "train.parquet", rows(0, 6))
    write(tmp_path / "set" / "test.parquet", rows(6, 3, [-1] * 3))
    data = open_dataset(tmp_path / "set")
    assert list(data.splits) == ["train"] and said(data) == expected(range(6))
    assert "the split test is left out, as none of its 3 images has a label" in caplog.text


def test_labels_are_names_numbers_or_of_another_column(tmp_path):
    by_name = rows(0, 4, ["a", "b", "b", "10"], names=None)
    assert [name for _, name in said(open_dataset(write(tmp_path / "a.parquet", by_name)))] == ["a", "b", "b", "10"]
    coded = rows(0, 600, pa.array(["x", "y"] * 300).dictionary_encode(), names=None)
    assert open_dataset(write(tmp_path / "b.parquet", coded)).labels.tolist() == [0, 1] * 300
    numbers = rows(0, 3, [10, 9, 10], names=None)
    assert open_dataset(write(tmp_path / "c.parquet", numbers)).classes == ("9", "10")
    fine = rows(0, 4, label="fine_label", coarse=[0, 1, 0, 1])
    assert said(open_dataset(write(tmp_path / "d.parquet", fine))) == expected(range(4))


def test_classes_of_one_name_stay_two(tmp_path):
    path = write(tmp_path / "a.parquet", rows(0, 3, [0, 1, 2], names=["crane", "crow", "crane"]))
    assert [name for _, name in said(open_dataset(path))] == ["crane (0)", "crow", "crane (2)"]


def test_a_parquet_file_with_paths_is_a_manifest(tmp_path):
    data = open_dataset(
        write(tmp_path / "a.parquet", rows(0, 3, path=False, names=None).append_column("path", [["x", "y", "z"]]))
    )
    assert list(data.images.keys) == ["x", "y", "z"] and data.images.root == tmp_path


def test_a_manifest_beside_class_folders_changes_nothing(tmp_path):
    (tmp_path / "set" / "a").mkdir(parents=True)
    (tmp_path / "set" / "a" / "1.png").write_bytes(png(1))
    write(tmp_path / "set" / "labels.parquet", pa.table({"path": ["a/1.png"], "label": ["a"]}))
    assert list(open_dataset(tmp_path / "set").images.keys) == ["a/1.png"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            rows(0, 3).rename_columns(["image", "what"]).replace_schema_metadata(None),
            "no column 'label'; its columns: image",
        ),
        (rows(0, 3, [0, None, 1]), "row 2 has no label"),
        (rows(0, 3, [0, 1, -1]), "row 3 has no label"),
        (rows(0, 3, [0, 4, 1]), "row 2 has the label 4, and there are 4 classes"),
        (rows(0, 3, ["a", "", "b"], names=None), "row 2 has no label"),
        (rows(0, 3, [[1], [2], [3]], names=None), "are no classes"),
        (rows(0, 0), "lists no image"),
    ],
)
def test_tables_that_lack_something_are_told_what(tmp_path, table, said):
    if not len(table):
        table = rows(0, 1).slice(0, 0)
    with pytest.raises(ValueError, match=said) as caught:
        open_dataset(write(tmp_path / "set.parquet", table))
    assert "set.parquet" in str(caught.value)


def test_a_damaged_parquet_file_is_refused(tmp_path):
    path = write(tmp_path / "a.parquet", rows(0, 20))
    content = path.read_bytes()
    for damaged in (content[:-5], content[:40] + bytes(300) + content[340:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.parquet can't be read"):
            open_dataset(path)


def test_rows_without_an_image_are_unreadable(tmp_path):
    table = rows(0, 3)
    pictures = pa.array([{"bytes": png(0), "path": None}, {"bytes": None, "path": None}, None], table.schema.field(0).type)
    images = open_dataset(write(tmp_path / "a.parquet", table.set_column(0, "image", pictures))).images
    assert number_of(images.read(0)) == 0
    for index in (1, 2):
        with pytest.raises(UnreadableImage, match="the row has no image"):
            images.read(index)
    assert list(images.contents())[1:] == [b"-1", b"-1"]


def test_a_row_may_name_a_file_beside_the_table(tmp_path):
    table = rows(0, 2)
    pictures = pa.array(
        [{"bytes": None, "path": "x/5.png"}, {"bytes": None, "path": "none.png"}], table.schema.field(0).type
    )
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "5.png").write_bytes(png(5))
    images = open_dataset(write(tmp_path / "a.parquet", table.set_column(0, "image", pictures))).images
    assert number_of(images.read(0)) == 5 and list(images.contents()) == [str(len(png(5))).encode(), b"-1"]
    with pytest.raises(UnreadableImage):
        images.read(1)


def test_a_file_is_unpacked_once_and_again_when_it_is_another(tmp_path, cache, monkeypatch):
    path = write(tmp_path / "a.parquet", rows(0, 10))
    open_dataset(path)
    (kept,) = (cache / "unpacked").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(parquet, "_unpack", None)
        assert said(open_dataset(path)) == expected(range(10))
    write(path, rows(20, 11))
    assert said(open_dataset(path)) == expected(range(20, 31))
    assert kept not in (cache / "unpacked").iterdir() and len(list((cache / "unpacked").iterdir())) == 1


def test_a_damaged_unpacked_file_is_made_again(tmp_path, cache, caplog):
    path = write(tmp_path / "a.parquet", rows(0, 10))
    open_dataset(path)
    (kept,) = (cache / "unpacked").iterdir()
    kept.write_bytes(kept.read_bytes()[:-100])
    assert said(open_dataset(path)) == expected(range(10))
    assert "is damaged and made again" in caplog.text


def test_a_full_disk_is_said_before_it_is_filled(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(parquet.shutil, "disk_usage", lambda _: type("", (), {"free": 10}))
    with pytest.raises(WorkFailed, match="set RESNETS_CACHE to a folder that has it"):
        open_dataset(write(tmp_path / "a.parquet", rows(0, 10)))
    assert not list((cache / "unpacked").iterdir())


def test_threads_read_in_any_order_and_nothing_is_decoded_twice(tmp_path, monkeypatch):
    data = open_dataset(write(tmp_path / "a.parquet", rows(0, 700), group=350))
    monkeypatch.setattr(pq.ParquetFile, "__init__", None)  # reading images opens no Parquet file
    order = np.random.default_rng(0).permutation(700).tolist() * 2
    gate = threading.Barrier(8)

    def read(part):
        gate.wait()
        return [number_of(data.images.read(index)) for index in part]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, [order[start::8] for start in range(8)]))
    assert found == [order[start::8] for start in range(8)]


def test_the_fingerprint_is_of_labels_and_sizes(tmp_path):
    def fingerprint(name, table):
        data = open_dataset(write(tmp_path / name, table))
        return data.fingerprint(data.indices())

    first = fingerprint("a.parquet", rows(0, 10))
    assert fingerprint("b.parquet", rows(0, 10)) == first
    assert fingerprint("c.parquet", rows(0, 10, [0] * 10)) != first
    assert fingerprint("d.parquet", rows(0, 9)) != first
    larger = rows(0, 10).set_column(0, "image", pa.array([png(number) + b" " for number in range(10)]))
    assert fingerprint("e.parquet", larger) != first


# What `datasets` saved


def save(place, tables, ending=pa.ipc.new_stream, **state):
    """A Dataset as save_to_disk leaves it."""
    place.mkdir(parents=True)
    names = [f"data-{number:05}-of-{len(tables):05}.arrow" for number in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        with pa.OSFile(str(place / name), "wb") as file, ending(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=4)
    (place / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names], **state}))
    (place / "dataset_info.json").write_text("{}")
    return place


@pytest.mark.parametrize("ending", [pa.ipc.new_stream, pa.ipc.new_file])
def test_a_saved_dataset(tmp_path, cache, ending):
    data = open_dataset(save(tmp_path / "photos", [rows(0, 9), rows(9, 5)], ending, _split="train"))
    assert (data.name, data.splits) == ("photos", {}) and said(data) == expected(range(14))
    assert not cache.exists()


def test_a_saved_dict_has_its_splits(tmp_path):
    root = tmp_path / "photos"
    for name, first in (("test", 0), ("validation", 10), ("train", 20), ("extra", 30)):
        save(root / name, [rows(first, 6)])
    (root / "dataset_dict.json").write_text(json.dumps({"splits": ["test", "validation", "train", "extra"]}))
    data = open_dataset(root)
    assert list(data.splits) == ["train", "val", "test", "extra"]
    assert said(data, "train") == expected(range(20, 26)) and said(data, "extra") == expected(range(30, 36))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: (root / "state.json").write_text("{"), "state.json is no JSON file"),
        (lambda root: (root / "state.json").write_text("[]"), "no JSON object"),
        (lambda root: (root / "state.json").write_text("{}"), "names no Arrow files"),
        (lambda root: (root / "data-00000-of-00001.arrow").unlink(), "can't be read as an Arrow file"),
        (lambda root: (root / "data-00000-of-00001.arrow").write_bytes(b"x" * 99), "can't be read as an Arrow file"),
        (lambda root: (root / "state.json").write_text('{"_indices_data_files": [{"filename": "x"}]}'), "flatten_indices"),
        (lambda root: (root / "dataset_dict.json").write_text('{"splits": []}'), "names no splits"),
    ],
)
def test_a_saved_folder_that_is_damaged_is_told_what(tmp_path, change, said):
    root = save(tmp_path / "photos", [rows(0, 5)])
    change(root)
    with pytest.raises(ValueError, match=said) as caught:
        open_dataset(root)
    assert str(root) in str(caught.value)


# The hub

ADDRESS = "resolve/c0ffee"


class Hub(Handler):
    """Parquet files through a redirect that states their hash, as the hub sends them."""

    stated = True
    broken = False

    def send_head(self):
        path = self.translate_path(self.path)
        if not path.endswith(".parquet"):
            return super().send_head()
        try:
            with open(path, "rb") as file:  # noqa: PTH123
                content = file.read()
        except OSError:
            self.send_error(404)
            return None
        if "?blob" not in self.path:
            self.send_response(302)
            self.send_header("Location", f"{self.path}?blob")
            if self.stated:
                self.send_header("X-Linked-Etag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.end_headers()
            return None
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return io.BytesIO(content[:-1] + b"x" if self.broken else content)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A function that puts files of a repository on a site, at a revision."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody answers there
    monkeypatch.setenv("no_proxy", "*")

    def put(files, repository="me/pets", revision="main", more=()):
        for name, table in files.items():
            write(tmp_path / "site" / "datasets" / repository / ADDRESS / name, table)
        listed = tmp_path / "site" / "api" / "datasets" / repository / "revision" / revision
        listed.parent.mkdir(parents=True, exist_ok=True)
        siblings = [{"rfilename": name} for name in ("README.md", *files, *more)]
        listed.write_text(json.dumps({"sha": "c0ffee", "siblings": siblings}))
        return tmp_path / "site"

    return put


SPLIT = {"data/train-00000-of-00001.parquet": rows(0, 9), "data/test-00000-of-00001.parquet": rows(9, 4)}


@pytest.mark.parametrize("name", ["hf:me/pets", "hf:me/pets@main"])
def test_a_dataset_of_the_hub_is_fetched_once(site, monkeypatch, name):
    with serving(site(SPLIT), Hub) as (address, asked):
        monkeypatch.setenv("HF_ENDPOINT", address)
        data = open_dataset(name)
        first = len(asked)
        open_dataset(name)
        assert len(asked) == first == 5
    assert data.name == "pets" and said(data, "train") == expected(range(9)) and said(data, "test") == expected(range(9, 13))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert said(open_dataset(name)) == said(data)


def test_what_was_fetched_stays_and_the_rest_is_fetched(site, monkeypatch, cache):
    place = site(SPLIT)
    train = place / "datasets" / "me" / "pets" / ADDRESS / "data" / "train-00000-of-00001.parquet"
    content = train.read_bytes()
    train.unlink()
    with serving(place, Hub) as (address, asked):
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(ValueError, match=r"hf:me/pets: .*train-00000.* isn't there"):
            open_dataset("hf:me/pets")
        train.write_bytes(content)
        asked.clear()
        assert len(open_dataset("hf:me/pets")) == 13
        assert len(asked) == 2 and all("train-" in path for path in asked)
        (fetched,) = (cache / "datasets").rglob("test-*.parquet")
        fetched.write_bytes(b"cut off")
        asked.clear()
        assert len(open_dataset("hf:me/pets")) == 13
        assert len(asked) == 2 and all("test-" in path for path in asked)


def test_configurations_are_told_apart(site, monkeypatch):
    files = {"plain/train-00000-of-00001.parquet": rows(0, 5), "noisy/train/0000.parquet": rows(50, 6)}
    with serving(site(files), Hub) as (address, asked):
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(ValueError, match="several configurations; name one: hf:me/pets/noisy, hf:me/pets/plain"):
            open_dataset("hf:me/pets")
        assert said(open_dataset("hf:me/pets/noisy"), "train") == expected(range(50, 56))
        assert not [path for path in asked if "plain" in path]
        with pytest.raises(ValueError, match="no Parquet files in none"):
            open_dataset("hf:me/pets/none")


def test_what_is_no_parquet_comes_from_the_hubs_conversion(site, monkeypatch):
    site({}, more=["images.zip"])
    place = site({"default/train/0000.parquet": rows(0, 5)}, revision="refs/convert/parquet")
    with serving(place, Hub) as (address, _):
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert said(open_dataset("hf:me/pets"), "train") == expected(range(5))
        site({}, "me/more")
        with pytest.raises(ValueError, match="hf:me/more has no Parquet files"):
            open_dataset("hf:me/more")


@pytest.mark.parametrize(
    ("change", "said"), [({"broken": True}, "sent something else"), ({"stated": False}, "states no hash of it")]
)
def test_what_is_not_its_hash_is_not_kept(site, monkeypatch, cache, change, said):
    with serving(site(SPLIT), type("Hub", (Hub,), change)) as (address, _):
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(WorkFailed, match=f"couldn't be fetched .*{said}"):
            open_dataset("hf:me/pets")
    assert not list(cache.rglob("*.parquet"))


def test_without_a_network_it_says_how_to_bring_the_files(site, cache, caplog):
    with pytest.raises(WorkFailed, match=r"hf:me/pets couldn't be fetched .*train-….parquet.* into .*me--pets@main"):
        open_dataset("hf:me/pets")
    write(cache / "datasets" / "me--pets@main" / "train-0.parquet", rows(0, 5))
    assert said(open_dataset("hf:me/pets"), "train") == expected(range(5))
    assert "was brought by hand" in caplog.text


@pytest.mark.parametrize("name", ["hf:pets", "hf:me/pets/../x", "hf:", "hf:me/pets@"])
def test_names_that_are_none(name, site):
    with pytest.raises(ValueError, match="is no name of the hub's"):
        open_dataset(name)


def test_names_of_the_hub_that_are_not_there(site, monkeypatch):
    with serving(site(SPLIT), Hub) as (address, _):
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(ValueError, match=r"hf:me/none: .* isn't there, or isn't public"):
            open_dataset("hf:me/none")


def test_no_file_is_written_outside_of_the_cache(site, monkeypatch, tmp_path):
    with serving(site(SPLIT, more=["../../../x.parquet", "/x.parquet"]), Hub) as (address, _):
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert len(open_dataset("hf:me/pets")) == 13
