"""A connection to a Ray cluster, or to one that is started on this machine for a run; and the room that it has."""

import contextlib
import logging
import os
import re
import socket
from collections.abc import Iterator
from typing import Any

from resnets import machine
from resnets.errors import WorkFailed

log = logging.getLogger("resnets")


@contextlib.contextmanager
def connected(ray: Any, cluster: str) -> Iterator[None]:
    """A connection to the cluster; what is begun here is ended here."""
    if ray.is_initialized():
        there = ray.get_runtime_context().gcs_address
        if cluster not in ("auto", there):
            raise ValueError(f"this process is connected to the Ray cluster at {there}, not to {cluster}")
        yield
        return
    address = (os.environ.get("RAY_ADDRESS") or "auto") if cluster == "auto" else cluster
    if address != "auto":
        _check_reachable(address)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError) as error:
        if address != "auto" or not isinstance(error, ConnectionError):
            raise WorkFailed(f"the Ray cluster at {address} can't be used: {str(error).splitlines()[0]}") from error
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        log.info("no Ray cluster is running; one is started on this machine, with %d cores", machine.cores())
        ray.init(address="local", num_cpus=machine.cores(), include_dashboard=False, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise where nothing listens: Ray would try for minutes, and then end the process."""
    found = re.fullmatch(r"(?P<host>[^/]+):(?P<port>[0-9]+)", address)
    if found is None:
        raise ValueError(f"a cluster is auto or HOST:PORT of its head, not {address!r}")
    try:
        socket.create_connection((found["host"].strip("[]"), int(found["port"])), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise WorkFailed(f"no Ray cluster answers at {address}: {error}") from None


def room(ray: Any, cpus: int, gpus: float) -> int:
    """How many predictors of so many CPUs and GPUs each the cluster has room for now. WorkFailed where it has none."""
    shares = {"CPU": cpus, "GPU": gpus}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    found = sum(min(int(node.get(name, 0) // share) for name, share in shares.items() if share) for node in nodes)
    if not found:
        raise WorkFailed(f"no node of the cluster has {cpus} CPUs and {gpus:g} GPUs for a predictor")
    return found
