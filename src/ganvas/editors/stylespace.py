"""StyleSpace: for each attribute the one style channel whose move changes it, and the others least.

Zongze Wu, Dani Lischinski and Eli Shechtman, *StyleSpace Analysis: Disentangled Controls for StyleGAN Image Generation*,
CVPR 2021, https://arxiv.org/abs/2011.12799. S is the space of styles s = A_r·w + b_r, one vector for each row r of W+. With μ
and σ the mean and standard deviation of a channel over all codes, section 5 ranks channels u by the codes that have an
attribute (the ``share`` with the highest scores):

    θ_u = |mean((s_u - μ_u)/σ_u)| / std((s_u - μ_u)/σ_u)

and keeps those of the first that change the attribute in pictures when they are moved. Here the first ``candidates``
channels are tried by gradients, through generator and scorer at the codes of ``pictures`` faces: R_k is the mean change of
attribute k, to first order and in standard deviations of its score, when the channel moves by one of its own. The channel is
the one with the largest

    |R_k|² / (|R_k| + Σ_{i≠k} (1 - γ_ik)·|R_i|)          strong, and exclusive; γ: the labels' |correlation|

Differences from the paper: a person chose among its candidates by eye. Editors move codes of W+, so a channel is moved by
the move of its row that is likeliest among those that change the row's styles so: with Σ the covariance of W and e_u the
channel, Σ·A_rᵀ·(A_r·Σ·A_rᵀ + ``ridge``)⁻¹·e_u, the ridge in units of the styles' variances. With ridge → 0 no other channel
of the row moves, and the code leaves W at once: styles of a row depend on one another, most in rows of many channels. The
report's "purity" says how much of the change is the channel's. Where a row feeds two layers, as with StyleGAN2's skips, the
second layer's styles move, too.

A change of 1 is the move that R says changes the attribute by 1, at most 10 standard deviations of the channel. Labels can't
tell what one row does, so ``read`` is the data's probe on the other rows, plus what the row's channel differs from theirs in
these units: on codes of W it is the probe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, final

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from ganvas.data.dataset import LatentDataset
from ganvas.editors._directions import select_extremes
from ganvas.editors._networks import compute_correlation
from ganvas.editors._pictures import build_edit_scorer
from ganvas.editors.base import (
    Editor,
    EditorMetadata,
    build_metadata,
    compute_response_gains,
    find_unresponsive,
    format_report,
    load_module,
)
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.scorers.base import Scorer
from ganvas.types import Scores, W, WPlus
from ganvas.validation import Positive, PositiveInt, validated

NEEDS = "labels, the style weights, and the scorer with its gradients"
"""What the method learns from."""
REPORTS = ()
"""The parts of reports that the method is in beside the full comparison: none."""


@validated
class StyleSpaceConfig:
    """Options of ``stylespace.fit``; see the module."""

    share: Annotated[float, Field(strict=True, gt=0, le=0.5)] = 0.02
    candidates: PositiveInt = 64
    pictures: PositiveInt = 16
    ridge: Positive = 0.01


@final
class StyleSpaceEditor(Editor):
    """A fitted StyleSpace editor.

    ``rows`` (attributes, num_ws): 1 in the row that an attribute moves, else 0; ``moves`` (attributes, w_dim): what a change
    of 1 adds to it; ``readers`` (attributes, w_dim): the channel as a linear map of the row, in units of changes.
    """

    def __init__(self, metadata: EditorMetadata, rows: Tensor, moves: Tensor, readers: Tensor) -> None:
        super().__init__()
        self.set_metadata(metadata)
        self.rows, self.moves, self.readers = nn.Buffer(rows), nn.Buffer(moves), nn.Buffer(readers)

    def shift(self, w: W, changes: Scores) -> W:
        """Return what the mean of all rows moves by; it doesn't depend on the code."""
        return changes @ (self.moves / self.rows.shape[1]).to(changes)

    def shift_rows(self, ws: WPlus, changes: Scores) -> Float[Tensor, "n rows w_dim"]:
        """Return the shift of each row. Raises GanvasError for codes of another number of rows."""
        self._check_rows(ws)
        return torch.einsum("nk,kr,kw->nrw", changes, self.rows.to(changes), self.moves.to(changes))

    def read(self, ws: WPlus) -> Scores:
        """Read the probe on the rows that an attribute doesn't move, and add what its channel differs from theirs."""
        self._check_rows(ws)
        others = (1 - self.rows) / (self.rows.shape[1] - 1)
        own, rest = (torch.einsum("kr,nrw->nkw", weights.to(ws), ws) for weights in (self.rows, others))
        readings = torch.einsum("nkw,wk->nk", rest, self.probe.weight.to(ws)) + self.probe.bias.to(ws)
        return readings + ((own - rest) * self.readers.to(ws)).sum(2)

    def _check_rows(self, ws: WPlus) -> None:
        if ws.shape[1] != self.rows.shape[1]:
            raise GanvasError(f"This editor is for codes of {self.rows.shape[1]} rows, not of {ws.shape[1]}.")


def fit(
    data: LatentDataset,
    generator: Generator,
    *,
    attributes: tuple[str, ...] | list[str] | None = None,
    scorer: Scorer | str | None = None,
    **options: Any,
) -> StyleSpaceEditor:
    """Choose a channel for each attribute; ``options`` are the fields of ``StyleSpaceConfig``.

    ``attributes``: only these, in this order. ``scorer``: the one that reads pictures (or its name), by default the one that
    made the labels.
    Raises GanvasError for impossible options, a generator without styles, an attribute with too few codes on a side, and
    where there is no scorer, or it lacks an attribute.
    """
    settings = StyleSpaceConfig(**options)
    data = data if attributes is None else data.select(tuple(attributes))
    name = scorer.name if isinstance(scorer, Scorer) else scorer
    weights = generator.style_weights()
    if len(weights) < 2:
        raise GanvasError(f"Generator {generator.name!r} has no styles by row, which stylespace needs.")
    edit_scorer = build_edit_scorer(scorer, data, generator)
    if edit_scorer is None:
        made = data.scorer.rpartition(":")[0]
        raise GanvasError(f"stylespace reads pictures, and ganvas doesn't have the scorer {made!r}: give scorer=.")
    w, a = data.w.to(generator.device), data.normals().to(generator.device, torch.float32)
    styles = [StyleRow(weight, w, settings.ridge) for weight in weights]
    faces = generator.expand(w[: settings.pictures])
    # Of normal scores as a linear function of scores, as the probe is of codes: their local slope jumps from knot to knot.
    scores = data.scores.to(a) - data.scores.to(a).mean(0)
    slopes = edit_scorer.compute_gradients(faces).mean(0)
    slopes = slopes * ((scores * a).sum(0) / scores.square().sum(0).clamp(min=1e-12))[:, None, None]
    responses = torch.cat([slopes[:, row] @ style.moves for row, style in enumerate(styles)], 1)
    ranks = torch.stack([_rank_channels(w, a[:, k], styles, settings, n) for k, n in enumerate(data.attributes)])
    chosen = _choose_channels(responses, ranks, 1 - compute_correlation(a).abs(), settings.candidates)
    every = torch.arange(len(chosen), device=chosen.device)
    response = responses[every, chosen]
    gain = compute_response_gains(response.abs())
    changes = response.sign() * gain
    starts = torch.tensor([0, *[style.moves.shape[1] for style in styles[:-1]]]).cumsum(0).to(chosen)
    layers = torch.searchsorted(starts, chosen, right=True) - 1
    channels = chosen - starts[layers]
    pairs = [(styles[row], channel) for row, channel in zip(layers.tolist(), channels.tolist(), strict=True)]
    moves = torch.stack([style.moves[:, channel] for style, channel in pairs]) * changes[:, None]
    readers = torch.stack([style.readers[channel] for style, channel in pairs]) * response[:, None]
    others = responses[:, chosen].abs().sum(0) - response.abs()
    report = {
        "unresponsive": find_unresponsive(data.attributes, response.abs() * gain),
        **format_report(
            data.attributes,
            layer=layers,
            channel=channels,
            gain=gain,
            estimate=response.abs() * gain,
            others=others * gain / max(len(chosen) - 1, 1),
            purity=torch.stack([style.purity[channel] for style, channel in pairs]),
        ),
    }
    metadata = build_metadata("stylespace", data, generator, asdict(settings) | {"scorer": name}, report)
    rows = torch.nn.functional.one_hot(layers, len(weights)).float()
    return StyleSpaceEditor(metadata, rows, moves.float(), readers.float())


def from_tensors(tensors: Mapping[str, Tensor], metadata: EditorMetadata) -> StyleSpaceEditor:
    """Build the editor from a file. Raises GanvasError where its tensors don't match."""
    w_dim, k = metadata.probe.weight.shape
    num_ws = tensors["rows"].shape[-1:].numel() if "rows" in tensors else 2
    with torch.device("meta"):
        editor = StyleSpaceEditor(metadata, torch.empty(k, num_ws), torch.empty(k, w_dim), torch.empty(k, w_dim))
    load_module(editor, tensors)
    return editor


class StyleRow:
    """The styles of a row over the codes ``w``, whose layer has the matrix ``weight`` (channels, w_dim).

    ``moves`` (w_dim, channels) move a channel by one of its standard deviations, ``purity`` (channels,) is the share of each
    such change of styles that is the channel's own, and ``readers`` (channels, w_dim) are the channels in standard deviations.
    A channel that doesn't vary has moves and a reader of 0.
    """

    def __init__(self, weight: Tensor, w: W, ridge: float) -> None:
        matrix, covariance = weight.double(), torch.cov(w.T.double())
        deviations = (matrix @ covariance * matrix).sum(1).clamp(min=0).sqrt()
        varies = deviations > 1e-6 * deviations.max()
        scaled = torch.where(varies[:, None], matrix / deviations.clamp(min=1e-30)[:, None], 0)
        correlations = scaled @ covariance @ scaled.T
        inverse = torch.linalg.inv(correlations + ridge * torch.eye(len(matrix)).to(correlations))
        changes = correlations @ inverse
        own = changes.diagonal()
        factors = torch.where(varies, 1 / own.clamp(min=1e-30), 0)
        self.moves = (covariance @ scaled.T @ inverse * factors).float()
        self.purity = (own.square() / changes.square().sum(0).clamp(min=1e-30)).float()
        self.readers = scaled.float()
        self.mean = (w.double().mean(0) @ scaled.T).float()

    def standardise(self, w: W) -> Float[Tensor, "n channels"]:
        """Return the channels of codes, less their mean, in standard deviations."""
        return w @ self.readers.T - self.mean


def _rank_channels(
    w: W, a: Float[Tensor, " n"], styles: list[StyleRow], settings: StyleSpaceConfig, name: str
) -> Float[Tensor, " channels"]:
    """Compute θ of the channels of all rows."""
    _, high = select_extremes(a, settings.share, name)
    values = torch.cat([style.standardise(w[high]) for style in styles], 1)
    return values.mean(0).abs() / values.std(0).clamp(min=1e-6)


def _choose_channels(
    responses: Float[Tensor, "attributes channels"],
    ranks: Float[Tensor, "attributes channels"],
    weights: Float[Tensor, "attributes attributes"],
    candidates: int,
) -> Tensor:
    """Choose a channel for each attribute among its ``candidates`` of the highest ranks: a strong and exclusive one."""
    strength = responses.abs()
    others = weights.clamp(min=0).fill_diagonal_(0) @ strength
    quality = strength.square() / (strength + others).clamp(min=1e-12)
    tried = ranks.topk(min(candidates, ranks.shape[1]), 1).indices
    best = quality.gather(1, tried).argmax(1, keepdim=True)
    return tried.gather(1, best)[:, 0]
