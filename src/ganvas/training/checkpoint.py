"""Checkpoints of a training as safetensors files: a network's weights and AdamW's state of each parameter."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ganvas.errors import GanvasError
from ganvas.io.shards import load_shard, save_shard

KIND, VERSION = "checkpoint", 1
MOMENT_NAMES = ("exp_avg", "exp_avg_sq", "step")
"""AdamW's state of a parameter."""


def save_checkpoint(path: Path, epoch: int, network: nn.Module, optimizer: Optimizer, run: Mapping[str, Any]) -> None:
    """Write a checkpoint after ``epoch`` epochs; ``run`` (JSON): all that the training depends on."""
    tensors: dict[str, Tensor] = {f"network.{key}": value for key, value in network.state_dict().items()}
    for i, parameter in enumerate(_parameters(optimizer)):
        tensors |= {f"optimizer.{i}.{key}": optimizer.state[parameter][key] for key in MOMENT_NAMES}
    save_shard(path, tensors | {"epoch": torch.tensor([epoch])}, _metadata(run))


def load_checkpoint(path: Path, network: nn.Module, optimizer: Optimizer, run: Mapping[str, Any]) -> int:
    """Restore network and optimizer, and return the number of finished epochs; 0 where there is no file.

    Raises GanvasError for a file that is damaged or of another run.
    """
    if not path.exists():
        return 0
    tensors = load_shard(path, "epoch", _metadata(run), 1)
    refusal = GanvasError(
        f"{path} is damaged, or a checkpoint of another training: delete it, or choose another --out."
    )
    if tensors is None:
        raise refusal
    try:
        state = {key: tensors[f"network.{key}"] for key in network.state_dict()}
        for i, parameter in enumerate(_parameters(optimizer)):
            step, sums = tensors[f"optimizer.{i}.step"], [tensors[f"optimizer.{i}.{key}"] for key in MOMENT_NAMES[:2]]
            # In the parameter's own memory order: another order may change the last bits.
            moments = [torch.empty_like(parameter).copy_(value) for value in sums]
            optimizer.state[parameter] = dict(zip(MOMENT_NAMES, (*moments, step), strict=True))
        network.load_state_dict(state)
    except (KeyError, RuntimeError):
        raise refusal from None
    return int(tensors["epoch"])


def advance_schedule(schedule: LRScheduler, steps: int) -> None:
    """Advance a new schedule by ``steps`` steps."""
    with warnings.catch_warnings():
        # The optimizer's steps were another process's: torch can't know.
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
        for _ in range(steps):
            schedule.step()


def _metadata(run: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": KIND, "version": VERSION, "run": dict(run)}


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
