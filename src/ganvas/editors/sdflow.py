"""SDFlow: a code as semantic variables and a rest that is independent of them, by a flow that is trained with their encoder.

Binglei Li, Zhizhong Huang, Hongming Shan and Junping Zhang, *Semantic Latent Decomposition with Normalizing Flows for Face
Editing*, ICASSP 2024, https://arxiv.org/abs/2309.05314. An encoder E reads semantic variables s = E(w), and a flow Φ maps the
code to normal numbers z = Φ(w; s). To edit, s changes and z stays:

    w' = Φ⁻¹(Φ(w; s); s + Δ)
    L  = λ_kd·|E(w) - a|² + λ_nll·(-log p(w | s)) + λ_mi·|E(w') - (s + Δ)|² + λ_reg·|w' - w|²

with a the labels, and one attribute of s changed at random: the third term, a bound of mutual information, makes the edited
code read as asked in all attributes; the last keeps the face near.

Differences from the paper: E reads codes instead of pictures, and starts as the latent classifier, which predicts normal
scores. Φ is made of affine coupling layers (Dinh et al. 2017, https://arxiv.org/abs/1605.08803) in place of a continuous flow,
so that an edit needs no solver, on the whitened components of W, where |·| is Mahalanobis's distance.
"""

from __future__ import annotations

from copy import deepcopy
from typing import final

import torch
from torch import Tensor, nn

from ganvas.editors._fit import (
    Components,
    FitConfig,
    FitData,
    LatentEditor,
    NetworkMethod,
    WhitenedSpace,
)
from ganvas.editors._networks import LatentClassifier, Perceptron, draw_changes, draw_rows
from ganvas.editors.base import EditorMetadata
from ganvas.training_loop import LossFunction
from ganvas.types import Scores
from ganvas.validation import NonNegative, Positive, PositiveInt, validated

NEEDS = "labels"
"""What the method learns from."""
REPORTS = ()
"""The parts of reports that the method is in beside the full comparison: none."""

MAX_LOG_SCALE = 2.0
"""The most that a coupling layer's scale may differ from 1, as a logarithm."""
COUPLING_DEPTH = 3
"""The number of dense layers in a coupling layer."""


@validated
class SdFlowConfig(FitConfig):
    """Options of ``sdflow.fit``.

    ``couplings``: the number of coupling layers; ``distill``, ``likelihood``, ``information`` and ``identity``: λ_kd, λ_nll,
    λ_mi and λ_reg; ``reach``: the standard deviation of the changes in training.
    """

    width: PositiveInt = 128
    steps: PositiveInt = 1500
    rate: Positive = 1e-3
    batch: PositiveInt = 256
    couplings: PositiveInt = 6
    distill: NonNegative = 1.0
    likelihood: NonNegative = 0.1
    information: NonNegative = 1.0
    identity: NonNegative = 0.25
    reach: Positive = 2.5


class CouplingLayer(nn.Module):
    """Scales and shifts the components ``first``, ``first`` + 2, … by functions of the others and of s."""

    def __init__(self, components: int, attributes: int, width: int, first: int) -> None:
        super().__init__()
        self.first, self.moving = first, len(range(first, components, 2))
        inputs = components - self.moving + attributes
        self.network = Perceptron(inputs, 2 * self.moving, width, COUPLING_DEPTH, path=True)
        for module in (self.network.linears[-1], self.network.path):  # at first the identity
            for parameter in () if module is None else module.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Components, s: Scores) -> tuple[Components, Tensor]:
        """Return the moved components in their places, and the logarithm of the change of volume, (n,)."""
        log_scale, shift = self._evaluate(x, s)
        return self._replace(x, self._select(x) * log_scale.exp() + shift), log_scale.sum(1)

    def inverse(self, z: Components, s: Scores) -> Components:
        """Return what is mapped to z."""
        log_scale, shift = self._evaluate(z, s)
        return self._replace(z, (self._select(z) - shift) * (-log_scale).exp())

    def _evaluate(self, x: Components, s: Scores) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.network(torch.cat((x[:, 1 - self.first :: 2], s), 1)).chunk(2, 1)
        return MAX_LOG_SCALE * torch.tanh(log_scale / MAX_LOG_SCALE), shift

    def _select(self, x: Components) -> Tensor:
        return x[:, self.first :: 2]

    def _replace(self, x: Components, moved: Tensor) -> Components:
        replaced = x.clone()
        replaced[:, self.first :: 2] = moved
        return replaced


@final
class SdFlow(LatentEditor):
    """A fitted SDFlow editor; ``encoder``: E, ``couplings``: the layers of Φ."""

    def __init__(
        self, metadata: EditorMetadata, frame: WhitenedSpace, encoder: LatentClassifier, couplings: nn.ModuleList
    ) -> None:
        super().__init__(metadata, frame)
        self.encoder, self.couplings = encoder, couplings

    @property
    def layers(self) -> list[CouplingLayer]:
        """The layers of Φ, in their order."""
        return [layer for layer in self.couplings if isinstance(layer, CouplingLayer)]

    def encode(self, x: Components, s: Scores) -> tuple[Components, Tensor]:
        """Return z and the logarithm of the change of volume, (n,)."""
        volume = x.new_zeros(len(x))
        for layer in self.layers:
            x, change = layer(x, s)
            volume = volume + change
        return x, volume

    def decode(self, z: Components, s: Scores) -> Components:
        """Return the coordinates of z under s."""
        for layer in reversed(self.layers):
            z = layer.inverse(z, s)
        return z

    def compute_move(self, x: Components, changes: Scores) -> Components:
        """Return Φ⁻¹(Φ(x; s); s + Δ) - x."""
        s = self.encoder(x)
        return self.decode(self.encode(x, s)[0], s + changes) - x


def _build_editor(metadata: EditorMetadata, frame: WhitenedSpace, settings: SdFlowConfig) -> SdFlow:
    c, k, width = settings.components, len(metadata.attributes), settings.width
    layers = nn.ModuleList([CouplingLayer(c, k, width, number % 2) for number in range(settings.couplings)])
    return SdFlow(metadata, frame, LatentClassifier(c, k, width).eval(), layers)


def _create_loss(editor: SdFlow, fit_data: FitData, settings: SdFlowConfig) -> LossFunction:
    """Return the training loss L; the encoder becomes a copy of the classifier that learns."""
    x, a, k = fit_data.x, fit_data.a, len(editor.attributes)
    editor.encoder = deepcopy(fit_data.classifier).requires_grad_(True)
    random = torch.Generator().manual_seed(settings.seed)

    def loss(step: int) -> Tensor:
        """Return the loss of one step on a batch of codes and changes."""
        rows = draw_rows(len(x), settings.batch, random, x.device)
        changes = draw_changes(len(rows), k, 1, settings.reach, random).to(x)
        s = editor.encoder(x[rows])
        z, volume = editor.encode(x[rows], s)
        edited = editor.decode(z, s + changes)
        distilled = (s - a[rows]).square().sum(1)
        unlikely = z.square().sum(1) / 2 - volume
        read = (editor.encoder(edited) - s - changes).square().sum(1)
        moved = (edited - x[rows]).square().sum(1)
        return (
            settings.distill * distilled
            + settings.likelihood * unlikely
            + settings.information * read
            + settings.identity * moved
        ).mean()

    return loss


METHOD = NetworkMethod("sdflow", SdFlowConfig, _build_editor, _create_loss)
"""How the method is fitted and read."""
fit, from_tensors = METHOD.fit, METHOD.from_tensors
