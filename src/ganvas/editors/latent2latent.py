"""Latent to latent: one dense network takes a code and the wanted changes of all attributes, and gives the edited code.

Siavash Khodadadeh, Shabnam Ghadar, Saeid Motiian, Wei-An Lin, Ladislau Bölöni and Ratheesh Kalarot, *Latent to Latent: A
Learned Mapper for Identity Preserving Editing of Multiple Face Attributes in StyleGAN-generated Images*, WACV 2022,
https://openaccess.thecvf.com/content/WACV2022/html/Khodadadeh_Latent_to_Latent_A_Learned_Mapper_for_Identity_Preserving_Editing_of_WACV_2022_paper.html.
It is trained on the labels of an attribute classifier; the requested changes and preservation are terms of its loss:

    w' = w + M(w, Δ) - M(w, 0)
    L  = Σ_i (C_i(w') - C_i(w) - Δ_i)²·v_i + λ_id·|w' - w|²

C is the latent classifier, which predicts normal scores; v_i is 1 for what is to change, and ``preserve`` for what is to
stay. |w' - w|, the Mahalanobis distance over the whitened components of W, stands for the identity of the face.
In training, half of the codes change one attribute, the others up to ``max_attributes`` of them, by normal numbers of standard
deviation ``reach``. Subtracting M(w, 0) makes a change of 0 no move, and a small change a small one.
"""

from __future__ import annotations

from typing import Annotated, final

import torch
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
from ganvas.editors._networks import Perceptron, draw_changes, draw_rows
from ganvas.editors.base import EditorMetadata
from ganvas.training_loop import LossFunction
from ganvas.types import Scores
from ganvas.validation import NonNegative, Positive, PositiveInt, validated

NEEDS = "labels"
"""What the method learns from."""
REPORTS = ()
"""The parts of reports that the method is in beside the full comparison: none."""


@validated
class Latent2LatentConfig(FitConfig):
    """Options of ``latent2latent.fit``.

    ``preserve``: v of what is to stay; ``identity``: λ_id; ``max_attributes``, ``reach``: the changes in training; ``depth``: the
    number of dense layers.
    """

    steps: PositiveInt = 1500
    depth: Annotated[int, Field(strict=True, ge=2, le=64)] = 4
    rate: Positive = 1e-3
    preserve: NonNegative = 0.5
    identity: NonNegative = 0.25
    max_attributes: PositiveInt = 3
    reach: Positive = 2.5


@final
class Latent2Latent(LatentEditor):
    """A fitted latent-to-latent editor; ``mapper``: M, from concatenated components and changes to components."""

    def __init__(self, metadata: EditorMetadata, frame: WhitenedSpace, mapper: Perceptron) -> None:
        super().__init__(metadata, frame)
        self.mapper = mapper

    def compute_move(self, x: Components, changes: Scores) -> Components:
        """Return M(w, Δ) - M(w, 0)."""
        inputs = torch.cat((x, changes), 1)
        return self.mapper(inputs) - self.mapper(torch.cat((x, torch.zeros_like(changes)), 1))


def _build_editor(metadata: EditorMetadata, frame: WhitenedSpace, settings: Latent2LatentConfig) -> Latent2Latent:
    c = settings.components
    return Latent2Latent(
        metadata, frame, Perceptron(c + len(metadata.attributes), c, settings.width, settings.depth, path=True)
    )


def _create_loss(editor: Latent2Latent, fit_data: FitData, settings: Latent2LatentConfig) -> LossFunction:
    """Return L."""
    x, k, classifier = fit_data.x, len(editor.attributes), fit_data.classifier
    before = classifier(x)
    random = torch.Generator().manual_seed(settings.seed)

    def loss(step: int) -> Tensor:
        rows = draw_rows(len(x), settings.batch, random, x.device)
        changes = draw_changes(len(rows), k, settings.max_attributes, settings.reach, random).to(x)
        weights = torch.where(changes != 0, 1.0, settings.preserve)
        moves = editor.compute_move(x[rows], changes)
        errors = classifier(x[rows] + moves) - before[rows] - changes
        return (errors.square() * weights).sum(1).mean() + settings.identity * moves.square().sum(1).mean()

    return loss


METHOD = NetworkMethod("latent2latent", Latent2LatentConfig, _build_editor, _create_loss)
"""How the method is fitted and read."""
fit, from_tensors = METHOD.fit, METHOD.from_tensors
