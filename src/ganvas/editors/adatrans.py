"""AdaTrans: a walk in small steps whose directions and sizes a network chooses from the code and the wanted changes.

Zhizhong Huang, Siteng Ma, Junping Zhang and Hongming Shan, *Adaptive Nonlinear Latent Transformation for Conditional Face
Editing*, ICCV 2023, https://arxiv.org/abs/2307.07790. In T steps,

    w_{t+1} = w_t + s_t·n_t        (n_t, s_t) = F(w_t, Δ, t), n_t a unit vector
    L = Σ_i (C_i(w_T) - C_i(w_0) - Δ_i)²·v_i + λ_nll·mean_t -log p(w_t) + λ_id·|w_T - w_0|²

so that attributes reach their targets, all of the walk stays where codes are likely, and the face stays near.

Differences from the paper: C is the latent classifier, which predicts normal scores, in place of a classifier of pictures;
v_i is 1 for what is to change and ``preserve`` for what is to stay, so that targets are changes instead of labels. p is the
normal distribution of the whitened components of W instead of a flow, and |·| is in these. F is a perceptron instead of a
recurrent network, its sizes are proportional to |Δ|, so that a small change is a small move, and losses of the pictures
(identity, LPIPS) and the term for unlabelled faces are left out. Half of the codes in training change one attribute, the
others up to ``max_attributes``.
"""

from __future__ import annotations

from typing import Annotated, final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ganvas.editors._fit import (
    Components,
    FitConfig,
    FitData,
    LatentEditor,
    NetworkMethod,
    WhitenedSpace,
)
from ganvas.editors._networks import Perceptron, compute_ascent_directions, draw_changes, draw_rows
from ganvas.editors.base import EditorMetadata
from ganvas.training_loop import LossFunction
from ganvas.types import Scores
from ganvas.validation import NonNegative, Positive, PositiveInt, validated

NEEDS = "labels"
"""What the method learns from."""
REPORTS = ()
"""The parts of reports that the method is in beside the full comparison: none."""


@validated
class AdaTransConfig(FitConfig):
    """Options of ``adatrans.fit``.

    ``preserve``: v of what is to stay; ``likelihood``: λ_nll; ``identity``: λ_id; ``edit_steps``: T; ``max_attributes``,
    ``reach``: the changes in training; ``depth``: the number of dense layers of F.
    """

    steps: PositiveInt = 1500
    rate: Positive = 1e-3
    batch: PositiveInt = 256
    depth: Annotated[int, Field(strict=True, ge=2, le=64)] = 4
    edit_steps: Annotated[int, Field(strict=True, ge=1, le=1000)] = 5
    preserve: NonNegative = 0.5
    likelihood: NonNegative = 0.1
    identity: NonNegative = 0.25
    max_attributes: PositiveInt = 3
    reach: Positive = 2.5


@final
class AdaTrans(LatentEditor):
    """A fitted AdaTrans editor; ``walker``: F, whose last output o gives a step's length |Δ|/T·softplus(o)."""

    def __init__(self, metadata: EditorMetadata, frame: WhitenedSpace, walker: Perceptron, edit_steps: int) -> None:
        super().__init__(metadata, frame)
        self.walker, self.edit_steps = walker, edit_steps

    def compute_move(self, x: Components, changes: Scores) -> Components:
        """Return the sum of the steps."""
        return self.compute_trajectory(x, changes)[-1] - x

    def compute_trajectory(self, x: Components, changes: Scores) -> list[Components]:
        """Return the coordinates after each step."""
        # √ has no slope at 0; codes that don't change are left out by ``edit``.
        total, here, trajectory = changes.square().sum(1, keepdim=True).clamp(min=1e-24).sqrt(), x, []
        for step in range(self.edit_steps):
            outputs = self.walker(torch.cat((here, changes, torch.full_like(total, step / self.edit_steps)), 1))
            sizes = total / self.edit_steps * F.softplus(outputs[:, -1:])
            here = here + sizes * F.normalize(outputs[:, :-1], dim=1)
            trajectory.append(here)
        return trajectory


def _build_editor(metadata: EditorMetadata, frame: WhitenedSpace, settings: AdaTransConfig) -> AdaTrans:
    c = settings.components
    inputs = c + len(metadata.attributes) + 1
    walker = Perceptron(inputs, c + 1, settings.width, settings.depth, path=True)
    return AdaTrans(metadata, frame, walker, settings.edit_steps)


def _create_loss(editor: AdaTrans, fit_data: FitData, settings: AdaTransConfig) -> LossFunction:
    """Return the training loss L; F's linear path starts at the classifier's directions of ascent."""
    x, k, classifier = fit_data.x, len(editor.attributes), fit_data.classifier
    before = classifier(x)
    random = torch.Generator().manual_seed(settings.seed)
    if editor.walker.path is not None:
        with torch.no_grad():
            weight = editor.walker.path.weight.zero_()
            weight[:-1, x.shape[1] : x.shape[1] + k].copy_(compute_ascent_directions(classifier).T)

    def loss(step: int) -> Tensor:
        rows = draw_rows(len(x), settings.batch, random, x.device)
        changes = draw_changes(len(rows), k, settings.max_attributes, settings.reach, random).to(x)
        weights = torch.where(changes != 0, 1.0, settings.preserve)
        trajectory = editor.compute_trajectory(x[rows], changes)
        errors = classifier(trajectory[-1]) - before[rows] - changes
        unlikely = torch.stack(trajectory).square().sum(2).mean() / 2
        distances = (trajectory[-1] - x[rows]).square().sum(1)
        reached = (errors.square() * weights).sum(1)
        return (reached + settings.identity * distances).mean() + settings.likelihood * unlikely

    return loss


METHOD = NetworkMethod("adatrans", AdaTransConfig, _build_editor, _create_loss)
"""How the method is fitted and read."""
fit, from_tensors = METHOD.fit, METHOD.from_tensors
