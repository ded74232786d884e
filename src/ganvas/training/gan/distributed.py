"""Several processes that train one GAN, as torchrun starts them: each sees its share of a batch, gradients are averaged."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Processes:
    """``index`` of ``count``; the first writes files."""

    index: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this one writes and reports."""
        return self.index == 0


@contextmanager
def join_processes() -> Iterator[Processes]:
    """All processes that torchrun started, joined by gloo until the block ends; one by itself outside of torchrun."""
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield Processes()
        return
    dist.init_process_group("gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


@contextmanager
def catch_interrupt(processes: Processes) -> Iterator[Callable[[], bool]]:
    """Yields what says whether the user asked to stop (ctrl-C), so that a step isn't cut in two; a second time stops at once.

    Several processes are stopped at once: nothing says that they would be after the same step.
    """
    asked: list[int] = []

    def note(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    # Who ignores ctrl-C, like a shell's background jobs, or sees to it, goes on doing so.
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if processes.count > 1 or threading.current_thread() is not threading.main_thread() or not usual:
        yield lambda: False
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def average_gradients(tensors: list[Tensor], processes: Processes) -> list[Tensor]:
    """The means over all processes, in one message; the same tensors where there is one process."""
    if processes.count == 1:
        return tensors
    flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
    dist.all_reduce(flat)
    parts = (flat / processes.count).split([tensor.numel() for tensor in tensors])
    return [part.reshape(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def wait_for_all(processes: Processes) -> None:
    """Until all processes are here."""
    if processes.count > 1:
        dist.barrier()
