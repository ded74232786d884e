"""What H learns by looking: a counter says what the pictures of moved codes hold, and its gradient how to move them better.

A latent classifier is right about codes like those that it learned from, and H learns to go where it's wrong. The counter
that made its labels sees what the generator truly draws there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ganvas import scorers
from ganvas.dataset import LatentDataset
from ganvas.editors._learning import labelled_by
from ganvas.errors import GanvasError, unknown
from ganvas.generator import Generator
from ganvas.scorer import Scorer
from ganvas.types import WPlus

if TYPE_CHECKING:
    from ganvas.scorers.count import Counter

LOOKED = 16
"""Pictures in a step."""


@dataclass(frozen=True)
class Eye:
    """A counter that looks at a generator's pictures; differentiable. ``moved`` and ``parts`` are attributes that it counts."""

    generator: Generator
    counter: Counter
    moved: tuple[str, ...]
    parts: tuple[str, ...]

    def look(self, ws: WPlus) -> tuple[Tensor, Float[Tensor, "n parts"]]:
        """Log-probabilities of each count (n, moved, counts) of codes' pictures, and how many there are of the parts."""
        count, classes = self.counter.logits(self.generator.synthesis(ws))
        values = torch.arange(classes.shape[2], device=ws.device, dtype=ws.dtype)
        columns = [self._class(name) for name in self.parts]
        expected = classes.softmax(2)[:, columns] @ values
        each = [count if name == "count" else classes[:, self._class(name)] for name in self.moved]
        # Classes have fewer counts than the whole: the rest is as good as impossible.
        padded = [F.pad(x.log_softmax(1), (0, count.shape[1] - x.shape[1]), value=-1e4) for x in each]
        return torch.stack(padded, 1), expected

    def losses(self, logs: Tensor, counts: Int[Tensor, "n moved"]) -> Float[Tensor, "n moved"]:
        """The cross-entropy of each count."""
        return -logs.gather(2, counts.clamp(0, logs.shape[2] - 1)[..., None])[..., 0]

    def _class(self, name: str) -> int:
        return self.counter.attributes.index(name) - 1


def eye_of(
    data: LatentDataset,
    generator: Generator,
    scorer: Scorer | str | None,
    attributes: tuple[str, ...],
    parts: tuple[str, ...],
) -> Eye:
    """With the scorer that was given, or else the one that made the labels.

    Raises GanvasError where it isn't a counter network, whose gradients are needed, or doesn't count an attribute.
    """
    from ganvas.scorers.count import DIGITS, Counter

    found = scorers.load_scorer(scorer) if isinstance(scorer, str) else scorer or labelled_by(data)
    if not isinstance(found, Counter):
        name = data.scorer.partition(":")[0] if found is None else found.name
        raise GanvasError(f"looks need a counter network that `ganvas train-counter` wrote: {name!r} isn't one.")
    for name in (*attributes, *parts):
        if name not in ("count", *DIGITS):
            raise unknown("count", name, ["count", *DIGITS])
    return Eye(generator, found.to(generator.device), attributes, parts)
