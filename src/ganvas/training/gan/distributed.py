"""Data-parallel training of one GAN by processes that torchrun started: each has a share of a batch, gradients are averaged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Processes:
    """This process's ``index`` of ``count``; the first one writes files."""

    index: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this one writes and reports."""
        return self.index == 0


@contextmanager
def join_processes() -> Iterator[Processes]:
    """Join the processes that torchrun started, by gloo, until the block ends; outside of torchrun there is one."""
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield Processes()
        return
    dist.init_process_group("gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def average_gradients(tensors: list[Tensor], processes: Processes) -> list[Tensor]:
    """Average tensors over all processes, in one message; return the same tensors where there is one process."""
    if processes.count == 1:
        return tensors
    flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
    dist.all_reduce(flat)
    parts = (flat / processes.count).split([tensor.numel() for tensor in tensors])
    return [part.reshape(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def wait_for_all(processes: Processes) -> None:
    """Wait until all processes have come here."""
    if processes.count > 1:
        dist.barrier()
