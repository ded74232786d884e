"""What all protocols of a benchmark share: who judges, on which faces, by which rulers; one value, made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ganvas.control.search import ScoredView
from ganvas.data.dataset import LatentDataset
from ganvas.data.distribution import Distribution, fit_distribution
from ganvas.data.gaussianize import Gaussianize
from ganvas.errors import GanvasError
from ganvas.evaluation.config import EvaluationConfig
from ganvas.evaluation.judges import JudgePanel, JudgeScale, fit_judge_scales
from ganvas.evaluation.score_cache import ScoreCache
from ganvas.evaluation.success import edit_goal
from ganvas.evaluation.trials import EditGoal, FacePool, dtype_name
from ganvas.generators.base import Generator
from ganvas.types import Scores, WPlus

POOL_STEP = 64
"""Fresh faces that are added at a time."""
MIN_FACES = 8
"""Faces that a protocol needs, where its plan asks for no fewer."""


@dataclass(frozen=True)
class EvaluationContext:
    """Everything but the editors. ``pool`` has the panel's rows of fresh faces; ``rulers[0]`` is the own scorer's."""

    generator: Generator
    panel: JudgePanel
    data: LatentDataset
    plan: EvaluationConfig
    pool: FacePool
    within: Distribution
    rulers: tuple[JudgeScale, ...]
    gaps: tuple[str, ...]
    out: Path | None
    watch: Callable[[int], object] = lambda rendered: None
    asked: set[bytes] = field(default_factory=set)
    """The pictures that a run looked at, rendered now or before, by their codes' digests."""

    def view(self, *scope: str) -> ScoredView:
        """Codes as the panel sees them; what was rendered for ``scope`` before is known."""
        return view_codes(self.generator, self.panel, self.plan, self.out, scope, self.watch, self.asked)

    def faces(self, goal: EditGoal, n: int) -> tuple[torch.Tensor, str]:
        """The first ``n`` faces of the pool that ``edit_goal`` can be tried on, and the reason where they are too few."""
        column = self.panel.column(goal.attribute)
        if self.panel.kinds[column] != "probability":
            return torch.zeros(
                0, dtype=torch.long
            ), f"{goal.attribute} is a {self.panel.kinds[column]}, no probability."
        index = goal.lacking(torch.sigmoid(self.pool.scores[:, column])).nonzero()[:, 0]
        if len(index) < min(n, MIN_FACES):
            side = "lack" if goal.up else "have"
            needed = f"at least {min(n, MIN_FACES)} are needed"
            return index[:0], f"Only {len(index)} of {len(self.pool.scores)} faces {side} {goal.attribute}: {needed}."
        return index[:n], ""

    def codes(self, index: torch.Tensor) -> tuple[WPlus, Scores]:
        """Faces of the pool: their codes and the panel's rows."""
        return self.pool.codes(self.generator, index), self.pool.scores[index]

    def normal(self, attribute: str) -> Gaussianize:
        """The normal score of one attribute, as the own scorer's ruler has it. Raises GanvasError where it hasn't."""
        own = self.rulers[0]
        if attribute not in own.attributes:
            raise GanvasError(f"The labels don't know {attribute!r}, or its score is the same for every face.")
        return own.gaussianize.select([own.attributes.index(attribute)])


def prepare_context(
    generator: Generator,
    panel: JudgePanel,
    data: LatentDataset,
    attributes: Sequence[str],
    plan: EvaluationConfig,
    out: Path | None,
    watch: Callable[[int], object] = lambda rendered: None,
) -> EvaluationContext:
    """Score fresh faces until every attribute has enough that it can be tried on, or ``config.pool_limit`` were scored."""
    asked: set[bytes] = set()
    view = view_codes(generator, panel, plan, out, ("pool",), watch, asked)
    pool = FacePool(torch.zeros(0, len(panel.attributes)), plan.seed, plan.psi)
    known = [edit_goal(a) for a in attributes if panel.kinds[panel.column(a)] == "probability"]
    while len(pool.scores) < plan.pool or (
        len(pool.scores) < plan.pool_limit and any(len(pool.lacking(view, g)) < plan.first for g in known)
    ):
        most = plan.pool if len(pool.scores) < plan.pool else plan.pool_limit
        index = torch.arange(len(pool.scores), min(len(pool.scores) + POOL_STEP, most))
        more = view(pool.codes(generator, index)).cpu()
        pool = replace(pool, scores=torch.cat((pool.scores, more)))
    same = data.scorer == f"{panel.own.name}:{panel.own.fingerprint}"
    found, gaps = fit_judge_scales(panel, pool.scores, data.gaussianize if same else None, data.attributes)
    within = fit_distribution(generator, plan.measured)
    return EvaluationContext(generator, panel, data, plan, pool, within, tuple(found), tuple(gaps), out, watch, asked)


def view_codes(
    generator: Generator,
    panel: JudgePanel,
    plan: EvaluationConfig,
    out: Path | None,
    scope: Sequence[str],
    watch: Callable[[int], object],
    asked: set[bytes],
) -> ScoredView:
    """A view whose memory lies in ``out``/renders/``scope``."""
    about: dict[str, Any] = {
        "renders": 1,
        "generator": generator.fingerprint,
        "dtype": dtype_name(generator),
        "batch": plan.batch,
        "panel": panel.fingerprint,
    }
    file = out and out.joinpath("renders", *scope[:-1], f"{scope[-1]}.safetensors")
    return ScoredView(generator, panel, plan.batch, watch, ScoreCache(file, about, len(panel.attributes), asked))
