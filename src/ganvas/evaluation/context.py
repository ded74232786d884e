"""What all protocols of an evaluation share: generator, judges, fresh faces and scales."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganvas.control.search import CodeScorer
from ganvas.data.dataset import LatentDataset
from ganvas.data.distribution import Distribution, fit_distribution
from ganvas.data.gaussianize import Gaussianize
from ganvas.errors import GanvasError
from ganvas.evaluation.config import EvaluationConfig
from ganvas.evaluation.faces import EditGoal, FacePool, get_dtype_name, grow_pool, make_goal
from ganvas.evaluation.judges import JudgePanel, JudgeScale, fit_judge_scales, view_trial
from ganvas.evaluation.score_cache import ScoreCache
from ganvas.generators.base import Generator
from ganvas.metrics import Trial
from ganvas.scorers.base import Scorer
from ganvas.types import Scores, WPlus

MIN_FACES = 8
"""Faces that a protocol needs, where its config asks for no fewer."""


@dataclass(frozen=True)
class EvaluationContext:
    """Everything that protocols need but the editors.

    ``pool`` has the panel's rows of fresh faces; ``scales[0]`` is the label scorer's; ``typical_set`` bounds plausible codes;
    ``progress`` is called with the number of pictures rendered.
    """

    generator: Generator
    panel: JudgePanel
    data: LatentDataset
    config: EvaluationConfig
    pool: FacePool
    typical_set: Distribution
    scales: tuple[JudgeScale, ...]
    gaps: tuple[str, ...]
    out: Path | None
    progress: Callable[[int], object] = lambda rendered: None

    def make_code_scorer(self, *scope: str) -> tuple[CodeScorer, ScoreCache]:
        """Make a view of codes through the panel, and its cache, whose files are ``out``/renders/``scope``-*."""
        path = self.out and self.out.joinpath("renders", *scope)
        return make_code_scorer(self.generator, self.panel, self.config.batch, path, self.progress)

    def select_faces(self, goal: EditGoal, n: int) -> Tensor:
        """Return the first ``n`` faces of the pool that ``goal`` can be tried on.

        Raises GanvasError where there are too few, or the attribute is no probability.
        """
        column = self.panel.column(goal.attribute)
        if self.panel.kinds[column] != "probability":
            raise GanvasError(f"{goal.attribute} is a {self.panel.kinds[column]}, no probability.")
        index = goal.mask_lacking(torch.sigmoid(self.pool.scores[:, column])).nonzero()[:, 0]
        if len(index) < min(n, MIN_FACES):
            side = "lack" if goal.up else "have"
            raise GanvasError(
                f"Only {len(index)} of {len(self.pool.scores)} pictures {side} {goal.attribute}: at least"
                f" {min(n, MIN_FACES)} are needed."
            )
        return index[:n]

    def make_codes(self, index: Tensor) -> tuple[WPlus, Scores]:
        """Return the codes and the panel's rows of some faces of the pool."""
        return self.pool.make_codes(self.generator, index), self.pool.scores[index]

    def select_gaussianize(self, attribute: str) -> Gaussianize:
        """Return the label scorer's normal score of one attribute. Raises GanvasError where it has none."""
        own = self.scales[0]
        if attribute not in own.attributes:
            raise GanvasError(
                f"The labels have no attribute {attribute!r}, or its score is the same for every picture."
            )
        return own.gaussianize.select([own.attributes.index(attribute)])

    def view_by_judges(self, trial: Trial, goals: Sequence[EditGoal]) -> Iterator[tuple[str, Trial]]:
        """Yield each judge's name with the trial as it sees it."""
        for judge, scale in enumerate(self.scales):
            yield scale.name, view_trial(self.scales, judge, trial, goals, self.typical_set)


def prepare_context(
    generator: Generator,
    panel: JudgePanel,
    data: LatentDataset,
    attributes: Sequence[str],
    config: EvaluationConfig,
    out: Path | None,
    progress: Callable[[int], object] = lambda rendered: None,
) -> EvaluationContext:
    """Score fresh faces until every attribute has enough to be tried on, or ``config.pool_limit`` were scored, and fit scales."""
    path = out and out / "renders" / "pool"
    code_scorer, _ = make_code_scorer(generator, panel, config.batch, path, progress)
    empty = FacePool(torch.zeros(0, len(panel.attributes)), config.seed, config.psi)
    goals = [make_goal(a) for a in attributes if panel.kinds[panel.column(a)] == "probability"]
    pool = grow_pool(code_scorer, goals, config.first, empty, config.pool, config.pool_limit)
    same = data.scorer == f"{panel.label_scorer.name}:{panel.label_scorer.fingerprint}"
    scales, gaps = fit_judge_scales(panel, pool.scores, data.gaussianize if same else None, data.attributes)
    typical_set = fit_distribution(generator, config.measured)
    return EvaluationContext(
        generator, panel, data, config, pool, typical_set, tuple(scales), tuple(gaps), out, progress
    )


def make_code_scorer(
    generator: Generator,
    scorer: Scorer,
    batch: int,
    path: Path | None,
    progress: Callable[[int], object] = lambda rendered: None,
) -> tuple[CodeScorer, ScoreCache]:
    """Make a view of codes that keeps scores under ``path`` (see ``ScoreCache``), and its cache."""
    metadata: dict[str, Any] = {
        "renders": 1,
        "generator": generator.fingerprint,
        "dtype": get_dtype_name(generator),
        "batch": batch,
        "panel": scorer.fingerprint,
    }
    cache = ScoreCache(path, metadata, len(scorer.attributes))
    return CodeScorer(generator, scorer, batch, progress, cache), cache
