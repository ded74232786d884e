"""GuidedStyle: residual steps, taught by a network that knows the attributes, in the layers that show them.

Xianxu Hou, Xiaokang Zhang, Hanbang Liang, Linlin Shen, Zhihui Lai and Jun Wan, *GuidedStyle: Attribute Knowledge Guided Style
Manipulation for Semantic Face Editing*, Neural Networks 2022, https://arxiv.org/abs/2012.11856. A residual is added to the
code, the knowledge network C reads its effect, and an attention selects the layers that it is added in:

    w_{t+1} = w_t + Δ_k/T · r_k(w_t)           T steps; those of several attributes are added
    L = (C_k(w_T) - C_k(w_0) - Δ_k)² + λ_hold·Σ_{i≠k} (1 - γ_ik) (C_i(w_T) - C_i(w_0))² + λ_id·|w_T - w_0|²

C reads normal scores, γ_ik is the labels' |correlation|, and |·| Mahalanobis's distance over the whitened components of W.

C is the latent classifier; or, with ``fit(…, scorer=)``, the scorer itself: after the training with the classifier, the
residuals are trained on ``looks`` more pictures, for minutes on a GPU and hours on a CPU. The report states which.

Layers: neither a latent classifier nor labels of W codes distinguish the layers that w goes to. So a few pictures are
rendered (``pictures`` per attribute), and the scorer that made the labels, or ``scorer``, measures what each row of W+ adds
to the change: the integral along the move of its gradient times the row's move (Sundararajan et al. 2017,
https://arxiv.org/abs/1703.01365). An attribute moves only the fewest rows that together add ``share`` of what all add. With
``pictures=0``, or labels of a scorer that ganvas doesn't have, all rows move. The paper learns a soft attention instead.
A change of 1 moves the probe's reading of the selected rows by 1, and ``read`` reads these.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from ganvas.data.dataset import LatentDataset
from ganvas.editors._fit import (
    Components,
    FitConfig,
    FitData,
    LatentEditor,
    WhitenedSpace,
    calibrate_gains,
    fit_network_editor,
    measure_report,
    restore_network_editor,
)
from ganvas.editors._networks import compute_ascent_directions, compute_correlation, draw_rows, fit_network
from ganvas.editors._pictures import EditScorer, build_edit_scorer
from ganvas.editors.base import EditorMetadata
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.progress import Progress
from ganvas.scorers.base import Scorer
from ganvas.training_loop import LossFunction
from ganvas.types import Scores, W, WPlus
from ganvas.validation import Natural, NonNegative, Positive, PositiveInt, validated

NEEDS = "labels; with a scorer, pictures, too"
"""What the method learns from."""
REPORTS = ()
"""The parts of reports that the method is in beside the full comparison: none."""

PROBED_CHANGE = 2.0
"""The change, in standard deviations, at which the effects of rows are measured."""


@validated
class GuidedStyleConfig(FitConfig):
    """Options of ``guidedstyle.fit``.

    ``hold`` and ``identity``: λ_hold and λ_id; ``edit_steps``: T; ``reach``: the standard deviation of the changes in training;
    ``batch``: codes in a step, each with a change of every attribute. ``pictures``, ``share``, ``looks``: see the module.
    """

    steps: PositiveInt = 600
    batch: PositiveInt = 24
    hold: NonNegative = 1.0
    identity: NonNegative = 0.25
    edit_steps: Annotated[int, Field(strict=True, ge=1, le=1000)] = 4
    reach: Positive = 2.5
    pictures: Natural = 8
    share: Annotated[float, Field(strict=True, gt=0, le=1)] = 0.9
    looks: PositiveInt = 4000


class ResidualSteps(nn.Module):
    """r_k(x) of every attribute: a shared hidden layer, and a linear layer for each.

    tanh, since its outputs are symmetric about 0: the mean residual is the biases', and doesn't fade with truncation.
    """

    def __init__(self, components: int, attributes: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(components, width)
        self.heads = nn.Parameter(torch.zeros(attributes, width + components, components))
        self.biases = nn.Parameter(torch.zeros(attributes, components))

    def forward(self, x: Tensor, selected: Tensor) -> Tensor:
        """Return residuals (selected, n, components) at coordinates (n, components), or (selected, n, components)."""
        features = torch.cat((torch.tanh(self.hidden(x)), x), -1)
        features = features.expand(len(selected), *features.shape[-2:])
        return torch.baddbmm(self.biases[selected, None], features, self.heads[selected])


@final
class GuidedStyle(LatentEditor):
    """A fitted GuidedStyle editor; ``rows`` (attributes, num_ws): 1 where an attribute moves a row, else 0."""

    def __init__(
        self, metadata: EditorMetadata, frame: WhitenedSpace, residuals: ResidualSteps, num_ws: int, edit_steps: int
    ) -> None:
        super().__init__(metadata, frame)
        self.residuals, self.edit_steps = residuals, edit_steps
        self.rows = nn.Buffer(torch.ones(len(metadata.attributes), num_ws))

    def sum_residuals(self, x: Components, changes: Scores, selected: Tensor) -> Tensor:
        """Sum what each selected attribute adds to coordinates over all steps, (selected, n, components)."""
        factors = changes[:, selected].T[..., None] / self.edit_steps
        done = x.new_zeros(len(selected), *x.shape)
        for _ in range(self.edit_steps):
            done = done + factors * self.residuals(x + done.sum(0), selected)
        return done

    def compute_move(self, x: Components, changes: Scores) -> Components:
        """Return the sum over attributes: what rows that all of them move would move by."""
        return self.sum_residuals(x, changes, changes.ne(0).any(0).nonzero()[:, 0]).sum(0)

    def shift(self, w: W, changes: Scores) -> W:
        """Return what the mean of all rows moves by."""
        return self._shift_all_rows(w, changes).mean(1)

    def shift_rows(self, ws: WPlus, changes: Scores) -> Float[Tensor, "n rows w_dim"]:
        """Return the shift of each row. Raises GanvasError for codes of another number of rows."""
        self._check_rows(ws)
        return self._shift_all_rows(ws.mean(1), changes)

    def read(self, ws: WPlus) -> Scores:
        """Read each attribute from the mean of the rows that it moves."""
        self._check_rows(ws)
        means = torch.einsum("kr,nrw->nkw", (self.rows / self.rows.sum(1, keepdim=True)).to(ws), ws)
        return torch.einsum("nkw,wk->nk", means, self.probe.weight.to(ws)) + self.probe.bias.to(ws)

    def _shift_all_rows(self, w: W, changes: Scores) -> Float[Tensor, "n rows w_dim"]:
        selected = changes.ne(0).any(0).nonzero()[:, 0]
        paths = self.sum_residuals(self.frame.project(w), self.scale_changes(changes), selected)
        moves = self.frame.unproject_move(paths.flatten(0, 1)).unflatten(0, paths.shape[:2])
        return torch.einsum("kr,knw->nrw", self.rows[selected], moves)

    def _check_rows(self, ws: WPlus) -> None:
        if ws.shape[1] != self.rows.shape[1]:
            raise GanvasError(f"This editor is for codes of {self.rows.shape[1]} rows, not of {ws.shape[1]}.")


def fit(
    data: LatentDataset,
    generator: Generator,
    *,
    attributes: tuple[str, ...] | list[str] | None = None,
    scorer: Scorer | str | None = None,
    progress: Progress = lambda step, steps: None,
    **options: Any,
) -> GuidedStyle:
    """Fit residuals and layers on labelled codes; ``options`` are the fields of ``GuidedStyleConfig``.

    ``attributes``: only these, in this order. ``scorer``: C is this scorer (or the one of this name), on pictures.
    ``progress`` is called after each step with the latent classifier.
    Measurements on held-out codes are in the editor's ``report``.
    Raises GanvasError for unknown or impossible options, too few codes, and a scorer that lacks an attribute.
    """
    settings = GuidedStyleConfig(**options)
    data = data if attributes is None else data.select(tuple(attributes))
    guide = scorer.name if isinstance(scorer, Scorer) else scorer
    edit_scorer = build_edit_scorer(scorer, data, generator)
    fitted = fit_network_editor(
        "guidedstyle",
        data,
        generator,
        settings,
        partial(_build_editor, num_ws=generator.num_ws),
        _create_loss,
        progress,
        options={"scorer": guide},
    )
    editor, fit_data, settings = fitted.editor, fitted.data, fitted.config
    choices = {"guide": "the latent classifier", "layers": "all: no pictures were looked at"}
    if edit_scorer is not None and settings.pictures:
        editor.rows.copy_(
            select_rows(measure_row_effects(edit_scorer, editor, fit_data, settings.pictures), settings.share)
        )
        choices["layers"] = f"chosen by {edit_scorer.scorer.name}, {settings.pictures} pictures an attribute"
    if scorer is not None and edit_scorer is not None:
        _train_on_pictures(editor, edit_scorer, fit_data, settings)
        calibrate_gains(editor, fit_data)
        choices["guide"] = f"the scorer {edit_scorer.scorer.name}, {settings.looks} pictures"
    counts = {name: int(n) for name, n in zip(editor.attributes, editor.rows.sum(1).tolist(), strict=True)}
    editor.report = choices | measure_report(editor, fit_data) | {"rows": counts}
    return editor


def from_tensors(tensors: Mapping[str, Tensor], metadata: EditorMetadata) -> GuidedStyle:
    """Build the editor from a file. Raises GanvasError where its tensors and options don't match."""
    num_ws = tensors["rows"].shape[-1:].numel() if "rows" in tensors else 1
    return restore_network_editor(GuidedStyleConfig, partial(_build_editor, num_ws=num_ws), tensors, metadata)


def _build_editor(
    metadata: EditorMetadata, frame: WhitenedSpace, settings: GuidedStyleConfig, num_ws: int
) -> GuidedStyle:
    residuals = ResidualSteps(settings.components, len(metadata.attributes), settings.width)
    return GuidedStyle(metadata, frame, residuals, num_ws, settings.edit_steps)


def _error_weights(fit_data: FitData, settings: GuidedStyleConfig) -> Tensor:
    """Return the weight of the squared error of attribute i (column) for a change of k (row): 1 on the diagonal."""
    weights = settings.hold * (1 - compute_correlation(fit_data.a).abs())
    return weights.fill_diagonal_(1.0)


def _create_loss(editor: GuidedStyle, fit_data: FitData, settings: GuidedStyleConfig) -> LossFunction:
    """Return L with the latent classifier: every attribute on every code of a batch."""
    x, k, classifier = fit_data.x, len(editor.attributes), fit_data.classifier
    before, weights = classifier(x), _error_weights(fit_data, settings)
    all_attributes = torch.arange(k, device=x.device)
    random = torch.Generator().manual_seed(settings.seed)
    with torch.no_grad():
        editor.residuals.biases.copy_(compute_ascent_directions(classifier))

    def loss(step: int) -> Tensor:
        """Return the loss of one step on a batch of codes and changes."""
        rows = draw_rows(len(x), settings.batch, random, x.device)
        changes = settings.reach * torch.randn(k, len(rows), generator=random).to(x)
        here = x[rows].expand(k, -1, -1)
        for _ in range(settings.edit_steps):
            here = here + changes[..., None] / settings.edit_steps * editor.residuals(here, all_attributes)
        errors = (
            classifier(here.flatten(0, 1)).view(k, len(rows), k)
            - before[rows]
            - torch.diag_embed(changes.T).transpose(0, 1)
        )
        distances = (here - x[rows]).square().sum(2)
        return ((errors.square() * weights[:, None]).sum(2) + settings.identity * distances).mean(1).sum()

    return loss


def _train_on_pictures(
    editor: GuidedStyle, edit_scorer: EditScorer, fit_data: FitData, settings: GuidedStyleConfig
) -> None:
    """Minimise L with the scorer: one attribute of one code per picture, in the selected rows."""
    x, k, weights = fit_data.x, len(editor.attributes), _error_weights(fit_data, settings)
    random = torch.Generator().manual_seed(settings.seed)
    each = edit_scorer.batch

    def loss(step: int) -> Tensor:
        """Return the loss of one step on a batch of codes and changes of one attribute each."""
        rows = draw_rows(len(x), each, random, x.device)
        chosen = torch.randint(k, (len(rows),), generator=random)
        changes = settings.reach * torch.randn(len(rows), generator=random)
        changes = (F.one_hot(chosen, k) * changes[:, None]).to(x)
        selected = chosen.unique().to(x.device)
        paths = editor.sum_residuals(x[rows], changes, selected)
        moves = fit_data.frame.unproject_move(paths.flatten(0, 1)).unflatten(0, paths.shape[:2])
        ws = fit_data.w[rows, None] + torch.einsum("kr,knw->nrw", editor.rows[selected], moves)
        with torch.no_grad():
            before = edit_scorer.read(fit_data.w[rows, None].expand_as(ws))
        errors = (edit_scorer.read(ws) - before - changes).square() * weights[chosen.to(x.device)]
        return (errors.sum(1) + settings.identity * paths.sum(0).square().sum(1)).mean()

    editor.residuals.requires_grad_(True)
    fit_network(editor.residuals.parameters(), loss, max(settings.looks // each, 1), settings.rate / 10)
    editor.residuals.requires_grad_(False)


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
        displacement = editor.frame.unproject_move(
            editor.compute_move(editor.frame.project(w), editor.scale_changes(changes))
        )
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
