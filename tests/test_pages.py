"""Pages are whole, self-contained and safe to show whatever a class or a file is called."""

import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from resnets.metrics import softmax
from resnets.pages.charts import lines, matrix, reliability
from resnets.pages.evaluation import evaluation_page
from resnets.pages.gallery import Tile, gallery
from resnets.pages.training import training_page

NAMES = ("<script>alert(1)</script>", "bee & wasp", "cat")
VOID = {"meta", "br", "link", "img"}


class Checker(HTMLParser):
    """Counts tags, and fails on one that is closed in the wrong place."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.outside = [], [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.outside += [value for name, value in attributes if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked(html):
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    assert checker.outside == []  # nothing is loaded from anywhere
    assert "script" not in checker.seen
    return checker.seen


def epochs(measured=True):
    rows = []
    for epoch in range(1, 4):
        row = {"epoch": epoch, "step": 10 * epoch, "learning_rate": 0.1 / epoch, "train_loss": 2 / epoch,
               "train_top1": 0.3 * epoch, "images_per_second": 1234.5, "unreadable": 1}  # fmt: skip
        rows.append(
            row | ({"val_top1": 0.25 * epoch, "val_loss": 1 / epoch, "val_ece": 0.1, "val_images": 40} if measured else {})
        )
    return rows


def run_page(measured=True):
    decided = {"recipe": {"name": "quick", "epochs": 3}, "preprocessing": {"size": 32}}
    return training_page(NAMES[0], "resnet20", epochs(measured), decided, [{"path": NAMES[0], "reason": "cut & off"}])


def measured_page():
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(50, 3)).astype(np.float32), generator.integers(0, 3, 50)
    figures = {"top1": 0.4, "top5": 1.0, "loss": 1.2, "ece": 0.1, "images": 50, "interval": [0.3, 0.5], "split": "test",
               "classes": {name: {"images": 10, "top1": 0.5} for name in NAMES}, "data": NAMES[0], "engine": "openvino",
               "precision": "float32", "note": ""}  # fmt: skip
    keys = [f"{NAMES[0]}/{index}.jpg" for index in range(50)]
    return evaluation_page(NAMES, figures, softmax(logits), labels, keys)


@pytest.mark.parametrize("measured", [True, False])
def test_a_training_page(measured):
    html = run_page(measured)
    assert checked(html).count("svg") == 4
    assert ("75.00%" in html) == measured
    assert "cut &amp; off" in html


def test_an_evaluation_page():
    html = measured_page()
    assert checked(html).count("svg") == 2
    assert "40.00%" in html


def test_lines_stay_in_the_frame_and_bear_one_point():
    for curve in ([(1.0, 5.0)], [(1.0, -2.0), (2.0, 900.0)]):
        html = lines("x", {"a": curve})
        points = html.split('points="')[1].split('"')[0].split()
        assert len(points) == len(curve)
        assert all(0 <= float(x) <= 420 and 0 <= float(y) <= 240 for x, y in (point.split(",") for point in points))
    assert lines("x", {"a": []}) == ""


def test_the_matrix_says_every_count():
    html = matrix(np.array([[5, 2], [0, 7]]), ["ant", "bee"])
    assert "ant called bee: 2" in html
    assert html.count("<rect") == 4


def test_reliability_has_a_dot_for_each_bin():
    assert reliability([(0.3, 0.2, 5), (0.9, 1.0, 7)]).count("<circle") == 2


def test_a_gallery_shows_each_tile(tmp_path):
    tiles = [Tile(np.full((8, 8, 1), 200, np.uint8), "3", 0.9, "3"), Tile(np.full((40, 20, 3), 60, np.uint8), "4", 0.5, "9")]
    gallery(tiles, tmp_path / "a.png", columns=2)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.getpixel((64, 64)) == (200, 200, 200)
        assert picture.getpixel((184, 64)) == (60, 60, 60)
        colours = {colour for _, colour in picture.getcolors(100_000)}
    assert {(46, 139, 87), (192, 57, 43)} <= colours  # right is green, wrong is red


@pytest.mark.browser
@pytest.mark.parametrize("page", [run_page, measured_page])
def test_a_browser_draws_the_page(page, tmp_path):
    (tmp_path / "page.html").write_text(page(), encoding="utf-8")
    chromium = shutil.which("chromium")
    assert chromium, "the browser tests need Chromium: apt-get install chromium"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1000,1400"]  # fmt: skip
    shot = tmp_path / "page.png"
    command = [chromium, *flags, f"--screenshot={shot}", f"file://{tmp_path / 'page.html'}"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with Image.open(shot) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    blue = (pixels == (47, 111, 222)).all(1).sum()  # a curve or the dots of the reliability diagram
    assert blue > 100
    assert len(np.unique(pixels, axis=0)) > 50
