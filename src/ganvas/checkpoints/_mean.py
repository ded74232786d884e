"""The mean of W, the centre of truncation: as files store it, or computed where they don't."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ganvas.checkpoints._budget import ReadBudget, format_printable
from ganvas.checkpoints._networks import StoredNetwork
from ganvas.checkpoints._torch import StoredTensor, read_tensors
from ganvas.generators.base import Generator, map_seeds

MEAN_NAMES = ("latent_avg", "w_avg", "dlatent_avg", "mean_latent", "latent_mean", "w_mean", "mean_w")
"""What files call the mean of W."""
SAMPLES = 4096
"""Codes whose mean is computed, where a file has none: those of seeds 0, 1, …"""


def find_mean(networks: Sequence[StoredNetwork], w_dim: int) -> StoredTensor | None:
    """Find the mean of W that stands in a file, beside the generator or among its weights: the first whose size fits."""
    for network in networks:
        for name, value in network.weights.items():
            if name.rpartition(".")[2] in MEAN_NAMES and value.shape[-1:] == (w_dim,):
                return value
    return None


def read_mean(stored: StoredTensor, budget: ReadBudget) -> tuple[Tensor, list[str]]:
    """Read a mean (w_dim,), (1, w_dim) or one for each row of W+, and notes on it."""
    rows = read_tensors({"latent_avg": stored}, budget)["latent_avg"].reshape(-1, stored.shape[-1])
    if torch.equal(rows, rows[:1].expand_as(rows)):  # a mean of equal rows may be rounded
        return rows[0].clone(), []
    return rows.mean(0), [f"has a mean of W for each of {len(rows)} rows: their mean is used"]


def complete_mean(
    state: Mapping[str, Tensor],
    shape: Any,
    family: Callable[..., Generator],
    networks: Sequence[StoredNetwork],
    budget: ReadBudget,
) -> tuple[Tensor, list[str]]:
    """Return the mean of W that stands in the file, or the mean of ``SAMPLES`` codes, and notes on it.

    ``family``: the class of the generator that ``state`` is the weights of.
    """
    if stored := find_mean(networks, shape.w_dim):
        return read_mean(stored, budget)
    odd = [n.weights[name].shape for n in networks for name in n.weights if name.rpartition(".")[2] in MEAN_NAMES]
    reason = (
        f"has a mean of W of shape {format_printable(str(odd[0]))}, not ({shape.w_dim},)" if odd else "has no mean of W"
    )
    return compute_mean(state, shape, family), [f"{reason}: it's taken over {SAMPLES:,} codes"]


def compute_mean(state: Mapping[str, Tensor], shape: Any, family: Callable[..., Generator]) -> Tensor:
    """Compute the mean of W of seeds 0, 1, …, of a conditional network over its labels in turn."""
    network = family({**state, "mapping.w_avg": torch.zeros(shape.w_dim)}, shape)
    with torch.no_grad():
        return map_seeds(network, range(SAMPLES)).mean(0)
