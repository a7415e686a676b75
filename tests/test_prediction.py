import io
import itertools
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tiny import CLASSES, HOW, pictures, tiny

from resnets import Prediction, machine, predict
from resnets.data.preprocessing import Preprocessing, crop, normalise
from resnets.metrics import softmax
from resnets.prediction import Counted
from resnets.prediction.paths import expand
from resnets.prediction.predictor import Predictor
from resnets.prediction.tables import check_table, table_row, write_table

ENGINES = ("openvino", "torch")


@pytest.fixture(scope="module")
def model():
    return tiny(HOW)


@pytest.fixture(scope="module")
def photos():
    return pictures()


@pytest.fixture
def folder(tmp_path, photos):
    """The photos as files 0.png … 59.png, of which 7.png and every tenth are text."""
    (tmp_path / "photos").mkdir()
    for number, pixels in enumerate(photos):
        path = tmp_path / "photos" / f"{number}.png"
        Image.fromarray(pixels).save(path)
        if is_text(number):
            path.write_text("no image")
    return tmp_path / "photos"


def is_text(number):
    return number % 10 == 0 or number == 7


def table_of(predictions):
    """Scores float64 [images, classes], in the order of CLASSES."""
    return np.array([[dict(found.top(3))[name] for name in CLASSES] for found in predictions])


def scores(model, images, **how):
    return table_of(predict(model, images, **{"precision": "float32", **how}))


def reference(model, photos):
    """The same by the plain functions and the torch module."""
    crops = np.stack([crop(image, model.preprocessing) for image in photos])
    with torch.inference_mode():
        return softmax(model.network()(torch.from_numpy(normalise(crops, model.preprocessing))).numpy())


# Engines


def test_each_class_is_likeliest_of_some_photos_and_no_two_score_alike(model, photos):
    found = reference(model, photos)
    assert set(found.argmax(1)) == {0, 1, 2}
    apart = np.abs(found[:, None] - found[None]).max(2)
    assert apart[~np.eye(len(photos), dtype=bool)].min() > 1e-3


VARIANTS = {
    "RGB": HOW,
    "BGR, mean alone": Preprocessing(
        size=32, crop=1.0, colour="BGR", scale=1.0, mean=(104, 117, 123), deviation=(60, 50, 70)
    ),
    "grey": Preprocessing(size=32, crop=1.0, colour="grey", mean=(0.4,), deviation=(0.3,)),
    "padded, of another size": Preprocessing(size=24, fit="pad", interpolation="bicubic"),
}


@pytest.mark.parametrize("kind", VARIANTS)
@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_scores_as_the_network_does(kind, engine, photos):
    model = tiny(VARIANTS[kind])
    images = photos[:10, :, :, : model.preprocessing.channels]
    found = scores(model, list(images), engine=engine)
    assert np.allclose(found, reference(model, images), atol=1e-4)
    assert found.std(0).max() > 0.01


def test_the_order_of_channels_matters(photos):
    bgr = tiny(VARIANTS["BGR, mean alone"])
    rgb = replace(bgr, preprocessing=replace(bgr.preprocessing, colour="RGB"))
    swapped = scores(rgb, list(photos[:5, :, :, ::-1]))
    assert np.allclose(scores(bgr, list(photos[:5])), swapped, atol=1e-4)
    assert not np.allclose(scores(bgr, list(photos[:5])), scores(rgb, list(photos[:5])), atol=1e-2)


@pytest.mark.parametrize("engine", ENGINES)
def test_bf16_is_near(model, photos, engine):
    found = scores(model, list(photos[:10]), engine=engine, precision="bf16")
    assert np.allclose(found, reference(model, photos[:10]), atol=0.05)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("batch", [1, 7, 100])
def test_the_batch_size_changes_no_score(model, photos, engine, batch):
    images = list(photos[:30])
    expected = scores(model, images, engine=engine)
    assert np.allclose(scores(model, images, engine=engine, batch=batch), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_mirrored_answers_are_the_means_of_both(model, photos, engine):
    crops = [crop(image, model.preprocessing) for image in photos]
    ready = replace(model, preprocessing=replace(model.preprocessing, crop=1.0))
    mirrored = [np.ascontiguousarray(image[:, ::-1]) for image in crops]
    there, back = (scores(ready, images, engine=engine) for images in (crops, mirrored))
    assert np.abs(there - back).max() > 0.01
    found = scores(ready, crops, engine=engine, mirror=True)
    np.testing.assert_allclose(found, (there + back) / 2, rtol=1e-4, atol=1e-6)
    one, other, both = (
        next(predict(ready, [image], engine=engine, precision="float32", features=True, mirror=mirror)).features
        for image, mirror in ((crops[0], False), (mirrored[0], False), (crops[0], True))
    )
    np.testing.assert_allclose(both, (np.array(one) + np.array(other)) / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_features_are_the_pooled_vector(model, photos, engine):
    found = [output.features for output in Predictor(model, engine=engine, precision="float32")(list(photos[:3]))]
    crops = np.stack([crop(image, HOW) for image in photos[:3]])
    with torch.inference_mode():
        expected = model.network().features(torch.from_numpy(normalise(crops, HOW))).numpy()
    assert np.allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_features_come_where_they_are_asked_for(model, folder, photos):
    found = list(predict(model, [folder / "1.png", folder / "7.png"], features=True, precision="float32"))
    expected = next(Predictor(model, precision="float32")([photos[1]])).features
    assert np.array_equal(found[0].features, expected) and expected.dtype == np.float32
    assert found[0].to_json()["features"] == expected.tolist()
    assert found[1].features is None and found[1].to_json().keys() == {"path", "error"}
    assert found[0] == predict(model, folder / "1.png", precision="float32")
    assert predict(model, folder / "1.png").features is None


@pytest.mark.parametrize("engine", ["tensorrt", "", "OpenVINO", None])
def test_an_unknown_engine_lists_those_there_are(model, engine):
    with pytest.raises(ValueError, match="engine is auto, openvino"):
        predict(model, [], engine=engine)


@pytest.mark.parametrize("precision", ["float16", "", "fp32", None])
def test_an_unknown_precision_lists_those_there_are(model, precision):
    with pytest.raises(ValueError, match="precision is auto, float32 or bf16"):
        predict(model, [], precision=precision)


@pytest.mark.parametrize("engine", ["auto", *ENGINES])
def test_int8_says_how_to_export(model, engine):
    with pytest.raises(ValueError, match=r"resnets export MODEL .*--precision int8"):
        predict(model, [], engine=engine, precision="int8")


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_of_none_is_refused(model, photos, batch):
    with pytest.raises(ValueError, match="batch"):
        list(predict(model, list(photos[:2]), batch=batch))


def test_a_model_without_preprocessing_asks_for_it(model, photos):
    with pytest.raises(ValueError, match="--preprocessing"):
        predict(replace(model, preprocessing=None), photos[0])


# One image and many


@pytest.mark.parametrize("batch", [1, 16])
def test_many_come_in_order_with_unreadable_ones_among_them(model, folder, photos, batch):
    paths = [str(folder / f"{number}.png") for number in range(60)]
    found = list(predict(model, paths, precision="float32", batch=batch))
    assert [answer.path for answer in found] == paths
    failed = [number for number, answer in enumerate(found) if answer.error]
    assert failed == [number for number in range(60) if is_text(number)]
    good = [number for number in range(60) if number not in failed]
    assert np.allclose(table_of(found[number] for number in good), reference(model, photos[good]), atol=1e-4)
    assert all(found[number].labels == () == found[number].scores for number in failed)


def test_unreadable_images_alone(model, folder):
    found = list(predict(model, [folder / "7.png", folder / "none.png", b"", b"text"]))
    assert [answer.error is None for answer in found] == [False] * 4
    assert found[1].error == "No such file or directory"
    assert [answer.path for answer in found] == [str(folder / "7.png"), str(folder / "none.png"), None, None]


def test_one_image_gives_a_prediction_and_many_an_iterator(model, folder):
    one = predict(model, folder / "1.png")
    assert isinstance(one, Prediction)
    many = predict(model, [folder / "1.png"])
    assert iter(many) is many
    assert list(many) == [one]
    assert list(predict(model, [])) == []
    assert predict(model, folder / "7.png").error


def test_a_folder_counts_as_many(model, folder):
    found = list(predict(model, folder))
    assert [answer.path for answer in found] == [str(folder / f"{number}.png") for number in range(60)]


def test_a_model_by_its_file(model, folder, tmp_path):
    model.save(tmp_path / "tiny.safetensors")
    assert predict(tmp_path / "tiny.safetensors", folder / "1.png") == predict(model, folder / "1.png")
    with pytest.raises(ValueError, match="no file"):
        predict(tmp_path / "none.safetensors", folder / "1.png")


def test_bytes_picture_array_and_path_give_the_same(model, folder, photos):
    path = folder / "1.png"
    expected = predict(model, path)
    assert expected.path == str(path)
    for source in (path.read_bytes(), Image.open(path), Image.fromarray(photos[1]), photos[1]):
        found = predict(model, source)
        assert found.path is None
        assert (found.labels, found.scores) == (expected.labels, expected.scores)
    assert predict(model, str(path)) == expected


def odd_pictures(photo):
    """Pictures that aren't plain RGB, and the format that keeps them so."""
    alpha = np.dstack([photo, np.tile(np.linspace(0, 255, photo.shape[1]).astype(np.uint8), (photo.shape[0], 1))])
    turned = Image.fromarray(photo)
    turned.getexif()[0x0112] = 6
    return {
        "transparent": (Image.fromarray(alpha), "PNG"),
        "16-bit grey": (Image.fromarray(photo[..., 0].astype(np.uint16) * 257), "PNG"),
        "turned": (turned, "PNG"),
        "palette": (Image.fromarray(photo).quantize(16), "PNG"),
        "CMYK": (Image.fromarray(photo).convert("CMYK"), "TIFF"),
        "grey": (Image.fromarray(photo).convert("L"), "PNG"),
    }


@pytest.mark.parametrize("kind", ["transparent", "16-bit grey", "turned", "palette", "CMYK", "grey"])
def test_an_opened_picture_is_seen_as_its_file_is(model, photos, tmp_path, kind):
    picture, form = odd_pictures(photos[1])[kind]
    path = tmp_path / f"odd.{form.lower()}"
    picture.save(path, form, **({"exif": picture.getexif()} if kind == "turned" else {}))
    expected = predict(model, path, precision="float32")
    with Image.open(path) as opened:
        found = predict(model, opened, precision="float32")
    assert dict(found.top(3)) == pytest.approx(dict(expected.top(3)), abs=1e-3)


def test_a_grey_model_reads_colour_files(photos, folder):
    model = tiny(VARIANTS["grey"])
    from_file = predict(model, folder / "1.png", precision="float32")
    from_picture = predict(model, Image.open(folder / "1.png"), precision="float32")
    from_array = predict(model, np.asarray(Image.open(folder / "1.png").convert("L")), precision="float32")
    assert from_file.labels == from_picture.labels == from_array.labels
    assert from_picture.scores == from_array.scores == pytest.approx(from_file.scores, abs=1e-3)


@pytest.mark.parametrize("shape", [(40, 48), (40, 48, 1), (40, 48, 4), (3, 40, 48), (1, 40, 48, 3), (48,)])
def test_an_array_of_the_wrong_shape_is_an_error(model, shape):
    with pytest.raises(ValueError, match="channels"):
        predict(model, np.zeros(shape, np.uint8))


def test_an_array_of_colours_for_a_grey_model_is_an_error(photos):
    with pytest.raises(ValueError, match="1 channels"):
        list(predict(tiny(VARIANTS["grey"]), [photos[0]]))


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint16])
def test_an_array_that_is_no_uint8_is_an_error(model, photos, kind):
    with pytest.raises(ValueError, match="uint8"):
        predict(model, photos[0].astype(kind))


def test_top_and_above(model, photos):
    every = predict(model, photos[0], precision="float32")
    assert sorted(every.labels) == sorted(CLASSES)
    assert list(every.scores) == sorted(every.scores, reverse=True)
    assert sum(every.scores) == pytest.approx(1, abs=1e-5)
    assert every.top() == [(every.labels[0], every.scores[0])]
    assert every.top(2) == list(zip(every.labels, every.scores, strict=True))[:2]
    assert len(every.top(5)) == 3
    assert predict(model, photos[0], top=2, precision="float32").labels == every.labels[:2]
    assert predict(model, photos[0], top=9, precision="float32").labels == every.labels
    limit = (every.scores[0] + every.scores[1]) / 2
    assert predict(model, photos[0], above=limit, precision="float32").labels == every.labels[:1]
    assert predict(model, photos[0], above=1.0, precision="float32").labels == ()


@pytest.mark.parametrize("how", [{"top": 0}, {"top": -1}, {"above": -0.1}, {"above": 1.1}, {"above": float("nan")}])
def test_top_and_above_out_of_range_are_refused_at_once(model, how):
    with pytest.raises(ValueError, match=next(iter(how))):
        predict(model, [], **how)


def test_json_of_a_prediction(model, folder):
    found = predict(model, [folder / "1.png", folder / "7.png"], top=2)
    good, bad = (json.loads(json.dumps(answer.to_json())) for answer in found)
    assert good.keys() == {"path", "labels", "scores"} and len(good["labels"]) == len(good["scores"]) == 2
    assert bad.keys() == {"path", "error"} and bad["path"] == str(folder / "7.png")


@pytest.mark.parametrize(("names", "status"), [(["1", "7"], 0), (["7", "10"], 1), ([], 1)])
def test_the_count_of_what_came_of_them(model, folder, caplog, names, status):
    answers = Counted(predict(model, [folder / f"{name}.png" for name in names]))
    assert len(list(answers)) == len(names)
    assert (answers.predicted, answers.failed) == (names.count("1"), len(names) - names.count("1"))
    assert answers.status() == status
    assert (f"{answers.failed} of {len(names)} images" in caplog.text) == bool(answers.failed)


# Memory and threads


@pytest.mark.parametrize("batch", [1, 16])
def test_a_long_row_of_images_is_not_taken_far_ahead(model, photos, batch):
    taken = 0

    def endless():
        nonlocal taken
        for image in itertools.islice(itertools.cycle(photos), 1000):
            taken += 1
            yield image

    furthest = 0
    for given, _ in enumerate(predict(model, endless(), precision="float32", batch=batch), 1):
        furthest = max(furthest, taken - given)
    assert (given, taken) == (1000, 1000)
    assert furthest <= 3 * machine.cores() * batch


def test_an_exception_of_the_callers_generator_is_theirs(model, photos):
    def broken():
        yield photos[0]
        raise KeyError("their own")

    with pytest.raises(KeyError, match="their own"):
        list(predict(model, broken()))


def test_leaving_early_ends_the_threads(model, photos):
    list(predict(model, list(photos[:2])))  # what the engine starts once stays
    before = set(threading.enumerate())
    answers = predict(model, (photos[0] for _ in range(1000)))
    next(answers)
    started = set(threading.enumerate()) - before
    assert started
    answers.close()
    for thread in started:
        thread.join(5)
    assert set(threading.enumerate()) == before


# Paths


def put(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


def test_a_file_and_a_missing_path_are_passed_through(tmp_path):
    put(tmp_path, "a.jpg")
    paths = [str(tmp_path / "a.jpg"), str(tmp_path / "none.jpg"), "no/such.png"]
    assert list(expand([tmp_path / "a.jpg", *paths[1:]])) == paths


def test_a_name_that_is_no_utf_8_where_the_terminal_is_strict(model, folder, tmp_path):
    saved = model.save(tmp_path / "model.safetensors")
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / name).write_bytes((folder / "1.png").read_bytes())
    command = [sys.executable, "-m", "resnets", "predict", str(saved), "-", "--json"]
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(
        command, input=os.fsencode(f"{name}\n"), capture_output=True, cwd=tmp_path, env=strict, check=False
    )
    assert done.returncode == 0, done.stderr
    (answer,) = json.loads(done.stdout)
    assert answer["path"] == name and "labels" in answer


@pytest.mark.parametrize("path", ["x" * 300 + ".jpg", "a\0b.jpg"])
def test_a_path_that_no_file_can_have_is_passed_through(path, model):
    assert list(expand([path])) == [path]
    (answer,) = predict(model, [path])
    assert answer.error


def test_a_folder_in_natural_order_with_what_lies_below(tmp_path):
    put(
        tmp_path,
        "10.jpg",
        "9.jpg",
        "b10/1.png",
        "b9/2.JPG",
        ".hidden.jpg",
        ".git/1.jpg",
        "__MACOSX/1.jpg",
        "notes.txt",
        "b9/x.csv",
    )
    found = [str(path).removeprefix(f"{tmp_path}/") for path in expand([tmp_path])]
    assert found == ["9.jpg", "10.jpg", "b9/2.JPG", "b10/1.png"]


def test_paths_open_from_where_the_command_ran(tmp_path, monkeypatch):
    put(tmp_path, "photos/a.jpg", "photos/deep/b.jpg")
    monkeypatch.chdir(tmp_path)
    assert list(expand(["photos"])) == list(expand(["photos/"])) == ["photos/a.jpg", "photos/deep/b.jpg"]
    assert list(expand(["photos/*.jpg"])) == ["photos/a.jpg"]
    monkeypatch.chdir(tmp_path / "photos")
    assert all((tmp_path / "photos" / path).is_file() for path in expand(["."]))
    assert list(expand(["../photos/deep"])) == ["../photos/deep/b.jpg"]


@pytest.mark.parametrize("content", [(), ("notes.txt",), (".hidden.jpg", ".git/1.jpg")])
def test_a_folder_without_images_is_an_error(tmp_path, content):
    put(tmp_path, *content)
    with pytest.raises(ValueError, match="holds no image"):
        list(expand([tmp_path]))


def test_a_glob(tmp_path):
    put(tmp_path, "a1.jpg", "a2.jpg", "b.jpg", "a3.png", "deep/er/a4.jpg")
    assert list(expand([f"{tmp_path}/a?.jpg"])) == [f"{tmp_path}/a1.jpg", f"{tmp_path}/a2.jpg"]
    recursive = list(expand([f"{tmp_path}/**/a*.jpg"]))
    assert sorted(recursive) == sorted(f"{tmp_path}/{name}" for name in ("a1.jpg", "a2.jpg", "deep/er/a4.jpg"))


def test_a_file_whose_name_looks_like_a_glob(tmp_path):
    put(tmp_path, "a[1].jpg", "a1.jpg")
    assert list(expand([f"{tmp_path}/a[1].jpg"])) == [f"{tmp_path}/a[1].jpg"]


def test_a_glob_that_matches_nothing_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"nothing matches .*\*\.jpg"):
        list(expand([f"{tmp_path}/*.jpg"]))


@pytest.mark.parametrize("beside", [(), ("z.jpg",)])
def test_a_glob_of_folders_is_not_passed_over_in_silence(tmp_path, beside):
    put(tmp_path, "cat/1.jpg", "dog/2.jpg", *beside)
    names = ("cat/1.jpg", "dog/2.jpg", *beside)
    assert list(expand([f"{tmp_path}/*"])) == [f"{tmp_path}/{name}" for name in names]


@pytest.mark.parametrize("text", ["path\na.jpg\ndeep/b c.jpg\n", "path,label\na.jpg,cat\ndeep/b c.jpg,\n"])
def test_a_manifest(tmp_path, text):
    (tmp_path / "list.csv").write_text(text)
    assert list(expand([tmp_path / "list.csv"])) == [f"{tmp_path}/a.jpg", f"{tmp_path}/deep/b c.jpg"]


def test_a_manifest_that_is_missing_or_has_no_paths(tmp_path):
    with pytest.raises(ValueError, match=r"list\.csv"):
        list(expand([tmp_path / "list.csv"]))
    (tmp_path / "list.csv").write_text("file\na.jpg\n")
    with pytest.raises(ValueError, match="no column 'path'"):
        list(expand([tmp_path / "list.csv"]))


def test_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("a.jpg\n\nwith space .jpg\n  \nlast.jpg"))
    assert list(expand(["first.jpg", "-", "end.jpg"])) == ["first.jpg", "a.jpg", "with space .jpg", "last.jpg", "end.jpg"]


def test_paths_are_expanded_as_they_are_needed(tmp_path):
    put(tmp_path, "a.jpg")
    (tmp_path / "empty").mkdir()
    found = expand([tmp_path, tmp_path / "empty"])
    assert next(found) == f"{tmp_path}/a.jpg"
    with pytest.raises(ValueError, match="holds no image"):
        next(found)


# Tables

ROWS = [
    table_row("a.jpg", ["cat", "dog"], [0.75, 0.25], None),
    table_row('ünï,"co\ndé.jpg', ["dog"], [0.5], None),
    table_row("broken.jpg", [], [], "not an image"),
]
COLUMNS = ["path", "label", "score", "label_2", "score_2", "error"]
EXPECTED = [
    ["a.jpg", "cat", 0.75, "dog", 0.25, None],
    ['ünï,"co\ndé.jpg', "dog", 0.5, None, None, None],
    ["broken.jpg", None, None, None, None, "not an image"],
]
SUFFIXES = (".parquet", ".csv", ".jsonl")


def read_table(path):
    """Column names and rows, as a reader of that format has them."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return table.column_names, [list(row.values()) for row in table.to_pylist()]
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return list(rows[0]) if rows else COLUMNS, [list(row.values()) for row in rows]
    import csv

    with path.open(encoding="utf-8", newline="") as file:
        names, *rows = csv.reader(file)
    as_number = {"score", "score_2"}
    cells = [
        [None if not x else float(x) if name in as_number else x for name, x in zip(names, row, strict=True)] for row in rows
    ]
    return names, cells


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_table_has_the_contracts_columns(tmp_path, suffix):
    write_table(tmp_path / f"out{suffix}", iter(ROWS), 2)
    assert read_table(tmp_path / f"out{suffix}") == (COLUMNS, EXPECTED)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_table_of_no_rows(tmp_path, suffix):
    write_table(tmp_path / f"out{suffix}", [], 2)
    assert read_table(tmp_path / f"out{suffix}") == (COLUMNS, [])


@pytest.mark.parametrize("top", [1, 3, 5])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_table_has_a_pair_of_columns_for_each_of_the_top(tmp_path, suffix, top):
    write_table(tmp_path / f"out{suffix}", [table_row("a.jpg", ["cat"], [1.0], None)], top)
    pairs = [f"{name}_{place}" for place in range(2, top + 1) for name in ("label", "score")]
    assert read_table(tmp_path / f"out{suffix}")[0] == ["path", "label", "score", *pairs, "error"]


def test_more_rows_than_a_group_of_parquet(tmp_path, monkeypatch):
    monkeypatch.setattr("resnets.prediction.tables.ROWS", 4)
    write_table(tmp_path / "out.parquet", ({**ROWS[0], "path": str(number)} for number in range(10)), 2)
    assert pq.read_metadata(tmp_path / "out.parquet").num_row_groups == 3
    assert pq.read_table(tmp_path / "out.parquet")["path"].to_pylist() == [str(number) for number in range(10)]


@pytest.mark.parametrize("name", ["out.txt", "out", "out.json", "csv"])
def test_a_table_of_another_suffix_is_refused(tmp_path, name):
    for write in (check_table, lambda path: write_table(path, ROWS, 2)):
        with pytest.raises(ValueError, match=r"\.parquet, \.csv, \.jsonl"):
            write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_missing_folder_is_named(tmp_path, suffix):
    for write in (check_table, lambda path: write_table(path, ROWS, 2)):
        with pytest.raises(ValueError, match=r"there is no folder .*none"):
            write(tmp_path / "none" / f"out{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("old", [None, b"the old table"])
def test_an_error_among_the_rows_leaves_the_old_file_or_none(tmp_path, monkeypatch, suffix, old):
    monkeypatch.setattr("resnets.prediction.tables.ROWS", 1)
    path = tmp_path / f"out{suffix}"
    if old:
        path.write_bytes(old)

    def rows():
        yield from ROWS
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError, match="the power went"):
        write_table(path, rows(), 2)
    assert [(left.name, left.read_bytes()) for left in tmp_path.iterdir()] == ([(path.name, old)] if old else [])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_name_that_is_no_utf_8_does_not_lose_the_table(tmp_path, suffix):
    write_table(tmp_path / f"out{suffix}", [table_row("caf\udce9.jpg", ["cat"], [1.0], None), *ROWS], 2)
    assert read_table(tmp_path / f"out{suffix}")[1][1:] == EXPECTED
