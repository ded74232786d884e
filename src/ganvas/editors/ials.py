"""IALS: a direction of its own for each face, the gradients of other attributes taken out of it.

Yuxuan Han, Jiaolong Yang and Ying Fu, *Disentangled Face Attribute Editing via Instance-Aware Latent Space Search*, IJCAI
2021, https://arxiv.org/abs/2105.12660. With d_k(w) the unit gradient of a classifier of the picture G(w), and d_k its mean
over faces, scaled to length 1:

    p = λ1·d_k + (1 - λ1)·d_k(w)          the primal attribute: at the attribute's level, and of this instance
    c = λ2·d_i + (1 - λ2)·d_i(w)          a condition attribute i
    w_{t+1} = w_t + Δ_k/T·g_k·p⊥/|p⊥|     T steps; p⊥ is p without its projection on c and d_i

Gradients of pictures are taken at the codes of ``pictures`` faces while the editor is fitted, through generator and scorer,
or read from the folder ``gradients`` of ``ganvas label --gradients``; d_k is their mean.

Differences from the paper: an editor has neither a generator nor a scorer, so d_k(w) is the gradient of a small smooth
network C of w. It is trained to predict what the latent classifier does, and to have the gradients of the pictures
(``match`` weighs 1 - their cosine): with the few faces of ``pictures`` these hardly shape what differs between faces, with
many faces in ``gradients`` they do. Where ganvas has neither pictures nor the scorer, all gradients are C's. Directions are
of the whitened components of W, in which a step of length 1 is as likely in every direction. Conditions are all other
attributes at once instead of one: p⊥ minimises |p⊥ - p|² + λ_hold·Σ_i (1 - γ_ik)·((c·p⊥)² + (d_i·p⊥)²), γ the labels'
|correlation|, so that attributes which nearly mean the same stay together; with λ_hold → ∞ it is the projection. g_k is the
gain that makes a change of 1 move the probe's mean reading by 1; ``LatentEditor.scale_changes`` applies it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from ganvas.data.dataset import LatentDataset
from ganvas.data.gradients import load_gradients
from ganvas.editors._fit import (
    Components,
    FitConfig,
    FitData,
    LatentEditor,
    WhitenedSpace,
    fit_network_editor,
    restore_network_editor,
)
from ganvas.editors._networks import Gradients, SmoothClassifier, compute_correlation, draw_rows
from ganvas.editors._pictures import EditScorer, build_edit_scorer
from ganvas.editors.base import EditorMetadata
from ganvas.generators.base import Generator
from ganvas.progress import Progress
from ganvas.scorers.base import Scorer
from ganvas.training_loop import LossFunction
from ganvas.types import Scores
from ganvas.validation import Natural, NonNegative, Positive, Share, validated

NEEDS = "labels; gradients of pictures, where the scorer is at hand"
"""What the method learns from."""
REPORTS = ()
"""The parts of reports that the method is in beside the full comparison: none."""

GRADIENT_BATCH_SIZE = 64
"""The number of faces with gradients in a training step."""


@validated
class IalsConfig(FitConfig):
    """Options of ``ials.fit``.

    ``lambda1`` and ``lambda2``: the weight of the attribute's mean direction beside the instance's own, for the attribute
    that is edited and for conditions; ``hold``: λ_hold; ``edit_steps``: T; ``pictures``: faces whose gradients are computed;
    ``match``: see the module. ``steps``, ``batch`` and ``rate``: of the training of C.
    """

    rate: Positive = 1e-3
    lambda1: Share = 0.75
    lambda2: Share = 0.0
    hold: NonNegative = 10.0
    edit_steps: Annotated[int, Field(strict=True, ge=1, le=1000)] = 4
    pictures: Natural = 16
    match: NonNegative = 1.0


@final
class Ials(LatentEditor):
    """A fitted IALS editor.

    ``levels`` (attributes, components): the unit d_k; ``weights`` (attributes, attributes): how much the condition in a
    column counts for an edit of the row's attribute, λ_hold·(1 - γ), 0 on the diagonal.
    """

    def __init__(
        self, metadata: EditorMetadata, frame: WhitenedSpace, network: SmoothClassifier, settings: IalsConfig
    ) -> None:
        super().__init__(metadata, frame)
        self.network, self.settings = network, settings
        k = len(metadata.attributes)
        self.levels, self.weights = nn.Buffer(torch.zeros(k, settings.components)), nn.Buffer(torch.zeros(k, k))

    def compute_directions(self, x: Components, selected: Tensor) -> Float[Tensor, "n selected components"]:
        """Compute p⊥/|p⊥| of the selected attributes at coordinates (n, components)."""
        instance, level = F.normalize(self.network.compute_gradients(x), dim=2), self.levels.expand(len(x), -1, -1)
        primal = F.normalize(self._mix(instance, self.settings.lambda1)[:, selected], dim=2)
        held = torch.cat((F.normalize(self._mix(instance, self.settings.lambda2), dim=2), level), 1)
        # p⊥ = p - Aᵀ (1 + A Aᵀ)⁻¹ A p, where the rows of A are the conditions times the roots of their weights.
        roots = self.weights[selected].sqrt().repeat(1, 2)
        gram = (held @ held.mT)[:, None] * roots[:, :, None] * roots[:, None]
        overlap = roots[..., None] * (held[:, None] @ primal[..., None])
        solved = torch.linalg.solve(gram + torch.eye(gram.shape[-1]).to(gram), overlap)
        return F.normalize(primal - ((roots * solved[..., 0]) @ held), dim=2)

    def compute_move(self, x: Components, changes: Scores) -> Components:
        """Return the displacement, the sum of all steps; those of several attributes are added."""
        selected = changes.ne(0).any(0).nonzero()[:, 0]
        steps, displacement = changes[:, None, selected] / self.settings.edit_steps, torch.zeros_like(x)
        for _ in range(self.settings.edit_steps):
            displacement = displacement + (steps @ self.compute_directions(x + displacement, selected))[:, 0]
        return displacement

    def _mix(self, instance: Gradients, weight: float) -> Gradients:
        return weight * self.levels + (1 - weight) * instance


def fit(
    data: LatentDataset,
    generator: Generator,
    *,
    attributes: tuple[str, ...] | list[str] | None = None,
    scorer: Scorer | str | None = None,
    gradients: str | Path | None = None,
    progress: Progress = lambda step, steps: None,
    **options: Any,
) -> Ials:
    """Fit directions and C on labelled codes; ``options`` are the fields of ``IalsConfig``.

    ``attributes``: only these, in this order. ``scorer``: the classifier of pictures (or its name), by default the one that
    made the labels. ``gradients``: a folder of gradients, in place of ``pictures``. ``progress`` is called after each step of
    C. Measurements on held-out codes are in the editor's ``report``.
    Raises GanvasError for unknown or impossible options, too few codes, a scorer that lacks an attribute, and gradients that
    can't be read or are another generator's.
    """
    settings = IalsConfig(**options)
    data = data if attributes is None else data.select(tuple(attributes))
    name = scorer.name if isinstance(scorer, Scorer) else scorer
    edit_scorer = build_edit_scorer(scorer, data, generator) if settings.pictures and gradients is None else None
    loaded = None if gradients is None else load_gradients(gradients, generator, data.attributes)
    editor = fit_network_editor(
        "ials",
        data,
        generator,
        settings,
        _build_editor,
        partial(_create_loss, edit_scorer=edit_scorer, loaded=loaded),
        progress,
        options={"scorer": name, "gradients": None if gradients is None else str(gradients)},
    ).editor
    count = 0 if loaded is None else len(loaded[0])
    source = "of the latent classifier alone"
    if loaded is not None:
        source = f"{count} faces of {Path(str(gradients)).name}"
    elif edit_scorer is not None:
        source = f"{edit_scorer.scorer.name}, {settings.pictures} pictures"
    editor.report = {"gradients": source, **editor.report}
    return editor


def from_tensors(tensors: Mapping[str, Tensor], metadata: EditorMetadata) -> Ials:
    """Build the editor from a file. Raises GanvasError where its tensors and options don't match."""
    return restore_network_editor(IalsConfig, _build_editor, tensors, metadata)


def _build_editor(metadata: EditorMetadata, frame: WhitenedSpace, settings: IalsConfig) -> Ials:
    network = SmoothClassifier(settings.components, len(metadata.attributes), settings.width)
    return Ials(metadata, frame, network, settings)


def _create_loss(
    editor: Ials,
    fit_data: FitData,
    settings: IalsConfig,
    edit_scorer: EditScorer | None,
    loaded: tuple[Tensor, Tensor] | None,
) -> LossFunction:
    """Return the loss of C; sets the directions and the weights of conditions, which aren't trained."""
    x, network = fit_data.x, editor.network
    random = torch.Generator().manual_seed(settings.seed)
    with torch.no_grad():
        network.start_from(fit_data.classifier)
        targets = fit_data.classifier(x)
        faces, measured = _collect_gradients(fit_data, settings, edit_scorer, loaded)
        levels = measured if len(faces) else F.normalize(network.compute_gradients(x), dim=2)
        editor.levels.copy_(F.normalize(levels.mean(0), dim=1))
        weights = settings.hold * (1 - compute_correlation(fit_data.a).abs())
        editor.weights.copy_(weights.clamp(min=0).fill_diagonal_(0))

    def loss(step: int) -> Tensor:
        rows = draw_rows(len(x), settings.batch, random, x.device)
        error = (network(x[rows]) - targets[rows]).square().mean()
        if not len(faces) or not settings.match:
            return error
        rows = draw_rows(len(faces), GRADIENT_BATCH_SIZE, random, x.device)
        cosines = F.cosine_similarity(network.compute_gradients(faces[rows]), measured[rows], dim=2)
        return error + settings.match * (1 - cosines).mean()

    return loss


def _collect_gradients(
    fit_data: FitData,
    settings: IalsConfig,
    edit_scorer: EditScorer | None,
    loaded: tuple[Tensor, Tensor] | None,
) -> tuple[Components, Gradients]:
    """Return the coordinates of faces and the unit gradients of their pictures in coordinates; no faces without either."""
    if loaded is not None:
        w, slopes = loaded
    elif edit_scorer is not None:
        w = fit_data.w[: settings.pictures]
        slopes = edit_scorer.compute_gradients(edit_scorer.generator.expand(w)).sum(2)
    else:
        return fit_data.x[:0], fit_data.x.new_zeros(0, fit_data.a.shape[1], fit_data.x.shape[1])
    axes = fit_data.frame.unproject_move(torch.eye(fit_data.x.shape[1]).to(fit_data.x))
    return fit_data.frame.project(w.to(axes)), F.normalize(slopes.to(axes) @ axes.T, dim=2)
