import errno
import json
import os
import signal
import stat
import subprocess
import sys

import pytest

from resnets.files import cache_folder, replacing, sha256, sweep, write_bytes, write_json


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_the_old_file_stands_until_the_block_ends(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("raised", [ValueError("mine"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path, raised):
    def fail():
        with replacing(path) as file:
            file.write(b"new")
            raise raised

    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(type(raised)):
        fail()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_an_error_leaves_no_file_where_there_was_none(tmp_path):
    with pytest.raises(ValueError, match="mine"), replacing(tmp_path / "a.bin"):
        raise ValueError("mine")
    assert names(tmp_path) == []


def test_text_mode(tmp_path):
    with replacing(tmp_path / "a.txt", "w", encoding="utf-8", newline="") as file:
        file.write("é\r\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9\r\n"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_decides_who_may_read(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / "a.bin", b"x")
        assert os.umask(umask) == umask  # and is left as it was
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == mode


def test_a_full_disk_names_the_path_and_leaves_the_old_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_bytes(path, b"new")
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_bytes(tmp_path / "no" / "a.bin", b"x")
    assert str(tmp_path / "no") in str(caught.value)
    assert "a.bin" in str(caught.value)


def test_a_folder_in_the_way_is_named_and_nothing_is_left(tmp_path):
    path = tmp_path / "taken"
    path.mkdir()
    with pytest.raises(OSError) as caught:
        write_bytes(path, b"x")
    assert str(path) in str(caught.value)
    assert names(tmp_path) == ["taken"]


def test_json_keeps_letters_and_ends_with_a_newline(tmp_path):
    write_json(tmp_path / "a.json", {"class": "Käfer", "top1": 0.5})
    text = (tmp_path / "a.json").read_text("utf-8")
    assert json.loads(text) == {"class": "Käfer", "top1": 0.5}
    assert "Käfer" in text
    assert text.endswith("}\n")


def test_sha256_is_the_known_hash_of_abc(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("RESNETS_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "resnets"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "resnets"


def test_what_a_kill_leaves_of_files_in_the_making_is_swept(tmp_path):
    """Also a file that a library writes beside the one it was given, as safetensors does."""
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom resnets.files import making, replacing\n"
        "folder = Path(sys.argv[1])\n"
        "with making(folder / 'model.safetensors') as path, replacing(folder / 'run.json') as file:\n"
        "    path.with_name('.tmpabcdef').write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    (tmp_path / "model.safetensors").write_bytes(b"before")
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 3
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert (tmp_path / "model.safetensors").read_bytes() == b"before"
