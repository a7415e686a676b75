"""What the processor is found to be."""

import pytest
import torch

from resnets import machine


@pytest.mark.parametrize(
    ("name", "sets", "precision"),
    [
        ("AMD EPYC 9655", {"avx512f", "avx512_bf16"}, "bf16"),
        ("Intel(R) Xeon(R) Processor", {"avx512f", "avx512_bf16", "amx_bf16"}, "bf16"),
        ("Intel(R) Xeon(R) Processor", {"avx512f", "avx512_bf16"}, "float32"),  # slower by it: benchmarks/precision.py
        ("AMD EPYC 7763", {"avx2"}, "float32"),
        ("aarch64", set(), "float32"),
    ],
)
def test_auto_is_the_faster_precision(monkeypatch, name, sets, precision):
    monkeypatch.setattr(machine, "processor", lambda: (name, frozenset(sets)))
    assert machine.precision() == precision
    assert machine.precision("bf16") == "bf16" and machine.precision("float32") == "float32"


@pytest.mark.parametrize(
    ("compiler", "headers", "capability", "lacking"),
    [
        (True, True, (8, 0), ""),
        (False, True, (8, 0), "a C compiler (gcc or clang)"),
        (True, False, (8, 0), "Python's headers (Debian's python3-dev)"),
        (True, True, (6, 1), "a GPU of compute capability 7.0 or more"),
    ],
)
def test_what_compiling_lacks_on_a_gpu(monkeypatch, tmp_path, compiler, headers, capability, lacking):
    monkeypatch.setattr(machine.shutil, "which", lambda name: "/usr/bin/gcc" if compiler else None)
    monkeypatch.setattr(machine.sysconfig, "get_path", lambda name: str(tmp_path))
    if headers:
        (tmp_path / "Python.h").touch()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert machine.compiling_lacks() == lacking
