"""What TensorFlow once recorded, and TensorFlow itself, in a process of its own."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

RECORDER = Path(__file__).parent / "recorded" / "record_tensorflow.py"
RECORDED = json.loads(RECORDER.with_name("tensorflow.json").read_text(encoding="utf-8"))
TINY = RECORDED["tiny"]


def unpacked(files, folder):
    """Write recorded files; the prefix of the checkpoint that they are."""
    for name, content in files.items():
        (folder / name).write_bytes(base64.b64decode(content))
    return folder / next(name for name in files if name.endswith(".index")).removesuffix(".index")


def ask(action, **request):
    """TensorFlow in a process of its own, which it doesn't share with PyTorch."""
    done = subprocess.run([sys.executable, RECORDER, json.dumps({"action": action, **request}, default=str)],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    if "result" in request:
        with np.load(request["result"]) as found:
            return dict(found)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype.newbyteorder("="), name
        assert found[name].shape == array.shape and np.array_equal(found[name], array), name
        assert found[name].flags.writeable and found[name].flags.c_contiguous, name
