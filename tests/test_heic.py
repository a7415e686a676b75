"""HEIC: read by Pillow's plugin where that is installed, else refused with the remedy; imported when the first is met."""

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, features
from test_decode import PHOTO, STORED, apart, encoded

from resnets.data.decode import UnreadableImage, decode
from resnets.data.health import check
from resnets.data.health.looking import look_at_file
from resnets.data.sources import open_dataset

HEADER = b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf"
AVIF = encoded(PHOTO, "AVIF") if features.check("avif") else b""
AVIF_BY_MIF1 = AVIF[:8] + b"mif1" + AVIF[12:]  # the general brand first, as some programs write it
REMEDY = r'HEIC needs pillow_heif, which isn\'t installed: pip install "resnets\[heic\]"'


def heic(image, **how):
    """An image in HEIC, all but lossless, without registering the plugin."""
    plugin, buffer = pytest.importorskip("pillow_heif"), io.BytesIO()
    plugin.from_pillow(image).save(buffer, quality=95, chroma=444, **how)
    return buffer.getvalue()


def exif(orientation):
    """EXIF data of an orientation."""
    made = Image.Exif()
    made[0x0112] = orientation
    return made.tobytes()


@pytest.fixture(autouse=True)
def afresh(monkeypatch):
    """Pillow as it is before the first HEIC."""
    monkeypatch.setattr(Image, "OPEN", {name: how for name, how in Image.OPEN.items() if name != "HEIF"})
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])


@pytest.fixture
def absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)


def test_without_the_plugin_the_remedy_is_said(absent, tmp_path):
    (tmp_path / "a").mkdir()
    PHOTO.resize((256, 192)).save(tmp_path / "a/1.jpg")
    (tmp_path / "a/2.heic").write_bytes(HEADER)
    (tmp_path / "a/3.HEIF").write_bytes(HEADER.replace(b"heic", b"mif1", 1))
    images = open_dataset(tmp_path).images
    assert images.read(0).shape == (192, 256, 3)
    for index in (1, 2):
        with pytest.raises(UnreadableImage, match=f"^{REMEDY}$"):
            images.read(index)
    problems = check(tmp_path).of("unreadable")
    assert [problem.paths for problem in problems] == [("a/2.heic",), ("a/3.HEIF",)]
    assert all('pip install "resnets[heic]"' in problem.detail for problem in problems)


@pytest.mark.skipif(not AVIF, reason="this Pillow reads no AVIF")
def test_without_the_plugin_an_avif_of_a_common_brand_is_read(absent):
    np.testing.assert_array_equal(decode(AVIF_BY_MIF1), decode(AVIF))


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("grey", [False, True])
def test_a_photo_is_turned_once(orientation, grey):
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](np.asarray(PHOTO))))
    data = heic(stored, exif=exif(orientation))
    assert (b"irot" in data or b"imir" in data) == (orientation != 1)
    expected = np.asarray(PHOTO.convert("L"))[:, :, None] if grey else PHOTO
    assert apart(decode(data, grey), expected) < 2


def test_what_exif_says_alone_turns_nothing():
    data = bytearray(heic(PHOTO, exif=exif(1)))
    place = data.index(b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x01") + 8  # the tag, its kind and count; big-endian
    data[place : place + 2] = b"\x00\x06"
    assert apart(decode(bytes(data)), PHOTO) < 2
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["original_orientation"] == 6


def test_transparency_lies_on_white_and_grey_is_grey():
    clear = Image.new("RGBA", (64, 64), (1, 2, 3, 0))
    assert (decode(heic(clear)) >= 250).all()
    image = decode(heic(PHOTO.convert("L")))
    assert image.shape == (48, 64, 3) and (image == image[:, :, :1]).all()
    assert apart(image[:, :, 0], PHOTO.convert("L")) < 2


def test_the_first_picture_of_several_is_read():
    plugin, buffer = pytest.importorskip("pillow_heif"), io.BytesIO()
    several = plugin.from_pillow(PHOTO)
    several.add_from_pillow(Image.new("RGB", (64, 48), "red"))
    several.save(buffer, quality=95, chroma=444, primary_index=0)
    assert apart(decode(buffer.getvalue()), PHOTO) < 2


@pytest.mark.parametrize("least", [0, 8])
def test_a_folder_of_them_is_healthy_and_read(tmp_path, least):
    (tmp_path / "a").mkdir()
    for number in range(2):
        photo = PHOTO.resize((128, 96)) if number else PHOTO.resize((128, 96)).transpose(Image.Transpose.ROTATE_90)
        (tmp_path / f"a/{number}.HEIC").write_bytes(heic(photo, exif=exif(6)))
    health = check(tmp_path, size=32)
    assert (health.problems, health.types) == ((), {"heif": 2})
    assert health.sizes["width"] == {"min": 96, "median": 112.0, "max": 128}
    assert open_dataset(tmp_path).images.read(0, least=least).shape == (96, 128, 3)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_damaged_one_is_unreadable(share):
    data = heic(PHOTO)
    cut = data[: int(share * len(data))]
    with pytest.raises(UnreadableImage):
        decode(cut)
    assert (look_at_file("a.heic", cut).fault or ("",))[0] == "truncated"


def test_one_that_claims_too_much_is_refused_undecoded():
    data = heic(PHOTO.resize((64, 64)))  # whole blocks of the coder, so that the size stands there once
    place = data.index(b"ispe") + 8
    with pytest.raises(UnreadableImage, match=r"^more than 178,956,970 pixels$"):
        decode(data[:place] + (14_000).to_bytes(4, "big") + (13_000).to_bytes(4, "big") + data[place + 8 :])


def test_the_plugin_is_registered_once(monkeypatch):
    data, plugin, calls = heic(PHOTO), sys.modules["pillow_heif"], []
    register = plugin.register_heif_opener
    monkeypatch.setattr(plugin, "register_heif_opener", lambda: calls.append(1) or register())
    for _ in range(3):
        decode(data)
    assert calls == [1]
    with ThreadPoolExecutor(8) as pool:
        assert {image.tobytes() for image in pool.map(decode, [data] * 32)} == {decode(data).tobytes()}


def in_a_process(code, folder):
    """What a fresh process prints in a folder."""
    code = "import sys\nfrom pathlib import Path\nfrom resnets.data.decode import UnreadableImage, read\n" + code
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_is_imported_when_the_first_is_met(tmp_path):
    (tmp_path / "x.heic").write_bytes(heic(PHOTO))
    for suffix in (".jpg", ".webp"):
        PHOTO.save(tmp_path / f"x{suffix}")
    code = (
        "shapes = [read(Path('x.jpg')).shape, read(Path('x.webp')).shape]\n"
        "try: read(Path('no.jpg'))\nexcept UnreadableImage: pass\n"
        "before = 'pillow_heif' in sys.modules\n"
        "print(before, {*shapes, read(Path('x.heic')).shape})\n"
    )
    assert in_a_process(code, tmp_path) == "False {(48, 64, 3)}"


@pytest.mark.skipif(not AVIF, reason="this Pillow reads no AVIF")
def test_an_avif_of_a_common_brand_stays_pillows(tmp_path):
    heic(PHOTO)
    (tmp_path / "x.avif").write_bytes(AVIF_BY_MIF1)
    assert in_a_process("print(read(Path('x.avif')).shape)", tmp_path) == "(48, 64, 3)"
