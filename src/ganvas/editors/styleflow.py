"""StyleFlow: a continuous normalising flow from codes to normal numbers, given the attributes.

Rameen Abdal, Peihao Zhu, Niloy J. Mitra and Peter Wonka, *StyleFlow: Attribute-conditioned Exploration of StyleGAN-Generated
Images using Conditional Continuous Normalizing Flows*, ACM Transactions on Graphics 2021, https://arxiv.org/abs/2008.02401.
The flow is the differential equation dx/dt = v(x, t, a): x(0) is a code, x(1) normal whatever its attributes a are. To edit,
the code is taken to x(1) under the attributes that it has, and back under those that are wanted:

    w' = w + Φ⁻¹(Φ(w; a); a + Δ) - Φ⁻¹(Φ(w; a); a)

The last term is w itself but for the solver's error, which so is carried, not added.

The attributes a that a code has are read by the latent classifier (the paper's classifier sees the picture). The network v
is zuko's, over whitened components of W; a fixed number of Runge-Kutta steps solves the equation, so that a code's edit
doesn't depend on its batch. ``teach`` says how v is learned: "matching" regresses it on the straight way from code to normal
number (flow matching, Lipman et al. 2023, https://arxiv.org/abs/2210.02747), which needs no solver; "likelihood" maximises
the likelihood of codes, as the paper does (Hutchinson's estimate of the trace), at many times the cost a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from ganvas.dataset import LatentDataset
from ganvas.edit import About, about
from ganvas.editors._latent_classifier import LatentClassifier, Lesson, learn
from ganvas.editors._latent_editor import (
    Components,
    Ground,
    LatentEditor,
    Frame,
    as_told,
    calibrate,
    empty_frame,
    prepare,
    remembered,
    report,
    restored,
)
from ganvas.editors._learning import Learning, Watch, descend, drawn, told, whole
from ganvas.errors import GanvasError, unknown
from ganvas.generator import Generator
from ganvas.types import Scores

TEACH = ("matching", "likelihood")
TOLERANCE = 1e-2
"""Of zuko's adaptive solver, in learning by likelihood."""
CALIBRATED_ON = 64
"""Held-out codes that gains are measured on: an edit costs more here."""


@dataclass(frozen=True)
class Options(Learning):
    """``depth``: hidden layers of v; ``solver``: Runge-Kutta steps each way; ``teach``: how it learns, one of ``TEACH``."""

    components: int = 60
    depth: int = 3
    steps: int = 3000
    solver: int = 6
    teach: str = "matching"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("depth", self.depth, 1)
        whole("solver", self.solver, 1)
        if self.teach not in TEACH:
            raise unknown("teach", self.teach, TEACH)


@final
class StyleFlow(LatentEditor):
    """``flow``: v, as zuko's FFJTransform; ``classifier`` reads the attributes that a code has."""

    def __init__(self, about: About, frame: Frame, flow: nn.Module, classifier: LatentClassifier, solver: int) -> None:
        super().__init__(about, frame)
        self.flow, self.classifier, self.solver = flow, classifier, solver

    def move(self, x: Components, changes: Scores) -> Components:
        """Φ⁻¹(Φ(x; a); a + Δ) - Φ⁻¹(Φ(x; a); a)."""
        a = self.classifier(x)
        normal = self.solve(x, a, forwards=True)
        back = self.solve(torch.cat((normal, normal)), torch.cat((a + changes, a)), forwards=False)
        changed, same = back.chunk(2)
        return changed - same

    def solve(self, x: Components, a: Scores, forwards: bool) -> Components:
        """x(1) of x(0), or the other way: Runge and Kutta's fourth-order method, in equal steps."""
        step = (1 if forwards else -1) / self.solver
        time = 0.0 if forwards else 1.0

        def velocity(t: float, x: Tensor) -> Tensor:
            return self.flow.f(x.new_tensor(t), x, a)

        for _ in range(self.solver):
            first = velocity(time, x)
            second = velocity(time + step / 2, x + step / 2 * first)
            third = velocity(time + step / 2, x + step / 2 * second)
            fourth = velocity(time + step, x + step * third)
            x = x + step / 6 * (first + 2 * second + 2 * third + fourth)
            time += step
        return x


def fit(
    data: LatentDataset,
    generator: Generator,
    *,
    attributes: tuple[str, ...] | list[str] | None = None,
    watch: Watch = lambda step, steps: None,
    **options: Any,
) -> StyleFlow:
    """Learn the flow of labelled codes; ``options`` are the fields of ``Options``.

    ``attributes``: only these, in this order. ``watch`` hears of each step of the flow. What was measured on held-out codes
    is the editor's ``report``.
    Raises GanvasError for unknown or impossible options, and for too few codes.
    """
    settings = told(Options, options)
    data = data if attributes is None else data.select(tuple(attributes))
    ground, settings = prepare(data, generator, settings)
    classifier = learn(Lesson(ground.x, ground.a), settings.width, settings.knowledge, settings.seed)
    known = about("styleflow", data, generator, as_told(settings), {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        editor = StyleFlow(known, ground.frame, _flow(known, settings), classifier, settings.solver)
        editor.to(ground.x.device)
        _train(editor, ground, settings, watch)
    calibrate(editor, ground, CALIBRATED_ON)
    editor.report = report(editor, ground, classifier, CALIBRATED_ON)
    return editor


def from_tensors(tensors: Mapping[str, Tensor], about: About) -> StyleFlow:
    """The editor of a file. Raises GanvasError where tensors and options don't belong together."""

    def unfilled(about: About) -> StyleFlow:
        settings = remembered(Options, about)
        classifier = LatentClassifier(settings.components, len(about.attributes), settings.width)
        return StyleFlow(about, empty_frame(about, settings), _flow(about, settings), classifier, settings.solver)

    return restored(unfilled, tensors, about)


def _flow(about: About, settings: Options) -> nn.Module:
    """v with random weights."""
    try:
        from zuko.flows.continuous import FFJTransform
    except ImportError:
        raise GanvasError("StyleFlow needs the package zuko: pip install zuko.") from None

    hidden = [settings.width] * settings.depth
    return FFJTransform(
        settings.components,
        len(about.attributes),
        hidden_features=hidden,
        atol=TOLERANCE,
        rtol=TOLERANCE,
        exact=False,
    )


def _train(editor: StyleFlow, ground: Ground, settings: Options, watch: Watch) -> None:
    """Learn v. The global random state, which zuko draws from, is the caller's to keep."""
    x, a = ground.x, ground.a
    random = torch.Generator().manual_seed(settings.seed)
    flow = editor.flow.train()

    def matching(step: int) -> Tensor:
        rows = drawn(len(x), settings.batch, random, x.device)
        normal, t = (torch.randn(len(rows), x.shape[1], generator=random), torch.rand(len(rows), generator=random))
        normal, t = normal.to(x), t.to(x)
        way = torch.lerp(x[rows], normal, t[:, None])
        return (flow.f(t, way, a[rows]) - (normal - x[rows])).square().mean()

    def likelihood(step: int) -> Tensor:
        rows = drawn(len(x), settings.batch, random, x.device)
        normal, volume = flow(a[rows]).call_and_ladj(x[rows])
        return (normal.square().sum(1) / 2 - volume).mean() / x.shape[1]

    loss = matching if settings.teach == "matching" else likelihood
    descend(flow.parameters(), loss, settings.steps, settings.rate, watch=watch)
    editor.eval().requires_grad_(False)
