"""Which images are measured, and that what can't be is said."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import resnets
from resnets.architecture import named
from resnets.data.dataset import held_out
from resnets.data.preprocessing import Preprocessing
from resnets.errors import WorkFailed
from resnets.evaluation import choose, examine
from resnets.graph import weight_shapes
from resnets.model import Model


def model(classes=("ant", "bee", "cat"), **more):
    generator = np.random.default_rng(0)
    net = named("resnet20", classes=len(classes))
    state = {name: generator.normal(0, 0.1, shape).astype(np.float32) for name, shape in weight_shapes(net).items()}
    state |= {name: abs(array) + 0.5 for name, array in state.items() if name.endswith("running_var")}
    return Model(net, classes, Preprocessing(size=32, crop=1.0), state, **more)


def photos(root, *places, each=6):
    for place in places:
        (root / place).mkdir(parents=True)
        for number in range(each):
            Image.new("RGB", (32, 32), (40 * number, len(place), 9)).save(root / place / f"{number}.png")
    return root


HASHED = {"name": "photos", "held_out": {"rule": "hash", "seed": 3, "fraction": 0.5}}


def test_test_comes_before_val_and_val_before_all(tmp_path):
    data = resnets.open_dataset(
        photos(tmp_path / "a", "train/ant", "val/ant", "test/ant", "train/bee", "val/bee", "test/bee")
    )
    assert choose(model(), data, None).name == "test"
    data = resnets.open_dataset(photos(tmp_path / "b", "train/ant", "val/ant", "train/bee", "val/bee"))
    assert choose(model(), data, None).name == "val"
    assert choose(model(), data, "all").name == "all"
    assert len(choose(model(), data, "all").indices) == 24
    data = resnets.open_dataset(photos(tmp_path / "c", "ant", "bee"))
    assert choose(model(), data, None).name == "all"


def test_what_the_model_held_out_is_found_again(tmp_path):
    data = resnets.open_dataset(photos(tmp_path / "photos", "ant", "bee", "cat"))
    part = choose(model(data=HASHED), data, None)
    assert part.name == "held-out"
    assert part.indices.tolist() == np.flatnonzero(held_out(data.images.keys, 0.5, 3)).tolist()
    assert "chose the best epoch" in part.note
    elsewhere = resnets.open_dataset(photos(tmp_path / "others", "ant", "bee", "cat"))
    part = choose(model(data=HASHED), elsewhere, None)
    assert (part.name, part.note) == ("all", "images that trained the model may be among them")
    trained = np.flatnonzero(~held_out(elsewhere.images.keys, 0.5, 3))
    moved = model(data={**HASHED, "fingerprint": elsewhere.fingerprint(trained)})
    assert choose(moved, elsewhere, None).name == "held-out"
    assert choose(model(data=HASHED), elsewhere, "held-out").name == "held-out"
    with pytest.raises(ValueError, match="held out no images by the hash rule"):
        choose(model(), data, "held-out")


def test_val_that_chose_the_best_epoch_is_said(tmp_path):
    data = resnets.open_dataset(photos(tmp_path / "photos", "train/ant", "val/ant", "train/bee", "val/bee"))
    own = model(data={"name": "photos", "held_out": {"rule": "split", "split": "val"}})
    assert "chose the best epoch" in choose(own, data, None).note
    assert choose(model(), data, None).note == ""


def test_classes_are_matched_by_name_and_unknown_ones_left_out(tmp_path, caplog):
    data = photos(tmp_path / "photos", "bee", "ant", "dog")
    one, other = (resnets.evaluate(model(classes), data) for classes in (("ant", "bee", "cat"), ("ant", "bee", "cat")))
    assert one == other
    assert one["images"] == 12
    assert one["unknown_class"] == 6
    assert set(one["classes"]) == {"ant", "bee"}
    assert "the model has no class dog" in caplog.text
    assert "no image of 1 of the model's classes here: cat" in caplog.text


def test_the_figures_are_those_of_the_logits(tmp_path):
    result = examine(model(), photos(tmp_path / "photos", "ant", "bee", "cat"))
    assert result.figures["top1"] == pytest.approx((result.logits.argmax(1) == result.labels).mean())
    low, high = result.figures["interval"]
    assert 0 <= low <= result.figures["top1"] <= high <= 1
    assert result.keys == sorted(result.keys)


@pytest.mark.parametrize("mirrors", [True, False])
def test_mirror_images_that_are_something_else_are_said(tmp_path, caplog, mirrors):
    data = replace(resnets.open_dataset(photos(tmp_path / "a", "ant", "bee")), mirrors=mirrors)
    assert examine(model(), data, mirror=True, precision="float32").figures["mirror"] is True
    assert ("a mirror image of a is something else" in caplog.text) is not mirrors


def test_unreadable_files_are_counted_and_nothing_readable_fails(tmp_path):
    data = photos(tmp_path / "photos", "ant", "bee")
    (data / "ant" / "0.png").write_text("no image")
    assert resnets.evaluate(model(), data)["unreadable"] == 1
    for path in data.rglob("*.png"):
        path.write_text("no image")
    with pytest.raises(WorkFailed, match=r"none of the 12 images could be read; the first: ant/0.png"):
        resnets.evaluate(model(), data)


def test_logits_stay_with_their_images_where_some_cannot_be_read(tmp_path):
    whole = examine(model(), photos(tmp_path / "photos", "ant", "bee"))
    for name in ("ant/0.png", "ant/3.png", "bee/5.png"):
        (tmp_path / "photos" / name).write_text("no image")
    some = examine(model(), tmp_path / "photos")
    rows = [row for row, key in enumerate(whole.keys) if key not in some.unreadable]
    assert len(some.unreadable) == 3 and list(some.keys) == [whole.keys[row] for row in rows]
    assert some.labels.tolist() == whole.labels[rows].tolist() and some.logits.shape == (9, 3)
    np.testing.assert_allclose(some.logits, whole.logits[rows], atol=1e-4)


@pytest.mark.slow
def test_the_demo_ends_well(tmp_path):
    found = resnets.demo(tmp_path / "demo")
    assert found["top1"] >= 0.97
    for name in ("model", "report", "evaluation", "picture"):
        assert (tmp_path / found[name]).is_file()
