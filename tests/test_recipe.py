from dataclasses import FrozenInstanceError, fields
from importlib import resources

import pytest

from resnets import machine
from resnets.data.augmentation import Augmentation
from resnets.training.optimizers.schedule import learning_rate
from resnets.training.options import Options
from resnets.training.recipe import Recipe
from resnets.training.settling import settled
from resnets.training.shipped import changed, names, parse_setting, recipe

SHIPPED = [
    "fast",
    "finetune",
    "paper-cifar",
    "paper-imagenet",
    "quick",
    "standard",
    "strikes-back-a1",
    "strikes-back-a2",
    "strikes-back-a3",
]


# Recipes by name and from files


def test_the_shipped_recipes():
    assert names() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_opens_with_what_it_is_and_loads(name):
    lines = resources.files("resnets.recipes").joinpath(f"{name}.toml").read_text().splitlines()
    assert lines[0].startswith(f"# {name}: ")
    assert any("resnets train DATA" in line and f"--recipe {name}" in line for line in lines)
    loaded = recipe(name)
    assert loaded.name == name
    assert Recipe(**loaded.to_json()) == loaded


def test_the_papers_recipes_say_what_the_paper_says():
    cifar, imagenet = recipe("paper-cifar"), recipe("paper-imagenet")
    assert (cifar.steps, cifar.batch_size, imagenet.steps, imagenet.batch_size) == (64_000, 128, 600_000, 256)
    for paper in (cifar, imagenet):
        assert (paper.learning_rate, paper.momentum, paper.weight_decay, paper.drop) == (0.1, 0.9, 1e-4, 0.1)
        assert paper.decay_norm_and_bias and not paper.nesterov and paper.label_smoothing == 0 and paper.flip == "on"
    assert [learning_rate(cifar, step, 64_000) for step in (0, 31_999, 32_000, 48_000)] == pytest.approx(
        [0.1, 0.1, 0.01, 1e-3]
    )
    assert cifar.augmentation(32, True) == Augmentation("padded", padding=4, flip=True)
    assert imagenet.augmentation(224, True).short_side == (256, 480)
    assert imagenet.augmentation(224, True).crop == "short-side"


@pytest.mark.parametrize("name", ["quick", "finetune"])
def test_the_default_recipes_are_as_described(name):
    chosen = recipe(name)
    assert chosen.schedule == "cosine" and 0 < chosen.warmup <= 0.1
    assert chosen.nesterov and chosen.label_smoothing > 0 and not chosen.decay_norm_and_bias
    assert (chosen.freeze_statistics, chosen.backbone_rate < 1) == (name == "finetune", name == "finetune")


@pytest.mark.parametrize("name", ["quik", "", "Quick", "no/such", "quick/"])
def test_an_unknown_name_lists_those_there_are(name):
    with pytest.raises(ValueError, match="fast, finetune, paper-cifar, paper-imagenet, quick"):
        recipe(name)


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_recipe_from_a_file(tmp_path, kind):
    (tmp_path / "mine.toml").write_text("epochs = 3\nlearning_rate = 1\nmilestones = [0.5, 0.75]\ncrop_scale = [1, 1]\n")
    mine = recipe(kind(tmp_path / "mine.toml"))
    assert mine == Recipe("mine", epochs=3, learning_rate=1.0, milestones=(0.5, 0.75), crop_scale=(1, 1))
    assert isinstance(mine.epochs, float) and isinstance(mine.learning_rate, float)


def test_a_file_may_name_itself(tmp_path):
    (tmp_path / "mine.toml").write_text('name = "best yet"\nepochs = 3')
    assert recipe(tmp_path / "mine.toml").name == "best yet"


@pytest.mark.parametrize("content", [b"epochs = ", b"epochs: 3", b"epochs = 3\nepochs = 4", b"\xff\xfe\x00epochs = 3"])
def test_a_file_that_is_no_toml_is_named(tmp_path, content):
    (tmp_path / "mine.toml").write_bytes(content)
    with pytest.raises(ValueError, match=r"mine\.toml is no TOML"):
        recipe(tmp_path / "mine.toml")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no recipe file .*mine\.toml"):
        recipe(tmp_path / "mine.toml")
    (tmp_path / "mine.toml").mkdir()
    with pytest.raises(ValueError, match=r"no recipe file .*mine\.toml"):
        recipe(tmp_path / "mine.toml")


# Fields


@pytest.mark.parametrize(
    ("field", "nearest"),
    [("learningrate", "learning_rate"), ("batchsize", "batch_size"), ("epoch", "epochs"), ("weight-decay", "weight_decay")],
)
def test_an_unknown_field_names_the_nearest(field, nearest, tmp_path):
    with pytest.raises(ValueError, match=f"'{field}'.*did you mean .*{nearest}"):
        recipe("quick", {field: 1})
    (tmp_path / "mine.toml").write_text(f"epochs = 1\n{field} = 1")
    with pytest.raises(ValueError, match=f"'{field}'.*did you mean .*{nearest}"):
        recipe(tmp_path / "mine.toml")


def test_a_field_like_none_lists_them_all():
    with pytest.raises(ValueError, match="'zzz'") as error:
        recipe("quick", {"zzz": 1})
    assert all(field.name in str(error.value) for field in fields(Recipe))


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("epochs", -1), ("epochs", NAN), ("epochs", INFINITE), ("steps", 0), ("steps", -5), ("batch_size", 0)],
        *[("learning_rate", -0.1), ("learning_rate", NAN), ("learning_rate", INFINITE), ("backbone_rate", -1)],
        *[("warmup", -0.1), ("warmup", 1.1), ("drop", -1), ("drop", 2), ("momentum", -1), ("momentum", 1.5)],
        *[("weight_decay", -1e-4), ("weight_decay", INFINITE), ("label_smoothing", -0.1), ("label_smoothing", 1.1)],
        *[("crop_padding", -1), ("crop_padding", 1.5), ("lighting", -0.1), ("lighting", NAN)],
        *[("crop_scale", [-1, 1]), ("crop_scale", [0.5, 2]), ("crop_scale", [1.0, 0.1]), ("crop_scale", [NAN, 1])],
        *[("crop_short_side", [0, 256]), ("crop_short_side", [480, 256]), ("milestones", [0.5, -1]), ("milestones", [NAN])],
    ],
)
def test_a_value_out_of_range_names_the_field(field, value):
    with pytest.raises(ValueError, match=f"^{field} "):
        recipe("quick", {field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("steps", 1.5), ("steps", True), ("batch_size", "128"), ("batch_size", 12.0), ("batch_size", None)],
        *[("learning_rate", "fast"), ("learning_rate", True), ("learning_rate", None), ("learning_rate", [0.1])],
        *[("epochs", "4"), ("nesterov", 1), ("nesterov", "yes"), ("nesterov", None), ("name", 5), ("name", None)],
        *[("schedule", "poly"), ("schedule", None), ("schedule", 3), ("flip", True), ("crop", ["none"])],
        *[
            ("precision", "int8"),
            ("precision", "fp16"),
            ("milestones", 0.5),
            ("milestones", ["half"]),
            ("milestones", [True]),
        ],
        *[("crop_scale", [0.5]), ("crop_scale", [0.1, 0.2, 0.3]), ("crop_scale", "all"), ("crop_short_side", 256)],
    ],
)
def test_a_value_of_the_wrong_kind_names_the_field(field, value):
    with pytest.raises(ValueError, match=f"^{field} "):
        recipe("quick", {field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0.5), ("warmup", 0), ("warmup", 1), ("label_smoothing", 1), ("momentum", 0.5), ("learning_rate", 0)],
)
def test_values_at_the_ends_are_taken(field, value):
    assert getattr(recipe("quick", {field: value}), field) == value


def test_muon_needs_a_momentum_that_ends():
    with pytest.raises(ValueError, match="muon needs a momentum below 1"):
        Recipe(epochs=1, optimizer="muon", momentum=1.0)


def test_nesterov_without_momentum_names_the_fields():
    with pytest.raises(ValueError, match="nesterov"):
        recipe("quick", {"momentum": 0})


def test_a_recipe_is_frozen():
    with pytest.raises(FrozenInstanceError):
        recipe("quick").epochs = 3  # type: ignore[misc]


# Its length


def test_epochs_take_the_place_of_steps_and_the_reverse():
    by_epochs = recipe("paper-cifar", {"epochs": 2})
    assert (by_epochs.epochs, by_epochs.steps) == (2, None)
    by_steps = recipe("quick", {"steps": 7})
    assert (by_steps.epochs, by_steps.steps) == (None, 7)
    assert changed(by_steps, {"epochs": 1.5}) == recipe("quick", {"epochs": 1.5})
    assert changed(by_steps, {}) == by_steps


@pytest.mark.parametrize(
    "changes", [{"epochs": 2, "steps": 7}, {"epochs": None}, {"steps": None}, {"epochs": None, "steps": None}]
)
def test_both_lengths_or_none_are_refused(changes):
    with pytest.raises(ValueError, match="epochs or as steps"):
        recipe("quick", changes)


def test_a_file_without_a_length_is_refused(tmp_path):
    (tmp_path / "mine.toml").write_text("learning_rate = 0.1")
    with pytest.raises(ValueError, match="epochs or as steps"):
        recipe(tmp_path / "mine.toml")


@pytest.mark.parametrize(
    ("changes", "per_epoch", "steps"),
    [({"epochs": 3}, 10, 30), ({"epochs": 0.25}, 10, 2), ({"epochs": 1.5}, 11, 16), ({"epochs": 0.001}, 10, 1),
     ({"steps": 7}, 10, 7), ({"steps": 700}, 3, 700)],
)  # fmt: skip
def test_total_steps(changes, per_epoch, steps):
    assert recipe("quick", changes).total_steps(per_epoch) == steps


# --set


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("epochs=4", "epochs", 4),
        ("epochs = 0.5", "epochs", 0.5),
        ("weight_decay=1e-4", "weight_decay", 1e-4),
        ("nesterov=true", "nesterov", True),
        ("flip=off", "flip", "off"),
        ('flip="off"', "flip", "off"),
        ("milestones=[0.5, 0.75]", "milestones", [0.5, 0.75]),
        ("name=a=b", "name", "a=b"),
        ("name=my recipe", "name", "my recipe"),
        ("name=", "name", ""),
    ],
)
def test_a_setting_of_the_command_line(text, name, value):
    found = parse_setting(text)
    assert found == (name, value)
    assert type(found[1]) is type(value)


@pytest.mark.parametrize("text", ["epochs", "", "epochs 4"])
def test_a_setting_without_a_value_is_refused(text):
    with pytest.raises(ValueError, match="field=value"):
        parse_setting(text)


def test_what_a_setting_breaks_is_said_of_its_field():
    with pytest.raises(ValueError, match=r"^flip is one of auto, on, off, alternate, not False"):
        recipe("quick", dict([parse_setting("flip=false")]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train_input=1", r"^train_input is a list of numbers, such as \[1\.0\], not 1"),
        ("milestones=late", r"^milestones is a list of numbers, such as \[0\.5, 0\.75\], not 'late'"),
        ("crop_scale=0.5", r"^crop_scale is a list of numbers, such as \[0\.08, 1\.0\], not 0\.5"),
        ("crop_scale=[0.5]", r"^crop_scale is a list of 2 numbers, not \[0\.5\]"),
    ],
)
def test_what_is_no_list_is_told_how_one_looks(text, said):
    with pytest.raises(ValueError, match=said):
        recipe("quick", dict([parse_setting(text)]))


# Augmentation


@pytest.mark.parametrize(
    ("size", "crop", "padding"), [(8, "padded", 1), (32, "padded", 2), (64, "padded", 4), (65, "resized", 4)]
)
def test_the_crop_that_auto_takes(size, crop, padding):
    found = recipe("quick").augmentation(size, mirrors=True)
    assert (found.crop, found.padding, found.scale) == (crop, padding, (0.25, 1.0))


@pytest.mark.parametrize("crop", ["resized", "padded", "short-side", "none"])
@pytest.mark.parametrize("size", [32, 224])
def test_a_crop_that_is_named_is_taken_at_any_size(crop, size):
    assert recipe("quick", {"crop": crop}).augmentation(size, True).crop == crop


@pytest.mark.parametrize(
    ("flip", "mirrors", "flips"),
    [
        ("auto", True, True),
        ("auto", False, False),
        ("on", False, True),
        ("off", True, False),
        ("alternate", True, "alternate"),
        ("alternate", False, False),
    ],
)
def test_what_is_flipped(flip, mirrors, flips):
    assert recipe("quick", {"flip": flip}).augmentation(32, mirrors).flip == flips


def test_light_reaches_the_augmentation():
    assert recipe("quick", {"lighting": 0.1}).augmentation(224, True).lighting == 0.1


@pytest.mark.parametrize(
    ("name", "images", "size"),
    [("quick", 2048, 128), ("quick", 2047, 64), ("quick", 300, 16), ("quick", 9, 9), ("strikes-back-a2", 40_000, 2046),
     ("strikes-back-a2", 20_000, 1023), ("strikes-back-a2", 1000, 30), ("strikes-back-a2", 11, 9)],
)  # fmt: skip
def test_few_images_make_the_batch_smaller_and_the_rate_with_it(name, images, size):
    chosen, usual = settled(Options.parse("data", {"recipe": name}), False, images), recipe(name)
    assert chosen.batch_size == size
    assert not chosen.batch_size % chosen.repeats
    halved = max(size, 16 if usual.repeats == 1 else 15)  # what is smaller than a batch is one batch, at the same rate
    assert chosen.learning_rate == pytest.approx(usual.learning_rate * halved / usual.batch_size)


@pytest.mark.parametrize("compiler", [False, True])
def test_a_gpu_without_a_compiler_compiles_nothing(monkeypatch, compiler, caplog):
    monkeypatch.setattr(machine, "has_gpu", lambda: True)
    monkeypatch.setattr(machine, "compiling_lacks", lambda: "" if compiler else "a C compiler (gcc or clang)")
    chosen = settled(Options.parse("data", {"recipe": "quick", "precision": "bf16"}), False, 5000)
    assert chosen.compile == ("on" if compiler else "off")
    assert ("torch.compile is left out" in caplog.text) is not compiler


def test_a_batch_of_one_needs_norms_that_stay():
    with pytest.raises(ValueError, match="norms need two images of a batch or more: --batch-size 2"):
        settled(Options.parse("data", {"recipe": "quick", "batch_size": 1}), False, 5000)
    assert settled(Options.parse("data", {"batch_size": 1, "freeze_statistics": True}), False, 5000).batch_size == 1


@pytest.mark.parametrize("other", [{"patience": 3}, {"freeze_statistics": True}])
def test_statistics_are_computed_anew_where_the_run_comes_to_its_end_and_norms_move(other):
    with pytest.raises(ValueError, match="recompute_statistics is done once, at the end of the run"):
        recipe("quick", {"recompute_statistics": True, **other})


def test_fewer_images_than_views_of_one_are_refused():
    with pytest.raises(ValueError, match=r"shows an image 3 times, and 2 images to train on are fewer; --set repeats=1"):
        settled(Options.parse("data", {"recipe": "strikes-back-a2"}), False, 2)
