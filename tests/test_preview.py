"""`check --preview`: a picture of what the network will see."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from tiny import pictures

from resnets.cli import main
from resnets.training.options import Options
from resnets.training.plan import plan
from resnets.training.preview import preview, seen


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("preview")
    for number, image in enumerate(pictures()):
        path = root / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    return root


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["check", *map(str, arguments)])
    out, error = capsys.readouterr()
    return ended.value.code, out, error


def test_the_verb(tmp_path, folder, capsys):
    status, out, _ = run(capsys, folder, "--preview", tmp_path / "seen.png", "--json")
    assert status == 0 and json.loads(out)["images"] == 60
    with Image.open(tmp_path / "seen.png") as picture:
        assert picture.format == "PNG" and picture.width == 8 * 120 + 8  # eight images a row
    said = run(capsys, folder, "--preview", tmp_path / "seen.png")[1]
    assert f"{tmp_path / 'seen.png'}: what the network will see" in said


@pytest.mark.parametrize(("arguments", "said"), [
    (["--preview", "seen.jpg"], "FILE.png, not seen.jpg"),
    (["--preview", "nowhere/seen.png"], "there is no folder nowhere"),
    (["--recipe", "quick"], "with --preview FILE.png"),
    (["--preview", "seen.png", "--recipe", "quik"], "no recipe is called 'quik'"),
], ids=["jpg", "folder", "recipe", "name"])  # fmt: skip
def test_requests_that_cannot_be(tmp_path, folder, capsys, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    status, out, error = run(capsys, folder, *arguments)
    assert (status, out) == (2, "") and said in error
    assert list(tmp_path.iterdir()) == []


def images_of(folder, tmp_path, text, size=32):
    """What a recipe's images look like, and their names."""
    recipe = tmp_path / "own.toml"
    recipe.write_text(f"epochs = 1\nbatch_size = 16\ncache = 'none'\n{text}")
    options = Options.parse(str(folder), {"init": "none", "recipe": str(recipe), "input": size})
    return seen(plan(options), options)


def test_it_shows_what_the_recipe_does(folder, tmp_path):
    still, names = images_of(folder, tmp_path, "crop = 'none'\nflip = 'off'\n")
    assert still.shape == (32, 32, 32, 3) and still.dtype == np.uint8
    assert set(names) == {"cat", "dog"}
    erased, same = images_of(folder, tmp_path, "crop = 'none'\nflip = 'off'\nerasing = 1.0\n")
    assert same == names
    changed = (erased != still).any(3)
    assert (changed.mean((1, 2)) > 0.005).all() and changed.mean() < 0.5
    mixed, both = images_of(folder, tmp_path, "crop = 'none'\nflip = 'off'\nmixup = 1.0\n")
    assert (mixed != still).any((1, 2, 3)).sum() > 20
    assert any("% " in name for name in both)
    small, _ = images_of(folder, tmp_path, "crop = 'none'\nflip = 'off'\ntrain_input = [0.5]\n")
    assert small.shape == (32, 16, 16, 3)


def test_it_shows_what_training_sees(folder, tmp_path, monkeypatch):
    """The first images of the run with the same options, as the trainer keeps them for its report."""
    import resnets
    from resnets.training.folder.run import Run

    shown = {}
    monkeypatch.setattr(Run, "show_batch", lambda self, images, names, step=0: shown.update(images=images, names=names))
    given = {"init": "none", "recipe": "quick", "input": 32, "batch_size": 32}
    resnets.train(folder, steps=1, out=tmp_path / "run", **given)
    options = Options.parse(str(folder), given)
    images, names = seen(plan(options), options)
    assert np.array_equal(images, shown["images"])
    assert names == shown["names"]


def test_nothing_is_fetched_or_kept(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "cache"))
    large = tmp_path / "large"
    for name in ("a", "b"):
        (large / name).mkdir(parents=True)
        for number in range(20):
            pixels = np.random.default_rng(number).integers(0, 256, (90, 100, 3), np.uint8)
            Image.fromarray(pixels).save(large / name / f"{number}.jpg")
    preview(str(large), tmp_path / "seen.png")
    with Image.open(io.BytesIO((tmp_path / "seen.png").read_bytes())) as picture:
        assert picture.size == (8 * 120 + 8, 4 * 140 + 8)
    assert not list(tmp_path.glob("cache/decoded/*")) and not list(tmp_path.glob("cache/**/*.pth"))
