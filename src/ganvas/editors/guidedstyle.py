"""GuidedStyle: residual steps, taught by a network that knows the attributes, in the layers that show them.

Xianxu Hou, Xiaokang Zhang, Hanbang Liang, Linlin Shen, Zhihui Lai and Jun Wan, *GuidedStyle: Attribute Knowledge Guided Style
Manipulation for Semantic Face Editing*, Neural Networks 2022, https://arxiv.org/abs/2012.11856. A residual is added to the
code, the knowledge network C says what it did, and an attention picks the layers that it is added in:

    w_{t+1} = w_t + Δ_k/T · r_k(w_t)           T steps; the ways of several attributes add up at each step
    L = (C_k(w_T) - C_k(w_0) - Δ_k)² + λ_hold·Σ_{i≠k} (1 - γ_ik) (C_i(w_T) - C_i(w_0))² + λ_id·|w_T - w_0|²

C reads normal scores, γ_ik is the labels' |correlation|, and |·| Mahalanobis's distance over the whitened components of W.

The guide C is the latent classifier; or, with ``fit(…, scorer=)``, the scorer itself, which looks at ``looks`` pictures more
to teach the residuals that the classifier taught first: minutes on a GPU, hours on a CPU. The report says which.

Layers: a latent classifier sees w, not the layers that it goes to, and so do labels of W codes. So a few pictures are
rendered (``io.images`` an attribute), and the scorer that made the labels, or ``scorers.base``, says what each row of W+ adds to
the change: the integral along the way of its gradient times the row's move (Sundararajan et al. 2017,
https://arxiv.org/abs/1703.01365). An attribute moves only the fewest rows that together add ``share`` of what all add. With
``pictures=0``, or labels of a scorer that ganvas doesn't know, all rows move. The paper learns a soft attention instead.
A change of 1 moves the probe's reading of the chosen rows by 1, and ``read`` reads these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ganvas import scorers
from ganvas.data.dataset import LatentDataset
from ganvas.editors._compact_network import correlation
from ganvas.editors._fit import (
    FitConfig,
    FitProgress,
    check_integer,
    check_number,
    draw_rows,
    minimize,
    parse_config,
    scorer_of_labels,
)
from ganvas.editors._guidedstyle_images import EditScorer, measure_row_effects, select_rows
from ganvas.editors._latent_classifier import ClassifierData, LatentClassifier, ascent_directions, fit_latent_classifier
from ganvas.editors._latent_editor import (
    Components,
    FitData,
    LatentEditor,
    WhitenedSpace,
    calibrate_gains,
    config_to_json,
    fit_report,
    make_empty_frame,
    prepare_fit,
    read_config,
    restore_editor,
)
from ganvas.editors.base import EditorMetadata, editor_metadata
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.scorers.base import Scorer
from ganvas.types import Scores, W, WPlus

NEEDS = "labels; with a scorer, pictures, too"
"""What it learns from."""


@dataclass(frozen=True)
class GuidedStyleConfig(FitConfig):
    """``hold`` and ``identity``: λ_hold and λ_id; ``jumps``: T; ``reach``: the deviation of the changes that it learns from;
    ``batch``: codes in a step, for each of which every attribute is tried. ``io.images``, ``share``, ``looks``: see above."""

    steps: int = 600
    batch: int = 24
    hold: float = 1.0
    identity: float = 0.25
    jumps: int = 4
    reach: float = 2.5
    pictures: int = 8
    share: float = 0.9
    looks: int = 4000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("jumps", self.jumps, 1, 1000)
        check_integer("looks", self.looks, 1)
        check_integer("pictures", self.pictures, 0)
        for name in ("hold", "identity"):
            check_number(name, getattr(self, name))
        for name in ("reach", "share"):
            check_number(name, getattr(self, name), above=0)
        if self.share > 1:
            raise GanvasError(f"share must be above 0 and at most 1, not {self.share!r}.")


class ResidualSteps(nn.Module):
    """r_k(x) of every attribute: one hidden layer that they share, and a linear layer each.

    tanh, since its outputs are even about 0: the mean residual is the biases' alone, and doesn't fade with truncation.
    """

    def __init__(self, components: int, attributes: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(components, width)
        self.heads = nn.Parameter(torch.zeros(attributes, width + components, components))
        self.biases = nn.Parameter(torch.zeros(attributes, components))

    def forward(self, x: Tensor, wanted: Tensor) -> Tensor:
        """Residuals (wanted, n, components), at coordinates (n, components), or (wanted, n, components): one set each."""
        seen = torch.cat((torch.tanh(self.hidden(x)), x), -1)
        seen = seen.expand(len(wanted), *seen.shape[-2:])
        return torch.baddbmm(self.biases[wanted, None], seen, self.heads[wanted])


@final
class GuidedStyle(LatentEditor):
    """``generators.stylegan2.rows`` (attributes, num_ws): 1 where an attribute moves a row, else 0."""

    def __init__(
        self, about: EditorMetadata, frame: WhitenedSpace, residuals: ResidualSteps, num_ws: int, jumps: int
    ) -> None:
        super().__init__(about, frame)
        self.residuals, self.jumps = residuals, jumps
        self.rows = nn.Buffer(torch.ones(len(about.attributes), num_ws))

    def ways(self, x: Components, changes: Scores, wanted: Tensor) -> Tensor:
        """What each of the ``balance.score_ranges`` attributes adds to coordinates along the common way, (wanted, n,
        components)."""
        factors = changes[:, wanted].T[..., None] / self.jumps
        done = x.new_zeros(len(wanted), *x.shape)
        for _ in range(self.jumps):
            done = done + factors * self.residuals(x + done.sum(0), wanted)
        return done

    def move(self, x: Components, changes: Scores) -> Components:
        """The sum of the ways: what rows that all attributes move would move by."""
        return self.ways(x, changes, changes.ne(0).any(0).nonzero()[:, 0]).sum(0)

    def shift(self, w: W, changes: Scores) -> W:
        """What the mean of all rows moves by."""
        return self._by_rows(w, changes).mean(1)

    def shifts(self, ws: WPlus, changes: Scores) -> Float[Tensor, "n rows w_dim"]:
        """Row by row. Raises GanvasError for codes of another number of rows."""
        self._check_rows(ws)
        return self._by_rows(ws.mean(1), changes)

    def read(self, ws: WPlus) -> Scores:
        """Where codes stand: each attribute is read off the mean of the rows that it moves."""
        self._check_rows(ws)
        seen = torch.einsum("kr,nrw->nkw", (self.rows / self.rows.sum(1, keepdim=True)).to(ws), ws)
        return torch.einsum("nkw,wk->nk", seen, self.probe.weight.to(ws)) + self.probe.bias.to(ws)

    def _by_rows(self, w: W, changes: Scores) -> Float[Tensor, "n rows w_dim"]:
        wanted = changes.ne(0).any(0).nonzero()[:, 0]
        ways = self.ways(self.frame.project(w), self.calibrated(changes), wanted)
        moves = self.frame.unproject(ways.flatten(0, 1)).unflatten(0, ways.shape[:2])
        return torch.einsum("kr,knw->nrw", self.rows[wanted], moves)

    def _check_rows(self, ws: WPlus) -> None:
        if ws.shape[1] != self.rows.shape[1]:
            raise GanvasError(f"This editor is for codes of {self.rows.shape[1]} rows, not of {ws.shape[1]}.")


def fit(
    data: LatentDataset,
    generator: Generator,
    *,
    attributes: tuple[str, ...] | list[str] | None = None,
    scorer: Scorer | str | None = None,
    watch: FitProgress = lambda step, steps: None,
    **options: Any,
) -> GuidedStyle:
    """Learn residuals and layers of labelled codes; ``options`` are the fields of ``GuidedStyleConfig``.

    ``attributes``: only these, in this order. ``scorers.base``: the guide is this scorer (or the one of this name), looking at
    pictures. ``watch`` hears of each step under the latent classifier.
    What was measured on held-out codes is the editor's ``fit_report``.
    Raises GanvasError for unknown or impossible options, too few codes, and a scorer that lacks an attribute.
    """
    settings = parse_config(GuidedStyleConfig, options, "scorer")
    data = data if attributes is None else data.select(tuple(attributes))
    ground, settings = prepare_fit(data, generator, settings)
    guide = scorer.name if isinstance(scorer, Scorer) else scorer
    scorer = scorers.load_scorer(scorer) if isinstance(scorer, str) else scorer
    judge = scorer or scorer_of_labels(data)
    looking = None if judge is None else EditScorer.of(judge.to(generator.device), data, generator)
    classifier = fit_latent_classifier(
        ClassifierData(ground.x, ground.a), settings.width, settings.knowledge, settings.seed
    )
    known = config_to_json(settings) | {"scorer": guide}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        editor = _made(
            editor_metadata("guidedstyle", data, generator, known, {}), ground.frame, settings, generator.num_ws
        )
    editor.to(ground.x.device)
    _train(editor, classifier, ground, settings, watch)
    calibrate_gains(editor, ground)
    seen = {"guide": "the latent classifier", "layers": "all: no pictures were looked at"}
    if looking is not None and settings.pictures:
        editor.rows.copy_(select_rows(measure_row_effects(looking, editor, ground, settings.pictures), settings.share))
        seen["layers"] = f"chosen by {looking.scorer.name}, {settings.pictures} pictures an attribute"
    if scorer is not None and looking is not None:
        _train_on_pictures(editor, looking, ground, settings)
        calibrate_gains(editor, ground)
        seen["guide"] = f"the scorer {looking.scorer.name}, {settings.looks} pictures"
    counts = {name: int(n) for name, n in zip(editor.attributes, editor.rows.sum(1).tolist(), strict=True)}
    editor.report = seen | fit_report(editor, ground, classifier) | {"rows": counts}
    return editor


def from_tensors(tensors: Mapping[str, Tensor], about: EditorMetadata) -> GuidedStyle:
    """The editor of a file. Raises GanvasError where tensors and options don't belong together."""

    def unfilled(about: EditorMetadata) -> GuidedStyle:
        settings = read_config(GuidedStyleConfig, about)
        num_ws = tensors["rows"].shape[-1:].numel() if "rows" in tensors else 1
        return _made(about, make_empty_frame(about, settings), settings, num_ws)

    return restore_editor(unfilled, tensors, about)


def _made(about: EditorMetadata, frame: WhitenedSpace, settings: GuidedStyleConfig, num_ws: int) -> GuidedStyle:
    residuals = ResidualSteps(settings.components, len(about.attributes), settings.width)
    return GuidedStyle(about, frame, residuals, num_ws, settings.jumps)


def _held(ground: FitData, settings: GuidedStyleConfig) -> Tensor:
    """What a change of k (row) pays for one of i (column): 1 on the diagonal."""
    prices = settings.hold * (1 - correlation(ground.a).abs())
    return prices.fill_diagonal_(1.0)


def _train(
    editor: GuidedStyle, classifier: LatentClassifier, ground: FitData, settings: GuidedStyleConfig, watch: FitProgress
) -> None:
    """Descend L under the latent classifier: every attribute on every code of a batch."""
    x, k = ground.x, len(editor.attributes)
    before, prices, everything = classifier(x), _held(ground, settings), torch.arange(k, device=x.device)
    random = torch.Generator().manual_seed(settings.seed)
    with torch.no_grad():
        editor.residuals.biases.copy_(ascent_directions(classifier))

    def loss(step: int) -> Tensor:
        rows = draw_rows(len(x), settings.batch, random, x.device)
        changes = settings.reach * torch.randn(k, len(rows), generator=random).to(x)
        here = x[rows].expand(k, -1, -1)
        for _ in range(settings.jumps):
            here = here + changes[..., None] / settings.jumps * editor.residuals(here, everything)
        missed = (
            classifier(here.flatten(0, 1)).view(k, len(rows), k)
            - before[rows]
            - torch.diag_embed(changes.T).transpose(0, 1)
        )
        far = (here - x[rows]).square().sum(2)
        return ((missed.square() * prices[:, None]).sum(2) + settings.identity * far).mean(1).sum()

    minimize(editor.residuals.parameters(), loss, settings.steps, settings.rate, watch=watch)
    editor.residuals.requires_grad_(False)


def _train_on_pictures(editor: GuidedStyle, looking: EditScorer, ground: FitData, settings: GuidedStyleConfig) -> None:
    """Descend L under the scorer: one attribute on one code a picture, in the rows that were chosen."""
    x, k, prices = ground.x, len(editor.attributes), _held(ground, settings)
    random = torch.Generator().manual_seed(settings.seed)
    each = looking.batch

    def loss(step: int) -> Tensor:
        rows = draw_rows(len(x), each, random, x.device)
        asked = torch.randint(k, (len(rows),), generator=random)
        changes = settings.reach * torch.randn(len(rows), generator=random)
        changes = (F.one_hot(asked, k) * changes[:, None]).to(x)
        wanted = asked.unique().to(x.device)
        ways = editor.ways(x[rows], changes, wanted)
        moves = ground.frame.unproject(ways.flatten(0, 1)).unflatten(0, ways.shape[:2])
        ws = ground.w[rows, None] + torch.einsum("kr,knw->nrw", editor.rows[wanted], moves)
        with torch.no_grad():
            before = looking.read(ground.w[rows, None].expand_as(ws))
        missed = (looking.read(ws) - before - changes).square() * prices[asked.to(x.device)]
        return (missed.sum(1) + settings.identity * ways.sum(0).square().sum(1)).mean()

    editor.residuals.requires_grad_(True)
    minimize(editor.residuals.parameters(), loss, max(settings.looks // each, 1), settings.rate / 10)
    editor.residuals.requires_grad_(False)
