"""The measuring core that benchmarks and studies share: what the machine is, fair timing, and the results file."""

import argparse
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from resnets import machine
from resnets.files import write_json

PACKAGES = ("resnets", "numpy", "openvino", "torch", "torchvision", "pillow", "simplejpeg")


def describe() -> dict[str, Any]:
    """The machine, the versions and the commit that a figure comes from."""
    name, sets = machine.processor()
    return {
        "processor": name,
        "cores": machine.cores(),
        "instructions": sorted(sets & {"avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8"}),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "commit": _commit(),
    }


def interleaved(ways: Mapping[str, Callable[[], object]], rounds: int = 5) -> dict[str, list[float]]:
    """Seconds that each way takes, `rounds` times, one after the other in every round, so that a neighbour disturbs all."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def median_row(name: str, seconds: list[float], **more: Any) -> dict[str, Any]:
    """A row of a results file: the median of what was timed, with its range."""
    return {
        "name": name,
        "seconds": statistics.median(seconds),
        "least": min(seconds),
        "most": max(seconds),
        "n": len(seconds),
        **more,
    }


def parser(said: str) -> argparse.ArgumentParser:
    """The options that every benchmark and study takes."""
    options = argparse.ArgumentParser(description=said)
    options.add_argument("--quick", action="store_true", help="under five minutes: fewer images and rounds")
    options.add_argument("--json", action="store_true", help="the results document on standard output")
    options.add_argument("--out", type=Path, help="where the results document is written")
    return options


def report(options: argparse.Namespace, rows: list[dict[str, Any]], ratios: Mapping[str, float]) -> None:
    """Print the results, and write them if asked: {"machine", "rows", "ratios"}."""
    document = {"machine": describe(), "rows": rows, "ratios": dict(ratios)}
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.out, document)
    if options.json:
        print(json.dumps(document, indent=2))
        return
    for row in rows:
        print(
            "  ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items())
        )
    for name, value in ratios.items():
        print(f"{name}: {value:.3f}")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the working tree that this file is in, with a plus where it has changes."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--", "."], cwd=here, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + "+" * bool(changed.stdout)
