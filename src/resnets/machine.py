"""What this machine offers: cores, and the arithmetic that decides the precision by rule."""

import contextlib
import functools
import os
import platform
import shutil
import sysconfig
from pathlib import Path

TRITON = (7, 0)  # the compute capability from which it compiles


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def memory() -> int:
    """Bytes of memory that this process may have: the machine's, or what its control group allows where that is less."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # ValueError: "max"
            there = min(there, int(Path(limit).read_text()))
    return there


@functools.cache
def processor() -> tuple[str, frozenset[str]]:
    """The processor's name and its instruction sets, as Linux calls them ("avx512_bf16"); no sets elsewhere.

    Family and model go with the name, where Linux says them: virtual machines call a whole line "AMD EPYC".
    """
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine(), frozenset()
    lines = [line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line]
    found = {key.strip(): value.strip() for key, value in lines}
    name, which = found.get("model name", platform.machine()), (found.get("cpu family"), found.get("model"))
    name += f" (family {which[0]}, model {which[1]})" if all(which) else ""
    return name, frozenset(found.get("flags", "").split())


def fast_bf16() -> bool:
    """Whether bf16 is faster than float32 on this processor: where it has AMX, or is an AMD with AVX-512-BF16.

    On an Intel with AVX-512-BF16 and no AMX it was measured to be slower (benchmarks/precision.py), on an AMD's Zen 5 to
    train faster (benchmarks/processes.py). AMX goes by its makers' word: no results file is of one.
    """
    name, sets = processor()
    return "amx_bf16" in sets or ("avx512_bf16" in sets and "Intel" not in name)


def precision(wanted: str = "auto") -> str:
    """The precision of arithmetic on this processor: "auto" is bf16 where that is faster, else float32."""
    if wanted != "auto":
        return wanted
    return "bf16" if fast_bf16() else "float32"


def has_cuda_driver() -> bool:
    """Whether an NVIDIA driver is loaded, without importing anything to see."""
    return Path("/proc/driver/nvidia/version").exists()


def has_gpu() -> bool:
    """Whether PyTorch has a GPU to train on."""
    import torch

    return torch.cuda.is_available()


def compiling_lacks() -> str:
    """What torch.compile would need on this machine's GPU and doesn't find; "" where nothing is lacking."""
    if not any(shutil.which(name) for name in (os.environ.get("CC") or "cc", "gcc", "clang")):
        return "a C compiler (gcc or clang)"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python's headers (Debian's python3-dev)"
    import torch

    return "" if torch.cuda.get_device_capability() >= TRITON else "a GPU of compute capability 7.0 or more"


@functools.cache
def gpu_has_bf16() -> bool:
    """Whether PyTorch's GPU multiplies bfloat16 natively."""
    import torch

    return torch.cuda.is_bf16_supported(including_emulation=False)


def training_precision(wanted: str = "auto") -> str:
    """The precision of training: "auto" is bf16 where the GPU multiplies it natively, or without one the processor fast."""
    if wanted == "auto" and has_gpu():
        return "bf16" if gpu_has_bf16() else "float32"
    return precision(wanted)


def keep_freed_memory() -> None:
    """Tell glibc to keep large blocks that are freed instead of handing them back: mapped anew, every page faults again.

    Measured on batches of 32 at 224 pixels: 1.3–1.7 times the speed, for 10–22% more memory. Nothing without glibc.
    """
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(-4, 0)  # M_MMAP_MAX: no block is mapped on its own
    mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: the heap's end is not handed back
