"""The latent transformer: a linear map of the code for each attribute, taught by a latent classifier.

Xu Yao, Alasdair Newson, Yann Gousseau and Pierre Hellier, *A Latent Transformer for Disentangled Face Editing in Images and
Videos*, ICCV 2021, https://arxiv.org/abs/2106.11895. Section 3.2:

    T(w, α) = w + α·f(w)                                    f: one linear layer for each attribute
    L_cls  = -y log p_k(T(w, α)) - (1 - y) log(1 - p_k(T(w, α)))
    L_attr = Σ_{i≠k} (1 - γ_ik) (C_i(w) - C_i(T(w, α)))²    γ_ik: |correlation| of two attributes' labels
    L_rec  = |T(w, α) - w|²
    L      = L_cls + λ_attr·L_attr + λ_rec·L_rec

y is the class that the code isn't in, and α = y - p_k(w), so that a code crosses the boundary from where it is.

Differences from the paper: C predicts normal scores, and an attribute's classes are above and below its median, so that
attributes of any kind have balanced classes. L_rec is over the whitened components of W (the Mahalanobis distance), so that
it penalises leaving the distribution of W; λ_rec is in its units. The maps of all attributes are trained at once. Several
changes add up.
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganvas.editors._fit import (
    Components,
    FitConfig,
    FitData,
    LatentEditor,
    NetworkMethod,
    WhitenedSpace,
)
from ganvas.editors._networks import (
    STEEPNESS,
    compute_ascent_directions,
    compute_correlation,
    compute_probabilities,
    draw_rows,
)
from ganvas.editors.base import EditorMetadata
from ganvas.training_loop import LossFunction
from ganvas.types import Scores
from ganvas.validation import NonNegative, Positive, PositiveInt, validated

NEEDS = "labels"
"""What the method learns from."""
REPORTS = ()
"""The parts of reports that the method is in beside the full comparison: none."""


@validated
class LatentTransformerConfig(FitConfig):
    """Options of ``latent_transformer.fit``.

    ``preserve`` and ``identity``: λ_attr and λ_rec. ``batch``: codes in a step, each with a move of every attribute.
    """

    steps: PositiveInt = 1200
    batch: PositiveInt = 24
    rate: Positive = 1e-3
    preserve: NonNegative = 1.0
    identity: NonNegative = 0.25


@final
class LatentTransformer(LatentEditor):
    """A fitted latent transformer.

    ``maps`` (attributes, components, components) and ``biases`` (attributes, components): f of each attribute.
    """

    def __init__(self, metadata: EditorMetadata, frame: WhitenedSpace) -> None:
        super().__init__(metadata, frame)
        k, c = len(metadata.attributes), len(frame.deviations)
        self.maps, self.biases = nn.Parameter(torch.zeros(k, c, c)), nn.Parameter(torch.zeros(k, c))

    def evaluate_directions(self, x: Components) -> Tensor:
        """Evaluate f(x) of every attribute, (attributes, n, components)."""
        return torch.baddbmm(self.biases[:, None], x.expand(len(self.maps), -1, -1), self.maps)

    def compute_move(self, x: Components, changes: Scores) -> Components:
        """Return the sum of α·f(x) over the attributes that change."""
        changed = changes.ne(0).any(0).nonzero()[:, 0]
        directions = torch.baddbmm(self.biases[changed, None], x.expand(len(changed), -1, -1), self.maps[changed])
        return torch.einsum("nk,knc->nc", changes[:, changed], directions)


def _build_editor(
    metadata: EditorMetadata, frame: WhitenedSpace, settings: LatentTransformerConfig
) -> LatentTransformer:
    return LatentTransformer(metadata, frame)


def _create_loss(editor: LatentTransformer, fit_data: FitData, settings: LatentTransformerConfig) -> LossFunction:
    """Return L, summed over the maps; they share no weights, so each is trained independently."""
    x, k, classifier = fit_data.x, len(editor.attributes), fit_data.classifier
    before = classifier(x)
    others = 1 - compute_correlation(fit_data.a).abs()
    others.fill_diagonal_(0)
    random = torch.Generator().manual_seed(settings.seed)
    with torch.no_grad():
        editor.biases.copy_(compute_ascent_directions(classifier))

    def loss(step: int) -> Tensor:
        rows = draw_rows(len(x), settings.batch, random, x.device)
        chances = compute_probabilities(before[rows])
        targets = (chances < 0.5).to(x)
        moves = (targets - chances).T[..., None] * editor.evaluate_directions(x[rows])
        after = classifier((x[rows] + moves).flatten(0, 1)).view(k, len(rows), k)
        logits = after.diagonal(dim1=0, dim2=2) * STEEPNESS
        cls = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
        attr = ((after - before[rows]).square() * others[:, None]).sum()
        rec = moves.square().sum()
        return (cls + settings.preserve * attr + settings.identity * rec) / len(rows)

    return loss


METHOD = NetworkMethod("latent_transformer", LatentTransformerConfig, _build_editor, _create_loss)
"""How the method is fitted and read."""
fit, from_tensors = METHOD.fit, METHOD.from_tensors
