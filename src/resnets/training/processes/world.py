"""The processes of a run: one, or as many as torchrun started, on one machine or several.

Fabric stands for devices and communication. What the processes have to agree on (how many images a step has, that one of
them is to stop) goes over a group of processors' own, so that a GPU never waits for it.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from inspect import signature
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, distributed, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from resnets.errors import Lost

log = logging.getLogger("resnets")

PATIENCE = timedelta(days=1)  # while one process reads millions of files; one that ended breaks the connection anyway

# `World.same_buffers` sends them when it's needed, DDP never; newer versions of PyTorch have another name for that option
NAMES = ("forward_sync_buffers", "broadcast_buffers")
OWN_BUFFERS: dict[str, Any] = {next(name for name in NAMES if name in signature(DistributedDataParallel).parameters): False}


class World:
    """All processes of a run, and this one's place among them."""

    def __init__(self) -> None:
        """Join the others, where torchrun started this one of several; under it each process has one device."""
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # what it says of starting up, we say
        gpu = torch.cuda.is_available()
        here, size = 1, 1
        if "TORCHELASTIC_RUN_ID" in os.environ:
            here, size = (int(os.environ.get(name, 1)) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
        if gpu and here > torch.cuda.device_count():
            raise ValueError(f"{here} processes and {torch.cuda.device_count()} GPUs; --nproc-per-node takes one a GPU")
        if size > 1:
            meet("nccl" if gpu else "gloo", alone=size == here)
        self.fabric = Fabric(
            accelerator="cuda" if gpu else "cpu",
            devices=here if size > 1 else 1,
            num_nodes=max(1, size // here) if size > 1 else 1,
            strategy=DDPStrategy(**OWN_BUFFERS) if size > 1 else "auto",
            plugins=None if size > 1 else LightningEnvironment(),  # else it would join the tasks of a Slurm or MPI job
        )
        self.fabric.launch()
        self.here = here if size > 1 else 1  # processes on this machine
        self.size, self.rank = self.fabric.world_size, self.fabric.global_rank
        self.control: Any = distributed.new_group(backend="gloo", timeout=PATIENCE) if self.size > 1 else None
        if not self.first:
            log.setLevel(logging.ERROR)  # what every process would say, the first one says
        elif self.size > 1:
            log.info("%d processes train together", self.size)
        elif gpu and torch.cuda.device_count() > 1:
            log.info("one of %d GPUs trains; torchrun --nproc-per-node %d -m resnets train … uses all",
                     torch.cuda.device_count(), torch.cuda.device_count())  # fmt: skip

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    @property
    def part(self) -> tuple[int, int]:
        """This process's part of each batch: (rank, size)."""
        return self.rank, self.size

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.fabric.device

    def total(self, values: Sequence[float]) -> list[float]:
        """The sums of each number over all processes."""
        if self.control is None:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(tensor, group=self.control)
        return tensor.tolist()

    def in_all(self, images: int) -> float | Tensor:
        """How many images a batch has over all processes, at least 1; on their device, so that nobody waits for it."""
        if self.control is None:
            return images
        total = torch.full((), float(images), device=self.device)
        distributed.all_reduce(total)
        return total.clamp(min=1)

    def told(self, value: Any) -> Any:
        """What the first process says, on all."""
        if self.control is None:
            return value
        said = [value]
        distributed.broadcast_object_list(said, src=0, group=self.control)
        return said[0]

    def gathered(self, value: Any) -> list[Any]:
        """What each process says, by rank, on all."""
        if self.control is None:
            return [value]
        every: list[Any] = [None] * self.size
        distributed.all_gather_object(every, value, group=self.control)
        return every

    def same_buffers(self, network: nn.Module) -> None:
        """Give a network the first process's statistics, where each has followed its own part of the batches."""
        if self.control is not None:
            for buffer in network.buffers():
                distributed.broadcast(buffer, src=0)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The first process goes through the block before all others: what it makes is there, and what it refuses is said
        once."""
        if not self.first:
            self.told(None)
        yield
        if self.first:
            self.told(None)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Within the block a process that has ended is known as `Lost`: whatever message was under way breaks."""
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not (isinstance(error, distributed.DistBackendError) or "/gloo/" in str(error)):
                raise
            log.debug("%s", error)
            said = "another process of this run has ended, and its own message says why"
            raise Lost(said if self.first else "") from error

    def wait(self) -> None:
        """Until all processes have come here: before what has less patience, a GPU's messages say."""
        if self.control is not None:
            distributed.barrier(group=self.control)

    def leave(self) -> None:
        """Part from the others at the end."""
        self.wait()
        if self.control is not None:
            distributed.destroy_process_group()


def meet(backend: str, alone: bool) -> None:
    """Join the other processes before Fabric would; it takes the group that is there. `alone`: they are of one machine.

    torchrun keeps one store for all its starts of a command, where PyTorch would find the addresses of processes that have
    ended: each start has keys of its own. Machines count starts each for itself, so theirs can't tell starts apart.
    """
    store, rank, size = next(rendezvous("env://"))
    if alone:
        store = PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size)
