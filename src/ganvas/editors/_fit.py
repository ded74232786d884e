"""Checked options and one training loop, for methods that train networks on codes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ganvas import scorers
from ganvas.data.dataset import LatentDataset
from ganvas.errors import GanvasError, unknown
from ganvas.progress import Progress
from ganvas.scorers.base import Scorer

L = TypeVar("L", bound="FitConfig")
WARMUP_SHARE = 0.1
"""The share of the steps over which the learning rate rises."""


@dataclass(frozen=True)
class FitConfig:
    """Options of every method that trains a network on codes.

    ``components``: the number of leading principal components of W that the network reads and moves, at most; the rest of
    a code stays as it is. ``width``: of hidden layers. ``steps``, ``batch`` and ``rate``: of Adam. ``knowledge``: the
    number of training steps of the latent classifier, which is trained first.
    """

    components: int = 128
    width: int = 256
    steps: int = 1000
    batch: int = 512
    rate: float = 2e-3
    knowledge: int = 800
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("components", "width", "steps", "knowledge", "batch", "seed"):
            check_integer(name, getattr(self, name), int(name != "seed"))
        check_number("rate", self.rate, above=0)


def check_integer(name: str, value: Any, minimum: int, maximum: float = math.inf) -> None:
    """Check that ``value`` is a whole number from ``minimum`` to ``maximum``. Raises GanvasError otherwise."""
    if type(value) is not int or value < minimum:
        raise GanvasError(f"{name} must be a whole number of at least {minimum}, not {value!r}.")
    if value > maximum:
        raise GanvasError(f"{name} must be at most {maximum}, not {value}.")


def check_number(name: str, value: Any, above: float | None = None) -> None:
    """Check that ``value`` is a finite number of at least 0, or above ``above``. Raises GanvasError otherwise."""
    valid = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
    if not valid or above is not None and value <= above:
        raise GanvasError(
            f"{name} must be a number {'of at least 0' if above is None else f'above {above}'}, not {value!r}."
        )


def parse_config(kind: type[L], options: Mapping[str, Any], *others: str) -> L:
    """Build the dataclass ``kind`` from ``options``. Raises GanvasError for a name that neither it nor ``others`` have."""
    names = [field.name for field in fields(kind)]
    for name in options:
        if name not in names:
            raise unknown("option", name, ["attributes", *others, *names])
    return kind(**options)


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
