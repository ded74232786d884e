"""What editors learn from pictures while they are fitted: the scores of the pictures of codes, and their gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ganvas import scorers
from ganvas.data.dataset import LatentDataset, find_columns
from ganvas.data.gaussianize import Gaussianize
from ganvas.generators.base import Generator
from ganvas.io.images import LABEL_SIDE, downscale
from ganvas.scorers.base import Scorer
from ganvas.types import Scores, WPlus


@dataclass(frozen=True)
class EditScorer:
    """Normal scores of the pictures of codes, ``batch`` at a time; differentiable."""

    generator: Generator
    scorer: Scorer
    columns: list[int]
    gaussianize: Gaussianize
    batch: int

    @classmethod
    def from_dataset(cls, scorer: Scorer, data: LatentDataset, generator: Generator) -> EditScorer:
        """Build it for the attributes of ``data``. Raises GanvasError where the scorer lacks one."""
        columns = find_columns(data.attributes, scorer.attributes)
        return cls(generator, scorer, columns, data.gaussianize, 16 if generator.device.type == "cuda" else 2)

    def read(self, ws: WPlus) -> Scores:
        """Render codes and return the normal scores of their pictures."""
        pictures = downscale(self.generator.synthesis(ws), min(LABEL_SIDE, self.generator.resolution))
        return self.gaussianize(self.scorer(pictures)[:, self.columns])

    def compute_gradients(self, ws: WPlus) -> Float[Tensor, "n attributes num_ws w_dim"]:
        """Compute the gradients of the scores, not of normal ones, in codes; of early pictures where the generator draws them.

        A code costs one rendering, and a backward pass for each attribute.
        """
        side = min(LABEL_SIDE, self.generator.resolution)
        gradients = []
        for code in ws.split(1):
            with torch.enable_grad():
                leaf = code.detach().clone().requires_grad_()
                picture = downscale(self.generator.synthesis(leaf, resolution=side), side)
                scores = self.scorer(picture)[0, self.columns]
                rows = [
                    torch.autograd.grad(score, leaf, retain_graph=k + 1 < len(scores))[0][0]
                    for k, score in enumerate(scores)
                ]
            gradients.append(torch.stack(rows))
        return torch.stack(gradients)


def build_edit_scorer(scorer: Scorer | str | None, data: LatentDataset, generator: Generator) -> EditScorer | None:
    """Build the reader of pictures for ``scorer``, one by its name, or the one that made the labels.

    Returns None where no scorer is given and ganvas doesn't have the one that made the labels.
    Raises GanvasError for an unknown name, and a scorer that lacks an attribute.
    """
    scorer = scorers.load_scorer(scorer) if isinstance(scorer, str) else scorer
    judge = scorer or scorers.find_scorer(data.scorer)
    return None if judge is None else EditScorer.from_dataset(judge.to(generator.device), data, generator)
