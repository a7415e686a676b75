"""Pages are whole, self-contained and safe to show whatever a class or a file is called."""

import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from resnets.metrics import softmax
from resnets.pages.charts import lines, matrix, reliability, ticks
from resnets.pages.evaluation import evaluation_page
from resnets.pages.gallery import Tile, gallery
from resnets.pages.training import Watched, remaining, training_page
from resnets.words import bytes_said, duration, number

NAMES = ("<script>alert(1)</script>", "bee & wasp", "cat")
VOID = {"meta", "br", "link", "img"}


class Checker(HTMLParser):
    """Counts tags, and fails on one that is closed in the wrong place."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.outside = [], [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.outside += [value for name, value in attributes if name in ("src", "href") and not value.startswith("data:")]
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


DECIDED = {
    "recipe": {"name": "quick", "milestones": [], "betas": [0.9, 0.5], "nesterov": True},
    "preprocessing": {"size": 32},
}


def watched_page(rows, **watched):
    return training_page(NAMES[0], "resnet20", rows, DECIDED, [], Watched(**watched))


def measured_page():
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(50, 3)).astype(np.float32), generator.integers(0, 3, 50)
    figures = {"top1": 0.4, "top5": 1.0, "loss": 1.2, "ece": 0.1, "images": 50, "interval": [0.3, 0.5], "split": "test",
               "classes": {name: {"images": 10, "top1": 0.5} for name in NAMES}, "data": NAMES[0], "engine": "openvino",
               "precision": "float32", "mirror": True, "note": ""}  # fmt: skip
    keys = [f"{NAMES[0]}/{index}.jpg" for index in range(50)]
    return evaluation_page(NAMES, figures, softmax(logits), labels, keys)


@pytest.mark.parametrize("measured", [True, False])
def test_a_training_page(measured):
    html = run_page(measured)
    assert checked(html).count("svg") == 4
    assert ("75.00%" in html) == measured
    assert "cut &amp; off" in html


def test_the_page_of_a_run_that_has_just_begun_looks_again_and_says_so():
    html = watched_page([], finished=False, epochs=10)
    checked(html)
    assert "Nothing measured yet" in html
    assert "every 15 seconds" in html
    assert 'http-equiv="refresh" content="15"' in html.partition("</head>")[0]


def test_the_page_of_a_finished_run_stays_as_it_is():
    html = watched_page(epochs())
    assert "refresh" not in html
    assert "every 15 seconds" not in html
    assert "left, about" not in html


def test_a_running_page_says_how_far_it_is_and_how_long_it_will_take():
    rows = [row | {"seconds": 60.0 * row["epoch"], "memory": 3_000_000_000, "waiting": 0.02} for row in epochs()]
    html = watched_page(rows, finished=False, epochs=10, written="noon")
    assert checked(html).count("svg") == 7
    for words in ("3 of 10 epochs", "width:30.0%", "<b>7 min</b><span>left, about", "3.0 GB", "written noon", "so far"):
        assert words in html
    assert "<b>1 min 30 s</b><span>left, about" in watched_page(rows, finished=False, epochs=10, left=90)


def test_the_time_left_is_that_of_the_last_epochs():
    rows = [{"epoch": epoch, "seconds": 100.0 * min(epoch, 2) + 10 * epoch} for epoch in range(1, 9)]  # two slow, then quick
    assert remaining(rows, Watched(epochs=10)) == pytest.approx(20)
    assert remaining(rows[:2], Watched(epochs=4)) == pytest.approx(220)  # with the start: (220 − 0) / 2 an epoch
    assert remaining([{"epoch": 1}], Watched(epochs=4)) is None
    assert remaining(rows, Watched(epochs=7)) == 0


def test_rows_with_numbers_that_are_none_are_drawn_as_far_as_they_go():
    rows = [row | {"train_loss": float("nan")} for row in epochs()]
    html = watched_page(rows)
    assert checked(html).count("svg") == 4
    assert "nan" not in html.split("<body>")[1]


def test_a_page_shows_the_batch_what_is_confused_and_what_happened():
    confusion = {"epoch": 2, "classes": list(NAMES), "counts": [[5, 2, 0], [0, 7, 0], [0, 1, 6]]}
    events = [{"event": "resumed", "said": "after step 7 & 8", "at": "noon"}]
    html = watched_page(epochs(), confusion=confusion, batch=b"picture", events=events)
    seen = checked(html)
    assert "img" in seen and seen.count("svg") == 5
    assert "data:image/png;base64,cGljdHVyZQ==" in html
    assert "bee &amp; wasp called bee &amp; wasp: 7" in html
    assert "<time>noon</time>resumed: after step 7 &amp; 8" in html
    many = watched_page(epochs(), confusion={"epoch": 2, "pairs": [["ant", NAMES[0], 12]]})
    assert checked(many).count("svg") == 4
    assert "&lt;script&gt;alert(1)&lt;/script&gt;</td><td" in many
    assert "No image" in watched_page(epochs(), confusion={"epoch": 2, "pairs": []})


def test_fields_are_said_as_a_person_would():
    html = watched_page(epochs())
    for name, value in (("milestones", "–"), ("betas", "0.9, 0.5"), ("nesterov", "yes"), ("size", "32")):
        assert f"<span>{name}</span><b>{value}</b>" in html


def test_ticks_are_round_and_hold_every_value():
    assert ticks(0, 1) == [0, 0.25, 0.5, 0.75, 1]
    assert ticks(0.31, 2.29) == [0, 0.5, 1, 1.5, 2, 2.5]
    for low, high in ((0.1, 0.1), (-3e-7, 2e-7), (0, 123456), (1.0, 1.0 + 1e-15), (0.0, 0.0)):
        rungs = ticks(low, high)
        assert rungs[0] <= low + 1e-12 and rungs[-1] >= high - 1e-12
        assert 2 <= len(rungs) <= 8
        assert len(set(rungs)) == len(rungs)


def test_numbers_times_and_sizes_are_said_shortly():
    assert [number(value) for value in (0.075, 5e-5, 1500, 20_000, 0)] == ["0.075", "5e-05", "1,500", "20k", "0"]
    times = [duration(seconds) for seconds in (-1, 41.6, 60, 200, 3599.7, 7500)]
    assert times == ["0 s", "42 s", "1 min", "3 min 20 s", "1 h 00 min", "2 h 05 min"]
    assert [bytes_said(count) for count in (512e6, 1.26e9)] == ["512 MB", "1.3 GB"]


def test_an_axis_of_shares_has_no_more_digits_than_it_needs():
    html = lines("x", {"a": [(1, 0.012), (2, 0.013)]}, percent=True, zero=True)
    assert [words in html for words in (">0%<", ">0.5%<", ">1.5%<")] == [True, True, True]
    assert ">100%<" in lines("x", {"a": [(1, 0.0), (2, 1.0)]}, percent=True)


def test_a_chart_marks_the_best_and_has_a_key_where_there_are_two_curves():
    curve = [(1.0, 1.0), (2.0, 3.0)]
    assert "●" not in lines("x", {"a": curve})
    html = lines("x", {"a": curve, "b": curve, "c": curve}, mark=("best", 2))
    assert html.count("●") == 3 and "┆ best" in html and "best, 2" in html
    assert html.count("<polyline") == 3
    assert len({part.split(";")[0].split('"')[0] for part in html.split("stroke:var(--")[2:]}) == 3


def test_an_evaluation_page():
    html = measured_page()
    assert checked(html).count("svg") == 2
    assert "40.00%" in html
    assert "openvino, float32, averaged with mirror images." in html


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
