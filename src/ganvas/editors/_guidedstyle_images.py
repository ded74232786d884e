"""GuidedStyle's use of pictures: which rows of W+ show an attribute, and a scorer's readings of an edit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ganvas import scorers
from ganvas.data.dataset import LatentDataset, find_columns
from ganvas.data.gaussianize import Gaussianize
from ganvas.editors._fit import FitData, LatentEditor
from ganvas.generators.base import Generator
from ganvas.io.images import LABEL_SIDE, downscale
from ganvas.scorers.base import Scorer
from ganvas.types import Scores, W, WPlus

PROBED_CHANGE = 2.0
"""The change, in standard deviations, at which the effects of rows are measured."""


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


def load_scorer_of_labels(data: LatentDataset) -> Scorer | None:
    """Load the scorer that made the labels; None where ganvas doesn't have it, or has another version."""
    name, _, fingerprint = data.scorer.rpartition(":")
    if name not in scorers.list_scorers():
        return None
    scorer = scorers.load_scorer(name)
    return scorer if scorer.fingerprint == fingerprint else None


def measure_row_effects(
    edit_scorer: EditScorer, editor: LatentEditor, fit_data: FitData, pictures: int
) -> Float[Tensor, "attributes num_ws"]:
    """Measure what each row adds to a change of each attribute, in its standard deviations, over ``pictures`` codes.

    Half of the codes change by ``PROBED_CHANGE``, half by its negative; the gradient of each is taken at another fraction
    of its move, evenly spread.
    """
    k, num_ws = len(editor.attributes), edit_scorer.generator.num_ws
    effects = torch.zeros(k, num_ws, device=fit_data.x.device)
    index = torch.arange(pictures) % len(fit_data.held_x)
    signs = torch.where(torch.arange(pictures) % 2 == 0, 1.0, -1.0).to(fit_data.x)
    fractions = ((torch.arange(pictures) // 2 + 0.5) / ((pictures + 1) // 2)).to(fit_data.x)
    w = fit_data.held_w[index.to(fit_data.x.device)]
    for j in range(k):
        for part in torch.arange(pictures).split(edit_scorer.batch):
            changes = w.new_zeros(len(part), k)
            changes[:, j] = PROBED_CHANGE * signs[part]
            effects[j] += _sum_row_effects(edit_scorer, editor, w[part], changes, fractions[part])
    return effects / pictures


def _sum_row_effects(edit_scorer: EditScorer, editor: LatentEditor, w: W, changes: Scores, fractions: Tensor) -> Tensor:
    """Sum over codes what each row adds to changes: its gradient at ``fractions`` of the move, times its move."""
    with torch.no_grad():
        displacement = editor.frame.unproject(editor.move(editor.frame.project(w), editor.scale_changes(changes)))
        ws = (w + fractions[:, None] * displacement)[:, None].repeat(1, edit_scorer.generator.num_ws, 1)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad((edit_scorer.read(ws.requires_grad_()) * changes.sign()).sum(), ws)
    return (slope * displacement[:, None]).sum((0, 2))


def select_rows(effects: Float[Tensor, "attributes num_ws"], share: float) -> Float[Tensor, "attributes num_ws"]:
    """Select the fewest rows that together add ``share`` of all positive effects: 1, else 0; all rows, if none is positive."""
    positive = effects.clamp(min=0)
    values, order = positive.sort(dim=1, descending=True, stable=True)
    # A row is selected where those before it don't suffice.
    before = values.cumsum(1) - values
    needed = (before < share * values.sum(1, keepdim=True)) & (values > 0)
    rows = torch.zeros_like(effects).scatter_(1, order, needed.to(effects))
    return torch.where(rows.any(1, keepdim=True), rows, 1.0)
