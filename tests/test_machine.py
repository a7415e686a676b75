"""What the processor is found to be."""

import pytest

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
