"""Validated options and one training loop, for methods that train networks on codes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from ganvas import scorers
from ganvas.data.dataset import LatentDataset
from ganvas.errors import GanvasError
from ganvas.progress import Progress
from ganvas.scorers.base import Scorer
from ganvas.validation import Natural, Positive, PositiveInt, validated

WARMUP_SHARE = 0.1
"""The share of the steps over which the learning rate rises."""


@validated
class FitConfig:
    """Options of every method that trains a network on codes.

    ``components``: the number of leading principal components of W that the network reads and moves, at most; the rest of
    a code stays as it is. ``width``: of hidden layers. ``steps``, ``batch`` and ``rate``: of Adam. ``knowledge``: the
    number of training steps of the latent classifier, which is trained first.
    """

    components: PositiveInt = 128
    width: PositiveInt = 256
    steps: PositiveInt = 1000
    batch: PositiveInt = 512
    rate: Positive = 2e-3
    knowledge: PositiveInt = 800
    seed: Natural = 0


def minimize(
    weights: Iterable[nn.Parameter],
    loss: Callable[[int], Tensor],
    steps: int,
    rate: float,
    decay: float = 0.01,
    progress: Progress = lambda step, steps: None,
) -> float:
    """Minimise ``loss(step)`` with AdamW and return the last loss.

    The learning rate rises over the first ``WARMUP_SHARE`` of the steps and then falls to 0 as a cosine. Gradients are
    computed under ``torch.no_grad``, too. ``progress`` is called after each step.
    Raises GanvasError where the last loss isn't finite.
    """
    weights = list(weights)
    optimizer = torch.optim.AdamW(weights, rate, weight_decay=decay, fused=weights[0].device.type in ("cpu", "cuda"))
    last = torch.zeros(())
    for step in range(steps):
        done = (step + 1) / steps
        for group in optimizer.param_groups:
            group["lr"] = rate * min(done / WARMUP_SHARE, 1) * (1 + math.cos(math.pi * done)) / 2
        with torch.enable_grad():
            last = loss(step)
            optimizer.zero_grad()
            last.backward()
        # Few codes, or a scorer that isn't smooth everywhere, may give a single huge gradient.
        nn.utils.clip_grad_norm_(weights, 10.0)
        optimizer.step()
        progress(step + 1, steps)
    final = float(last.detach())
    if not math.isfinite(final):
        raise GanvasError(f"The training diverged (loss {final}): try a lower rate than {rate:g}.")
    return final


def draw_rows(n: int, batch: int, random: torch.Generator, device: torch.device) -> Tensor:
    """Draw the row numbers of a batch from ``n``; ``random`` is on the CPU, so that all devices draw the same."""
    return torch.randint(n, (min(batch, n),), generator=random).to(device)


def scorer_of_labels(data: LatentDataset) -> Scorer | None:
    """Load the scorer that made the labels; None where ganvas doesn't have it, or has another version."""
    name, _, fingerprint = data.scorer.rpartition(":")
    if name not in scorers.list_scorers():
        return None
    scorer = scorers.load_scorer(name)
    return scorer if scorer.fingerprint == fingerprint else None
