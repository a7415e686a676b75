"""A run can be watched: its log, its page, TensorBoard's curves, the progress line, and the pictures that these show."""

import io
import json
import subprocess
import sys
import types

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from resnets.data.preprocessing import Preprocessing, normalise
from resnets.training import progress
from resnets.training.folder import watching
from resnets.training.folder.run import About, Run
from resnets.training.folder.watching import Pace
from resnets.training.options import Options
from resnets.training.progress import ProgressLine, fitted

ABOUT = About("photos", "resnet20", 10)
GREEN, RED = (46, 139, 87), (192, 57, 43)


@pytest.fixture
def run(tmp_path):
    """A run that has just begun."""
    decided = {"recipe": {"name": "quick", "milestones": [0.5]}, "preprocessing": {"size": 32}}
    made = Run.create(Options("digits", out=str(tmp_path / "run")), "photos", "resnet20", decided)
    yield made
    made.close()


def figures(epoch, **more):
    return {"event": "epoch", "epoch": epoch, "step": 10 * epoch, "learning_rate": 0.1 / epoch, "train_loss": 2 / epoch,
            "train_top1": 0.09 * epoch, "val_top1": 0.08 * epoch, "val_top5": 0.9, "val_loss": 3 / epoch, "val_ece": 0.1,
            "val_images": 40, "images_per_second": 1234.5, "waiting": 0.02, "seconds": 12.0 * epoch, "unreadable": 0,
            **more}  # fmt: skip


def page(run):
    return (run.folder / "report.html").read_text(encoding="utf-8")


# the log


def test_a_line_that_was_cut_is_no_row_and_is_gone_before_the_next(run):
    run.log(figures(1))
    log = run.folder / "log.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole + '{"event": "epoch", "epoch": 2, "said": "é'.encode()[:-1])
    assert [row["epoch"] for row in run.rows("epoch")] == [1]
    run.log(figures(2))
    assert log.read_bytes().startswith(whole)
    assert [json.loads(line)["epoch"] for line in log.read_text(encoding="utf-8").splitlines()] == [1, 2]


def test_a_row_that_lacks_its_line_feed_alone_is_kept(run):
    run.log(figures(1))
    log = run.folder / "log.jsonl"
    log.write_bytes(log.read_bytes().rstrip(b"\n"))
    assert len(run.rows("epoch")) == 1
    run.log(figures(2))
    assert [row["epoch"] for row in run.rows("epoch")] == [1, 2]
    assert log.read_bytes().count(b"\n") == 2


def test_a_log_that_is_nothing_but_half_a_line_starts_over(run):
    (run.folder / "log.jsonl").write_bytes(b'{"event": "ep')
    run.log({"event": "unreadable", "path": "a"})
    assert (run.folder / "log.jsonl").read_text() == '{"event": "unreadable", "path": "a"}\n'


def test_a_log_bears_any_path(run):
    run.log({"event": "unreadable", "path": "a\u2028b\udc80é", "reason": "cut"})
    assert run.rows("unreadable")[0]["path"] == "a\u2028b\udc80é"
    run.report(ABOUT)
    assert "é" in page(run)


def test_of_an_epoch_that_was_logged_twice_the_later_counts(run):
    for row in (figures(1), figures(2, waiting=0.5), figures(2, waiting=0.25), figures(3)):
        run.log(row)
    assert [(row["epoch"], row["waiting"]) for row in run.rows("epoch")] == [(1, 0.02), (2, 0.25), (3, 0.02)]


def test_what_happens_is_listed_in_order(run):
    run.log(figures(1))
    run.going_on(10, 100)
    run.log({"event": "unreadable", "path": "a.jpg", "reason": "cut", "said": "not here"})
    run.change(run.options, run.document["decided"], "the recipe epochs was 3 and is now 4")
    run.note_change()
    run.note("stopped", "early", epoch=1)
    said = [(row["event"], row["said"]) for row in run.events()]
    assert said == [("resumed", "after step 10 of 100"), ("changed", "the recipe epochs was 3 and is now 4"),
                    ("stopped", "early")]  # fmt: skip
    assert [row["epoch"] for row in run.rows("epoch")] == [1]
    run.report(ABOUT)
    assert page(run).index("after step 10 of 100") < page(run).index("is now 4") < page(run).index("stopped: early")


# the page


def test_the_page_grows(run):
    run.report(ABOUT)
    assert "Nothing measured yet" in page(run) and 'http-equiv="refresh"' in page(run)
    run.log(figures(1))
    run.report(ABOUT, left=61)
    assert "1 of 10 epochs" in page(run) and "1 min 01 s" in page(run)
    run.log(figures(2))
    run.report(ABOUT, finished=True)
    assert "2 of 2" in page(run) and "refresh" not in page(run)
    assert not list(run.folder.glob(".*"))  # written beside and renamed


def test_a_page_of_a_resumed_run_still_has_the_batch_and_the_confusion(run):
    run.show_batch(np.full((3, 8, 8, 1), 200, np.uint8), ["ant", "bee", "ant"])
    run.show_confusion(np.array([[5, 2], [0, 7]]), ["ant", "bee"], epoch=4, step=40)
    again = Run.open(run.folder)
    again.report(ABOUT)
    assert "data:image/png;base64" in page(again)
    assert "What is called what, epoch 4" in page(again) and "ant called bee: 2" in page(again)
    with Image.open(run.folder / "batch.png") as picture:
        assert picture.getpixel((60, 60)) == (200, 200, 200)


# TensorBoard


def board(folder):
    """What TensorBoard would show: {tag: [(step, value), …]} and the tags of pictures and texts."""
    sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("notf"))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), {"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    scalars = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    return scalars, {tag: [event.step for event in events.Images(tag)] for tag in events.Tags()["images"]}, events


def aged(run):
    """An earlier process's run, opened by a later one: TensorBoard reads files in the order of their names."""
    run.close()
    for path in run.folder.glob("events.*"):
        path.rename(path.with_name(path.name.replace("tfevents.", "tfevents.0")))
    return Run.open(run.folder)


def test_tensorboard_has_the_usual_names(run):
    run.log(figures(1, memory=3_000_000, note="words"))
    run.show_batch(np.zeros((2, 8, 8, 3), np.uint8), ["ant", "bee"])
    run.show_confusion(np.eye(2, dtype=np.int64), ["ant", "bee"], 1, 10)
    run.close()
    scalars, pictures, events = board(run.folder)
    assert set(scalars) == {"loss/train", "loss/val", "accuracy/top1_train", "accuracy/top1_val", "accuracy/top5_val",
                            "calibration/ece_val", "learning_rate", "images_per_second", "waiting", "seconds", "memory",
                            "unreadable"}  # fmt: skip
    assert scalars["loss/val"] == [(10, 3.0)]
    assert pictures == {"batch": [0], "confusion": [10]}
    text = events.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| milestones | [0.5] |" in text


def test_after_a_resume_tensorboards_curves_do_not_double_back(run):
    run.show_batch(np.zeros((2, 8, 8, 3), np.uint8), ["ant", "bee"])
    for epoch in (1, 2, 3):
        run.log(figures(epoch, waiting=0.5))
    again = aged(run)
    again.going_on(10, 100)
    again.log(figures(2, waiting=0.25))
    again.close()
    scalars, pictures, _ = board(run.folder)
    assert scalars["waiting"] == [(10, 0.5), (20, 0.25)]  # steps 20 and 30 of the first go are gone
    assert pictures["batch"] == [0]


def test_a_run_that_starts_over_leaves_nothing_of_the_first_in_tensorboard(run):
    run.show_batch(np.zeros((2, 8, 8, 3), np.uint8), ["ant", "bee"])
    run.log(figures(1, waiting=0.5))
    again = aged(run)
    again.going_on(0, 100)
    again.show_batch(np.zeros((2, 8, 8, 3), np.uint8), ["ant", "bee"])
    again.close()
    scalars, pictures, _ = board(run.folder)
    assert not any(scalars.values()) and pictures == {"batch": [0]}


def test_what_is_logged_after_a_file_was_closed_forgets_nothing(run):
    run.going_on(10, 100)
    run.log(figures(2))
    again = aged(run)
    again._purge, again._board = run._purge, run._board  # the same run goes on, in a file with a later name
    again.log(figures(3))
    again.close()
    assert [step for step, _ in board(run.folder)[0]["loss/train"]] == [20, 30]


# pictures


def test_a_grid_enlarges_small_images_without_smoothing():
    image = np.zeros((1, 2, 2, 3), np.uint8)
    image[0, 0, 0], image[0, 1, 1] = (250, 0, 0), (0, 0, 250)
    grid = watching.sample_grid(image, ["ant"])
    tile = grid[8 : 8 + 112, 8 : 8 + 112]
    assert (tile[:56, :56] == (250, 0, 0)).all() and (tile[56:, 56:] == (0, 0, 250)).all() and (tile[:56, 56:] == 0).all()
    assert (grid[121:140] < 100).any()  # its name


def test_a_grid_has_the_first_images_in_rows_of_eight():
    images = np.stack([np.full((224, 224, 1), shade, np.uint8) for shade in range(40)])
    grid = watching.sample_grid(images, [str(number) for number in range(40)])
    assert grid.shape == (4 * 140 + 8, 8 * 120 + 8, 3) and grid.dtype == np.uint8
    assert [int(grid[8 + 56 + 140 * row, 8 + 56 + 120 * column, 0]) for row, column in ((0, 7), (1, 0), (3, 7))] == [
        7,
        8,
        31,
    ]


@pytest.mark.parametrize(("count", "names"), [(0, []), (2, ["ant"])])
def test_a_grid_needs_images_and_names(count, names):
    with pytest.raises(ValueError, match=rf"given were {count} images and {len(names)} names"):
        watching.sample_grid(np.zeros((count, 8, 8, 3), np.uint8), names)


def test_a_name_is_shortened_to_its_place():
    from PIL import ImageFont

    font = ImageFont.load_default(13)
    assert watching.shortened("ant", 112, font) == "ant"
    short = watching.shortened("the quick brown fox jumps", 112, font)
    assert short.endswith("…") and short.startswith("the quick") and font.getlength(short) <= 112


@pytest.mark.parametrize("how", [
    Preprocessing(size=8),
    Preprocessing(size=8, colour="BGR", scale=1.0, mean=(103.9, 116.8, 123.7), deviation=(1.0, 1.0, 1.0)),
    Preprocessing(size=8, colour="grey", mean=(0.3,), deviation=(0.2,)),
])  # fmt: skip
def test_as_seen_is_the_inverse_of_normalise(how):
    crops = np.random.default_rng(0).integers(0, 256, (4, 8, 8, how.channels), dtype=np.uint8)
    assert np.array_equal(watching.as_seen(normalise(crops, how), how), crops)


def test_as_seen_keeps_to_the_range_of_pixels():
    how = Preprocessing(size=8, colour="grey", mean=(0.0,), deviation=(1.0,))
    assert watching.as_seen(np.array([-3.0, 7.0], np.float32).reshape(2, 1, 1, 1), how).ravel().tolist() == [0, 255]


def test_a_confusion_is_green_where_right_and_red_where_wrong():
    counts = watching.confusion(np.array([0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 0]), 2)
    assert counts.tolist() == [[2, 1], [0, 2]]
    picture = watching.confusion_picture(counts, ["ant", "bee"])
    side = 2 * 36
    cells = picture[-4 - side : -4, -4 - side : -4]
    right, wrong, none = (tuple(cells[y * 36 + 4, x * 36 + 4]) for y, x in ((0, 0), (0, 1), (1, 0)))
    assert right[1] > right[0] and wrong[0] > wrong[1]
    assert min(none) > 240  # nothing there
    full = tuple(cells[36 + 4, 36 + 4])
    assert full[0] < right[0]  # all of its row, against two thirds
    assert (picture[:, : -4 - side] < 120).any() and (picture[: -4 - side, -side:] < 120).any()  # names on both sides


@pytest.mark.parametrize(("classes", "side"), [(21, 34 * 21), (1000, 1000)])
def test_a_confusion_of_many_classes_is_its_cells_alone(classes, side):
    counts = np.eye(classes, dtype=np.int64)
    picture = watching.confusion_picture(counts, [str(number) for number in range(classes)])
    assert picture.shape == (side, side, 3)
    assert picture[0, 0, 1] > picture[0, 0, 0] and picture[-1, 0].min() > 240


def test_a_confusion_has_a_row_and_a_column_for_each_class():
    with pytest.raises(ValueError, match=r"of 2 classes .* not an array \(3, 3\)"):
        watching.confusion_picture(np.eye(3, dtype=np.int64), ["ant", "bee"])


def test_of_many_classes_the_most_confused_pairs_are_kept():
    counts = np.diag(np.full(31, 50))
    counts[3, 4], counts[7, 2] = 5, 9
    names = [f"c{number}" for number in range(31)]
    assert watching.confusion_document(counts, names, 3) == {"epoch": 3, "pairs": [["c7", "c2", 9], ["c3", "c4", 5]]}
    assert watching.confusion_document(counts[:30, :30], names[:30], 3)["counts"] == counts[:30, :30].tolist()
    assert len(watching.confused(np.ones((31, 31), int))) == 20


# pace and memory


def test_pace_is_exact_where_nothing_changes():
    pace = Pace()
    assert (pace.images_per_second, pace.waiting, pace.left(10)) == (0, 0, None)
    for _ in range(50):
        pace = pace.step(64, 0.5, 0.1)
    assert pace.images_per_second == pytest.approx(128)
    assert pace.waiting == pytest.approx(0.2)
    assert pace.left(10) == pytest.approx(5)
    pace = pace.pause(3).pause(5)
    assert pace.left(10, 2) == pytest.approx(13)
    assert pace.left(0) == 0


def test_pace_forgets_by_half_in_fifteen_seconds():
    slow = Pace()
    for _ in range(1000):
        slow = slow.step(10, 1.0, 0.0)
    fast = slow
    for _ in range(150):
        fast = fast.step(10, 0.1, 0.0)
    before, after = slow.images_per_second, fast.images_per_second
    assert before == pytest.approx(10)
    assert after == pytest.approx((100 + 10) / 2, rel=0.05)  # half of the seconds that count are fast ones


def test_memory_is_what_this_process_held_at_most():
    code = (
        "import sys, resnets.training.folder.watching as w\n"
        "before = w.memory(); block = bytearray(100_000_000); del block\n"
        "print(before, w.memory(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    before, after, torch = done.stdout.split()
    assert 10e6 < int(before) < 1e9
    assert 90e6 < int(after) - int(before) < 150e6
    assert torch == "False"


def test_memory_is_the_gpus_where_pytorch_uses_one(monkeypatch):
    cuda = types.SimpleNamespace(is_available=lambda: True, is_initialized=lambda: True, max_memory_reserved=lambda: 12345)
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=cuda))
    assert watching.memory() == 12345
    cuda.is_initialized = lambda: False
    assert watching.memory() > 10e6


# the progress line


def stepped(console, epochs=10.0):
    """What a run of two epochs of five steps prints."""
    with ProgressLine(50, 0, epochs, console) as line:
        for step in range(1, 11):
            line.step({"step": step, "steps": 50, "loss": 1.5, "top1": 0.25, "learning_rate": 0.075,
                       "images_per_second": 4321.0, "waiting": 0.03, "left": 200.0})  # fmt: skip
            if step % 5 == 0:
                line.bar.refresh()
                line.epoch(figures(step // 5, unreadable=step // 10), best=step == 5)
    return console.file.getvalue()


def test_on_a_pipe_an_epoch_is_a_plain_line():
    said = stepped(Console(file=io.StringIO(), width=40))
    assert all(letter == "\n" or letter.isprintable() for letter in said)
    first, second = said.splitlines()
    assert first.startswith("epoch 1 of 10: loss 2.000, top-1 9.0%, measured 8.0% (loss 3.000), best so far, rate 0.1, ")
    assert first.endswith("0.0 s")
    assert "best so far" not in second and "1 unreadable" in second
    assert "1,234 images/s, waiting 2%" in first


@pytest.mark.parametrize(("width", "there"), [(120, True), (66, False)])
def test_on_a_terminal_the_line_says_where_the_run_is(width, there, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "REFRESH", 0)  # all steps come at once
    said = stepped(Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None))
    assert "\x1b[" in said
    assert "epoch 2/10" in said and "loss 1.500" in said and "3 min 20 s left" in said
    for words in ("top-1 25.0%", "rate 0.075", "4,321 images/s", "waiting 3%"):
        assert (words in said) == (there or words.startswith("top-1"))
    assert "best so far" in said
    assert "\x1b[1A" not in said  # it takes one row, and is never drawn over two


def test_the_line_is_made_as_often_as_it_is_drawn(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    now = [100.0]
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    line = ProgressLine(50, 0, console=Console(file=io.StringIO(), force_terminal=True, width=120))
    row = {"loss": 1.5, "top1": 0.25, "learning_rate": 0.075, "images_per_second": 4321.0, "waiting": 0.03, "left": 200.0}
    seen = []
    for step, passed in ((1, 0), (2, 0.01), (3, 0.1), (4, 0.01), (50, 0.01)):
        now[0] += passed
        line.step({"step": step, **row})
        seen.append(line.bar.tasks[0].completed)
    assert seen == [1, 1, 3, 3, 50]  # the last one in any case


def test_a_dumb_terminal_is_no_place_for_a_moving_line(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    said = stepped(Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None))
    assert len(said.splitlines()) == 2 and "\x1b[" not in said


def test_the_place_of_a_step():
    line = ProgressLine(50, 0, 10.0, Console(file=io.StringIO()))
    places = [line.place(step) for step in (0, 1, 5, 6, 50)]
    assert places == ["epoch 1/10", "epoch 1/10", "epoch 1/10", "epoch 2/10", "epoch 10/10"]
    assert ProgressLine(50, 0, 0, Console(file=io.StringIO())).place(7) == "step 7/50"
    assert ProgressLine(5, 0, 0.5, Console(file=io.StringIO())).place(5) == "epoch 1/1"


def test_what_matters_least_goes_first():
    parts = [(3, "aaaa"), (1, "bb"), (2, "cc"), (9, "")]
    assert fitted(parts, 12) == "aaaa  bb  cc"
    assert fitted(parts, 11) == "aaaa  cc"
    assert fitted(parts, 7) == "aaaa"
    assert fitted(parts, 0) == "aaaa"
