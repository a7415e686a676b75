"""Training over processes: one, two, and two of two hosts, with the same batch: images a second, and the loss of each step.

    python benchmarks/processes.py [--network resnet20] [--batch 128] [--precision auto] [--rounds 5] [--quick] [--json]
        [--out FILE]

Each process has one thread, but for `threads`: one process with two. `apart` is two whose norms see their own images alone
(`sync_batch_norm=false`), so that what a norm's messages cost is seen. The hosts are two torchrun agents with loopback
addresses of their own, 127.0.0.1 and 127.0.0.2, which meet at a rendezvous as two machines do. Each round has every way
once, and its own ratios; the images are noise, in ten classes. The losses of one and two processes are compared by step.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from training_data import write

from resnets import bench

WORKER = Path(__file__).with_name("one_process.py")
COMPARED = 3  # first steps whose losses are compared: later, rounding has grown
WAYS = {  # name → (hosts, processes a host, threads a process, norms that see all processes)
    "one": (1, 1, 1, True),
    "threads": (1, 1, 2, True),
    "two": (1, 2, 1, True),
    "apart": (1, 2, 1, False),
    "hosts": (2, 1, 1, True),
}


def main() -> None:
    parser = bench.parser(__doc__ or "")
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--rounds", type=int)
    options = parser.parse_args()
    rounds = options.rounds or (3 if options.quick else 5)
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as place:
        data = write(Path(place) / "data", 40 * options.batch, 28, 1)
        for number in range(rounds):
            for way in WAYS:
                found[way].append(run(way, data, options, Path(place) / f"{way}-{number}.json"))
    rows = [row(way, found[way], options) for way in WAYS]
    ratios = {
        f"{way}_vs_{other}": statistics.median(a["rate"] / b["rate"] for a, b in zip(found[way], found[other], strict=True))
        for way, other in (("two", "one"), ("two", "threads"), ("apart", "one"), ("hosts", "two"))
    }
    ratios["loss_difference"] = max(differences(found["one"][0], found[way][0]) for way in ("two", "hosts"))
    bench.report(options, rows, ratios)


def run(way: str, data: Path, options: argparse.Namespace, out: Path) -> dict[str, Any]:
    """One way, in processes of its own: images a second, and the loss of each step."""
    hosts, processes, threads, sync = WAYS[way]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    agents = []
    for host in range(hosts):
        command = [sys.executable, "-m", "torch.distributed.run", f"--nnodes={hosts}", f"--nproc-per-node={processes}",
                   "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=processes",
                   f"--local-addr=127.0.0.{host + 1}", str(WORKER), str(data), options.network, str(options.batch),
                   options.precision, str(sync), str(out)]  # fmt: skip
        agents.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    for agent in agents:
        _, said = agent.communicate(timeout=300)
        if agent.returncode:
            raise RuntimeError(f"{way} failed: {said[-2000:]}")
    return json.loads(out.read_text())


def row(way: str, found: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """A way's figures: medians over the rounds."""
    hosts, processes, threads, sync = WAYS[way]
    rates = [result["rate"] for result in found]
    messages = [result["message_ms"] for result in found if result["message_ms"]]
    return {
        "way": way, "network": options.network, "batch": options.batch, "hosts": hosts, "processes": hosts * processes,
        "threads": threads, "sync_batch_norm": sync, "precision": found[0]["precision"],
        "images_per_second": statistics.median(rates), "message_ms": statistics.median(messages) if messages else None,
        "rates": rates, "losses": found[0]["losses"],
    }  # fmt: skip


def differences(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest relative difference of the first losses."""
    pairs = zip(one["losses"][:COMPARED], other["losses"][:COMPARED], strict=True)
    return max(abs(a - b) / abs(a) for a, b in pairs)


if __name__ == "__main__":
    main()
