"""TensorFlow's checkpoint format: what is written is read, what TensorFlow wrote is read, and damage is noticed."""

import struct
from pathlib import Path

import numpy as np
import pytest
from recorded_tensorflow import RECORDED, TINY, ask, assert_same, unpacked

from resnets.weights.forms import leveldb_table
from resnets.weights.forms.tensor_bundle import find_bundle, read_bundle, unread, write_bundle


def small():
    generator = np.random.default_rng(0)
    return {
        "a/kernel": generator.normal(size=(3, 3, 2, 4)).astype(np.float32),
        "a/kernels": generator.normal(size=(5, 1)).astype(np.float16),
        "b": np.float64([1 / 3]),
        "counter": np.array(2**40, np.int64),
        "zähler": np.array([[-1], [2]], np.int32),
        "none": np.zeros((0, 3), np.float32),
        "turned": generator.normal(size=(4, 3)).astype(np.float32).T,
        "big-endian": np.arange(3, dtype=">f4"),
    }


def test_what_is_written_is_read(tmp_path):
    write_bundle(tmp_path / "model.ckpt-3", small())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.ckpt-3.data-00000-of-00001", "model.ckpt-3.index"]
    assert_same(read_bundle(tmp_path / "model.ckpt-3"), small())
    assert unread(tmp_path / "model.ckpt-3") == ()


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 33, 500])
def test_an_index_of_many_blocks(tmp_path, monkeypatch, count):
    monkeypatch.setattr(leveldb_table, "BLOCK", 300)
    weights = {f"scope/{'deep/' * (number % 5)}{number}": np.array([number], np.int32) for number in range(count)}
    write_bundle(tmp_path / "many", weights)
    assert_same(read_bundle(tmp_path / "many"), weights)
    if count == 500:
        content = (tmp_path / "many.index").read_bytes()
        monkeypatch.setattr(leveldb_table, "BLOCK", 1 << 18)
        write_bundle(tmp_path / "many", weights)
        assert len(content) > len((tmp_path / "many.index").read_bytes())  # which has one block


def test_what_tensorflow_wrote_is_read_and_written_alike(tmp_path):
    checkpoint = unpacked(TINY["files"], tmp_path)
    found = read_bundle(checkpoint)
    (tmp_path / "ours").mkdir()
    write_bundle(tmp_path / "ours" / checkpoint.name, found)
    empty = bytes.fromhex("00000000 01000000 00 c0f2a1b0")  # the block after those of names and values
    for name in TINY["files"]:
        ours, theirs = (tmp_path / "ours" / name).read_bytes(), (tmp_path / name).read_bytes()
        assert len(ours) > 6000
        if name.endswith(".index"):  # whose blocks' index differs: TensorFlow shortens its keys
            ours, theirs = ours[: ours.rindex(empty) + len(empty)], theirs[: theirs.rindex(empty) + len(empty)]
        assert ours == theirs, name


def test_all_kinds_in_two_shards(tmp_path):
    prefix = unpacked(RECORDED["kinds"], tmp_path)
    found = read_bundle(prefix)
    expected = {f"kinds/{kind}": np.array([[1, -2, 3], [4, 0, 6]], kind)
                for kind in ("float16", "float32", "float64", "int32", "int64")}  # fmt: skip
    expected["kinds/bfloat16"] = np.array([[1, -2, 3], [4, 0, 6]], np.float32)
    assert_same(found, expected | {"kinds/empty": np.zeros((0, 3), np.float32), "kinds/scalar": np.array(7.5, np.float32)})
    assert unread(prefix) == ("kinds/bool", "words")
    assert len(list(tmp_path.glob("*.data-*-of-00002"))) == 2


def test_a_partitioned_variable_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"partitioned\.index: the variable parts is partitioned.*without a partitioner"):
        read_bundle(unpacked(RECORDED["partitioned"], tmp_path))


def test_a_flipped_bit_anywhere_in_an_index_is_noticed(tmp_path):
    prefix = unpacked(RECORDED["kinds"], tmp_path)
    path = Path(f"{prefix}.index")
    content = path.read_bytes()
    for place in range(len(content)):
        for bit in range(8) if place >= len(content) - leveldb_table.FOOTER else (place % 8,):  # no checksum has the footer
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            path.write_bytes(flipped)
            with pytest.raises(ValueError, match=r"kinds\.index"):
                read_bundle(prefix)


def test_an_index_cut_anywhere_is_noticed(tmp_path):
    prefix = unpacked(RECORDED["kinds"], tmp_path)
    content = Path(f"{prefix}.index").read_bytes()
    for length in range(len(content)):
        Path(f"{prefix}.index").write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"kinds\.index is no whole index"):
            read_bundle(prefix)
    for start in (1, 100):
        Path(f"{prefix}.index").write_bytes(content[start:])
        with pytest.raises(ValueError, match=r"kinds\.index is no whole index"):
            read_bundle(prefix)


def test_a_shard_flipped_or_cut_anywhere_is_noticed(tmp_path):
    checkpoint = unpacked(TINY["files"], tmp_path)
    path = Path(f"{checkpoint}.data-00000-of-00001")
    content = path.read_bytes()
    for place in np.linspace(0, len(content) - 1, 200).astype(int).tolist():
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"data-00000-of-00001 is damaged: the checksum of .* differs"):
            read_bundle(checkpoint)
        path.write_bytes(content[:place])
        with pytest.raises(ValueError, match=r"data-00000-of-00001 is cut off"):
            read_bundle(checkpoint)
    path.unlink()
    with pytest.raises(ValueError, match=r"lacks its shard .*data-00000-of-00001"):
        read_bundle(checkpoint)


def changed_index(path, old, new, trailer=0):
    """The index of one block with a piece of it changed and the checksum made to fit again."""
    content = path.read_bytes()
    end = content.index(b"\0\0\0\0\1\0\0\0", content.index(old)) + 8  # one restart at 0
    block = content[:end].replace(old, new) + bytes([trailer])
    assert len(block) == end + 1
    path.write_bytes(block + struct.pack("<I", leveldb_table.masked_crc(block)) + content[end + 5 :])


@pytest.mark.parametrize(
    ("old", "new", "trailer", "said"),
    [
        (b"\x08\x01\x1a\x02\x08\x01", b"\x08\x01\x1a\x02\x08\x01", 0, None),
        (b"\x08\x01\x1a\x02\x08\x01", b"\x08\x01\x1a\x02\x08\x01", 1, "compressed"),
        (b"\x08\x01\x1a\x02\x08\x01", b"\x08\x01\x10\x01\x18\x01", 0, "big-endian"),
        (b"\x08\x01\x1a\x02\x08\x01", b"\x08\x00\x1a\x02\x08\x01", 0, "no whole index"),  # no shard
        (b"\x12\x04\x12\x02\x08\x03", b"\x12\x04\x12\x02\x08\x04", 0, "no whole index"),  # a shape of another size
        (b"\x12\x04\x12\x02\x08\x03", b"\x12\x74\x12\x02\x08\x03", 0, "no whole index"),  # longer than its message
        (b"\x12\x04\x12\x02\x08\x03", b"\x12\x04\x12\x02\x0b\x03", 0, "no whole index"),  # no such wire type
        (b"name", b"\xff\xff\xff\xff", 0, "no whole index"),
        (b"\x00\x04\x0f", b"\x09\x04\x0f", 0, "no whole index"),  # shares more than there is
    ],
)
def test_an_index_that_lies_is_refused(tmp_path, old, new, trailer, said):
    write_bundle(tmp_path / "model", {"name": np.ones(3, np.float32)})
    before = (tmp_path / "model.index").read_bytes()
    changed_index(tmp_path / "model.index", old, new, trailer)
    if said is None:
        assert (tmp_path / "model.index").read_bytes() == before
        return
    with pytest.raises(ValueError, match=rf"model\.index.*{said}"):
        read_bundle(tmp_path / "model")


@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint", b"\0" * 100, leveldb_table.MAGIC * 6, leveldb_table.MAGIC * 60]
)
def test_another_file_is_no_index(tmp_path, content):
    (tmp_path / "model.index").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.index is no whole index of a TensorFlow checkpoint"):
        read_bundle(tmp_path / "model")


def test_no_index_at_all(tmp_path):
    with pytest.raises(ValueError, match=r"none\.index.*can't be read: No such file"):
        read_bundle(tmp_path / "none")


@pytest.mark.parametrize("array", [np.zeros(2, bool), np.zeros(2, np.int8), np.array(["a"]), np.zeros(2, complex)])
def test_a_kind_that_is_not_written_leaves_nothing(tmp_path, array):
    with pytest.raises(ValueError, match=r"wrong is .*float16, 32 or 64, int32 or int64"):
        write_bundle(tmp_path / "model", {"right": np.zeros(2, np.float32), "wrong": array})
    assert list(tmp_path.iterdir()) == []


def test_writing_that_fails_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    write_bundle(tmp_path / "model", small())
    monkeypatch.setattr("resnets.weights.forms.tensor_bundle.table_bytes", lambda rows: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_bundle(tmp_path / "model", {"other": np.zeros(2, np.float32)})
    assert_same(read_bundle(tmp_path / "model"), small())
    assert len(list(tmp_path.iterdir())) == 2


def test_there_is_no_folder_to_write_in(tmp_path):
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere to save the checkpoint model in"):
        write_bundle(tmp_path / "nowhere" / "model", small())


# Finding one


def put(folder, *prefixes):
    for prefix in prefixes:
        write_bundle(folder / prefix, {"a": np.zeros(1, np.float32)})


@pytest.mark.parametrize(
    "given", ["model.ckpt-1", "model.ckpt-1.index", "model.ckpt-1.data-00000-of-00001", "model.ckpt-1.meta", "."]
)
def test_a_checkpoint_is_found_by_any_of_its_files(tmp_path, given):
    put(tmp_path, "model.ckpt-1")
    (tmp_path / "model.ckpt-1.meta").write_bytes(b"graph")
    assert find_bundle(tmp_path / given) == tmp_path / "model.ckpt-1"


@pytest.mark.parametrize(
    ("named_there", "found"),
    [
        ("model.ckpt-1", "model.ckpt-1"),
        ("model.ckpt-20", "model.ckpt-20"),
        ("/home/somebody/train/model.ckpt-1", "model.ckpt-1"),
        (r"m\303\266del.ckpt-1", "mödel.ckpt-1"),
        ("mödel.ckpt-1", "mödel.ckpt-1"),
        (r"a \"quoted\" one", 'a "quoted" one'),
    ],
)
def test_the_file_checkpoint_names_the_latest(tmp_path, named_there, found):
    put(tmp_path, "model.ckpt-1", "model.ckpt-20", "mödel.ckpt-1", 'a "quoted" one')
    lines = [
        f'model_checkpoint_path: "{named_there}"',
        'all_model_checkpoint_paths: "other"',
        f'all_model_checkpoint_paths: "{named_there}"',
    ]
    (tmp_path / "checkpoint").write_text("\n".join(lines))
    assert find_bundle(tmp_path) == tmp_path / found


def test_what_the_file_checkpoint_names_has_to_be_there(tmp_path):
    put(tmp_path, "model.ckpt-1")
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-2"\n')
    with pytest.raises(ValueError, match=r"names model\.ckpt-2, which isn't there; .*/model\.ckpt-1"):
        find_bundle(tmp_path)


def test_several_in_a_folder_are_listed(tmp_path):
    put(tmp_path, "model.ckpt-1", "model.ckpt-2")
    with pytest.raises(ValueError, match=r"holds 2 checkpoints; .*/model\.ckpt-1, .*/model\.ckpt-2"):
        find_bundle(tmp_path)


def test_a_part_without_the_index(tmp_path):
    put(tmp_path, "model.ckpt-1")
    (tmp_path / "model.ckpt-1.index").unlink()
    with pytest.raises(ValueError, match=r"data-00000-of-00001 is a part of .* model\.ckpt-1\.index isn't beside it"):
        find_bundle(tmp_path / "model.ckpt-1.data-00000-of-00001")
    assert find_bundle(tmp_path / "model.ckpt-1") is None and find_bundle(tmp_path) is None


def test_the_first_format_says_so(tmp_path):
    put(tmp_path, "model")
    (tmp_path / "model.index").rename(tmp_path / "resnet.ckpt")
    with pytest.raises(ValueError, match=r"resnet\.ckpt is a checkpoint of TensorFlow's first format.*save it again"):
        find_bundle(tmp_path / "resnet.ckpt")


@pytest.mark.parametrize("name", ["weights.h5", "weights.index.json", "nothing", "empty"])
def test_another_file_is_no_checkpoint(tmp_path, name):
    (tmp_path / "weights.h5").write_bytes(b"x" * 100)
    (tmp_path / "weights.index.json").write_text("{}")
    (tmp_path / "empty").write_bytes(b"")
    assert find_bundle(tmp_path / name) is None
    assert find_bundle(tmp_path) is None


# TensorFlow itself


@pytest.mark.convert
def test_tensorflow_reads_what_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(leveldb_table, "BLOCK", 100)
    native = {name: array.astype(array.dtype.newbyteorder("=")) for name, array in small().items()}
    native |= {f"many/{number}": np.array(number, np.int32) for number in range(200)}
    write_bundle(tmp_path / "model", native)
    found = ask("load", prefix=tmp_path / "model", result=tmp_path / "result.npz")
    assert found.keys() == native.keys()
    for name, array in native.items():
        assert np.array_equal(found[name], array) and found[name].dtype == array.dtype, name


@pytest.mark.convert
def test_an_index_of_several_blocks_by_tensorflow_is_read(tmp_path):
    ask("many", prefix=tmp_path / "many", count=1500)
    assert (tmp_path / "many.index").stat().st_size > 2 * leveldb_table.BLOCK
    found = read_bundle(tmp_path / "many")
    assert len(found) == 1500 and all(array == int(name.split("/")[0]) for name, array in found.items())
