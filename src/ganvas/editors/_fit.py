"""What methods that train networks on codes share: options that are checked, and one descent."""

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
from ganvas.scorers.base import Scorer

FitProgress = Callable[[int, int], object]
"""Called with the number of steps done and of all steps, after each."""
L = TypeVar("L", bound="Learning")
WARMUP_SHARE = 0.1
"""The share of the steps over which the learning rate rises."""


@dataclass(frozen=True)
class FitConfig:
    """What ``fit`` of every such method can be told.

    ``components``: the leading principal components of W that it sees and moves, at most; the rest of a code is carried
    through. ``width`` of hidden layers. ``steps``, ``batch`` and ``rate`` of Adam; ``knowledge``: the steps of the latent
    classifier that comes before it.
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


def check_integer(name: str, value: Any, least: int, most: float = math.inf) -> None:
    """Raises GanvasError where ``value`` isn't a whole number of at least ``least`` and at most ``most``."""
    if type(value) is not int or value < least:
        raise GanvasError(f"{name} must be a whole number of at least {least}, not {value!r}.")
    if value > most:
        raise GanvasError(f"{name} must be at most {most}, not {value}.")


def check_number(name: str, value: Any, above: float | None = None) -> None:
    """Raises GanvasError where ``value`` isn't a finite number from 0 on, or beyond ``above``."""
    fine = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
    if not fine or above is not None and value <= above:
        raise GanvasError(
            f"{name} must be a number {'from 0 on' if above is None else f'above {above}'}, not {value!r}."
        )


def parse_config(kind: type[L], options: Mapping[str, Any], *others: str) -> L:
    """``options`` as the dataclass ``kind``. Raises GanvasError for a name that neither it nor ``others`` have."""
    known = [field.name for field in fields(kind)]
    for name in options:
        if name not in known:
            raise unknown("option", name, ["attributes", *others, *known])
    return kind(**options)


def minimize(
    weights: Iterable[nn.Parameter],
    loss: Callable[[int], Tensor],
    steps: int,
    rate: float,
    decay: float = 0.01,
    watch: FitProgress = lambda step, steps: None,
) -> float:
    """AdamW on ``loss(step)``, its rate rising over the first tenth and then falling to 0 as a cosine; the last loss.

    It learns wherever it is called, under ``torch.no_grad`` too. Raises GanvasError where the loss ends up not finite.
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
        # Few codes, or a scorer that breaks off somewhere, may give a huge gradient once.
        nn.utils.clip_grad_norm_(weights, 10.0)
        optimizer.step()
        watch(step + 1, steps)
    final = float(last.detach())
    if not math.isfinite(final):
        raise GanvasError(f"The training went astray (loss {final}): a lower rate than {rate:g} may help.")
    return final


def draw_rows(n: int, batch: int, random: torch.Generator, device: torch.device) -> Tensor:
    """Row numbers of a batch, by chance; the generator is the CPU's, so that devices draw alike."""
    return torch.randint(n, (min(batch, n),), generator=random).to(device)


def scorer_of_labels(data: LatentDataset) -> Scorer | None:
    """The scorer that made the labels, where ganvas has it."""
    name, _, fingerprint = data.scorer.rpartition(":")
    if name not in scorers.list_scorers():
        return None
    scorer = scorers.load_scorer(name)
    return scorer if scorer.fingerprint == fingerprint else None
