"""Weights by name, from a server in this process that answers as the hub does: a redirect that states the file's hash."""

import hashlib
import io
import json
import logging

import numpy as np
import pytest
import torch
from random_norms import randomised
from serving import Handler, serving

import resnets
from resnets.architecture import NAMED, named
from resnets.conversion import convert
from resnets.data.preprocessing import Preprocessing
from resnets.errors import WorkFailed
from resnets.model import Model, load
from resnets.networks import network
from resnets.weights import hub, pretrained
from resnets.weights.imagenet import NAMES

REPOSITORY = "timm/resnet18.small_in3"
HOW = Preprocessing(size=64, crop=64 / 72, interpolation="bicubic")


class Hub(Handler):
    """Large files through a redirect with X-Linked-Etag, small ones with git's hash, as the hub states them."""

    def send_head(self):
        path = self.translate_path(self.path)
        try:
            with open(path, "rb") as file:  # noqa: PTH123
                content = file.read()
        except OSError:
            self.send_error(404)
            return None
        large = path.endswith(".safetensors")
        if large and "?blob" not in self.path:
            self.send_response(302)
            self.send_header("Location", f"{self.path}?blob")
            if self.stated:
                self.send_header("X-Linked-Etag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.end_headers()
            return None
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        if not large:
            self.send_header("ETag", f'"{hashlib.sha1(f"blob {len(content)}".encode() + bytes(1) + content).hexdigest()}"')
        self.end_headers()
        return io.BytesIO(content if not (large and self.broken) else content[:-1] + b"x")

    stated = True
    broken = False


@pytest.fixture
def model():
    net = named("resnet18", classes=3)
    state = {name: x.numpy() for name, x in randomised(network("resnet18", seed=0, classes=3)).state_dict().items()}
    return Model(net, ("a", "b", "c"), HOW, state)


@pytest.fixture
def site(tmp_path, model, monkeypatch):
    """A folder as the hub serves a repository, and an empty cache."""
    folder = tmp_path / "site" / REPOSITORY / "resolve"
    folder.mkdir(parents=True)
    convert(model.save(tmp_path / "ours.safetensors"), folder / "main", to="timm", check=False)
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody answers there
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "site"


@pytest.mark.parametrize("name", ["timm:resnet18.small_in3", f"hf:{REPOSITORY}", f"hf:{REPOSITORY}@main"])
def test_a_repository_is_fetched_once_and_checked(tmp_path, site, model, monkeypatch, name):
    with serving(site, Hub) as (address, asked):
        monkeypatch.setenv("HF_ENDPOINT", address)
        certificate = convert(name, tmp_path / "out.safetensors", check=False)
        first = len(asked)
        convert(name, tmp_path / "again.safetensors", check=False)
        assert len(asked) == first
    assert certificate["source"]["name"] == name and certificate["source"]["ecosystem"] == "timm"
    found = load(tmp_path / "out.safetensors")
    assert found.sha256 == model.sha256 and found.classes == model.classes and found.preprocessing == HOW
    convert(name, tmp_path / "offline.safetensors", check=False)


def test_training_takes_a_name(tmp_path, site, monkeypatch):
    from PIL import Image

    for label in "ab":
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(4):
            Image.effect_noise((40, 40), 40).convert("RGB").save(tmp_path / "photos" / label / f"{number}.png")
    with serving(site, Hub) as (address, _):
        monkeypatch.setenv("HF_ENDPOINT", address)
        trained = resnets.train(tmp_path / "photos", init="timm:resnet18.small_in3", epochs=1, recipe="quick",
                                input=32, out=tmp_path / "run")  # fmt: skip
    assert trained.architecture == named("resnet18", classes=2)


@pytest.mark.parametrize(
    ("change", "said"), [({"broken": True}, "sent something else"), ({"stated": False}, "states no hash of it")]
)
def test_a_file_that_is_not_what_its_hash_says_is_not_kept(tmp_path, site, monkeypatch, change, said):
    with serving(site, type("Hub", (Hub,), change)) as (address, _):
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(WorkFailed, match=f"couldn't be fetched .*{said}.*to bring it by hand, put config.json"):
            convert("timm:resnet18.small_in3", tmp_path / "out.safetensors")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_without_a_network_it_says_how_to_bring_the_files(tmp_path, site, caplog):
    with pytest.raises(WorkFailed, match=r"couldn't be fetched .*put config.json.* into .*timm--resnet18.small_in3@main"):
        convert("timm:resnet18.small_in3", tmp_path / "out.safetensors")
    folder = tmp_path / "cache" / "hub" / "timm--resnet18.small_in3@main"
    for file in ("config.json", "model.safetensors"):
        (folder / file).write_bytes((site / REPOSITORY / "resolve" / "main" / file).read_bytes())
    with caplog.at_level(logging.WARNING, "resnets"):
        convert("timm:resnet18.small_in3", tmp_path / "out.safetensors", check=False)
    assert "brought by hand" in caplog.text


def test_a_file_changed_in_the_cache_is_refused(tmp_path, site, monkeypatch):
    with serving(site, Hub) as (address, _):
        monkeypatch.setenv("HF_ENDPOINT", address)
        convert("timm:resnet18.small_in3", tmp_path / "out.safetensors", check=False)
    (weights,) = (tmp_path / "cache").rglob("model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match=r"SHA-256 differs.*delete"):
        convert("timm:resnet18.small_in3", tmp_path / "again.safetensors")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm:nothing.here", "isn't there, or isn't public"),
        ("hf:nobody/nothing", "isn't there, or isn't public"),
        ("timm:a/b", "no name of timm's"),
        ("hf:microsoft", "no name of the hub's"),
        ("torchvision:resnet50", "torchvision has no resnet50; torchvision:resnet50.IMAGENET1K_V1 and .*V2"),
        ("torchvision:resnet18.IMAGENET1K_V2", "torchvision:resnet18.IMAGENET1K_V1"),
        ("torchvision:vgg16.IMAGENET1K_V1", "`resnets table --all`"),
    ],
)
def test_a_name_that_is_not_there(tmp_path, site, monkeypatch, name, said):
    with serving(site, Hub) as (address, _):
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(ValueError, match=said):
            convert(name, tmp_path / "out.safetensors")


@pytest.mark.parametrize(("tag", "resized"), [("IMAGENET1K_V1", 256), ("IMAGENET1K_V2", 232)])
def test_torchvisions_names_say_network_classes_and_preprocessing(tmp_path, site, monkeypatch, tag, resized):
    content = io.BytesIO()
    torch.save(randomised(network("resnet50-v1.5", seed=0)).state_dict(), content)
    file = f"resnet50-{hashlib.sha256(content.getvalue()).hexdigest()[:8]}.pth"
    (site / file).write_bytes(content.getvalue())
    if tag == "IMAGENET1K_V1":
        monkeypatch.setitem(pretrained.IMAGENET, "resnet50-v1.5", pretrained.Pretrained(file, 0.5))
    else:
        monkeypatch.setitem(hub.V2, "resnet50-v1.5", file)
    with serving(site) as (address, _):
        monkeypatch.setenv("RESNETS_WEIGHTS_URL", address)
        convert(f"torchvision:resnet50.{tag}", tmp_path / "out.safetensors", check=False)
    found = load(tmp_path / "out.safetensors")
    assert found.architecture == named("resnet50-v1.5") and found.classes == NAMES
    assert found.preprocessing is not None and found.preprocessing.resized == resized


def test_torchvisions_files_that_cannot_be_fetched(tmp_path, site, monkeypatch):
    monkeypatch.setenv("RESNETS_WEIGHTS_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with pytest.raises(WorkFailed, match=r"put http://127.0.0.1:9/resnet50-11ad3fa6.pth into"):
        convert("torchvision:resnet50.IMAGENET1K_V2", tmp_path / "out.safetensors")


def test_the_listed_names_are_torchvisions_and_timms():
    import timm
    from torchvision.models import get_model_weights

    known = set(timm.list_pretrained())
    for name in NAMED:
        for listed in hub.names_of(name):
            library, _, rest = listed.partition(":")
            if library == "timm":
                assert rest in known, rest
            elif library == "torchvision":
                model, tag = rest.split(".")
                weights = get_model_weights(model)[tag]
                files = hub.V2 if tag.endswith("V2") else {key: value.file for key, value in pretrained.IMAGENET.items()}
                assert weights.url.rsplit("/", 1)[1] == files[name]
                resize = weights.transforms().resize_size[0]
                assert resize == (232 if tag.endswith("V2") else 256), (name, resize)


def test_the_table_says_which_exist(capsys):
    rows = {row["name"]: row for row in resnets.table(True)}
    assert "torchvision:resnet50.IMAGENET1K_V2" in rows["resnet50-v1.5"]["pretrained"]
    assert "hf:microsoft/resnet-50" in rows["resnet50-v1.5"]["pretrained"]
    assert rows["plain18"]["pretrained"] == [] == rows["resnet50"]["pretrained"]
    assert json.dumps(rows)
    assert np.all([name.split(":")[0] in hub.SCHEMES for row in rows.values() for name in row["pretrained"]])


def test_a_path_that_is_there_is_no_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub.is_name("hf:a/b") and not hub.is_name("C:weights.pth") and not hub.is_name(tmp_path / "x")
    (tmp_path / "timm:x").touch()
    assert not hub.is_name("timm:x")
