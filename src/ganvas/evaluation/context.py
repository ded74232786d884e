"""What all protocols of an evaluation share: generator, judges, fresh faces and scales."""

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
from ganvas.evaluation.success import make_goal
from ganvas.evaluation.trials import EditGoal, FacePool, dtype_name
from ganvas.generators.base import Generator
from ganvas.types import Scores, WPlus

POOL_STEP_FACES = 64
"""Fresh faces that are scored at a time."""
MIN_FACES = 8
"""Faces that a protocol needs, where its config asks for no fewer."""


@dataclass(frozen=True)
class EvaluationContext:
    """Everything that protocols need but the editors.

    ``pool`` has the panel's rows of fresh faces; ``scales[0]`` is the own scorer's; ``typical_set`` bounds plausible codes;
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
    requested: set[bytes] = field(default_factory=set)
    """Digests of the codes whose pictures the run used, whether rendered now or before."""

    def make_view(self, *scope: str) -> ScoredView:
        """Make a view of codes through the panel, with the cache of ``scope``."""
        return make_view(self.generator, self.panel, self.config, self.out, scope, self.progress, self.requested)

    def select_faces(self, goal: EditGoal, n: int) -> tuple[torch.Tensor, str]:
        """Return the first ``n`` faces of the pool that ``goal`` can be tried on, and, where there are too few, no faces and the
        reason.
        """
        column = self.panel.column(goal.attribute)
        if self.panel.kinds[column] != "probability":
            return torch.zeros(
                0, dtype=torch.long
            ), f"{goal.attribute} is a {self.panel.kinds[column]}, no probability."
        index = goal.mask_lacking(torch.sigmoid(self.pool.scores[:, column])).nonzero()[:, 0]
        if len(index) < min(n, MIN_FACES):
            side = "lack" if goal.up else "have"
            needed = f"at least {min(n, MIN_FACES)} are needed"
            return index[:0], f"Only {len(index)} of {len(self.pool.scores)} faces {side} {goal.attribute}: {needed}."
        return index[:n], ""

    def make_codes(self, index: torch.Tensor) -> tuple[WPlus, Scores]:
        """Return the codes and the panel's rows of some faces of the pool."""
        return self.pool.make_codes(self.generator, index), self.pool.scores[index]

    def select_gaussianize(self, attribute: str) -> Gaussianize:
        """Return the own scorer's normal score of one attribute. Raises GanvasError where it has none."""
        own = self.scales[0]
        if attribute not in own.attributes:
            raise GanvasError(f"The labels have no attribute {attribute!r}, or its score is the same for every face.")
        return own.gaussianize.select([own.attributes.index(attribute)])


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
    requested: set[bytes] = set()
    view = make_view(generator, panel, config, out, ("pool",), progress, requested)
    pool = FacePool(torch.zeros(0, len(panel.attributes)), config.seed, config.psi)
    goals = [make_goal(a) for a in attributes if panel.kinds[panel.column(a)] == "probability"]
    while len(pool.scores) < config.pool or (
        len(pool.scores) < config.pool_limit and any(len(pool.find_lacking(view, g)) < config.first for g in goals)
    ):
        limit = config.pool if len(pool.scores) < config.pool else config.pool_limit
        index = torch.arange(len(pool.scores), min(len(pool.scores) + POOL_STEP_FACES, limit))
        more = view(pool.make_codes(generator, index)).cpu()
        pool = replace(pool, scores=torch.cat((pool.scores, more)))
    same = data.scorer == f"{panel.own.name}:{panel.own.fingerprint}"
    scales, gaps = fit_judge_scales(panel, pool.scores, data.gaussianize if same else None, data.attributes)
    typical_set = fit_distribution(generator, config.measured)
    return EvaluationContext(
        generator, panel, data, config, pool, typical_set, tuple(scales), tuple(gaps), out, progress, requested
    )


def make_view(
    generator: Generator,
    panel: JudgePanel,
    config: EvaluationConfig,
    out: Path | None,
    scope: Sequence[str],
    progress: Callable[[int], object],
    requested: set[bytes],
) -> ScoredView:
    """Make a view of codes through the panel, whose cache is ``out``/renders/``scope``.safetensors."""
    metadata: dict[str, Any] = {
        "renders": 1,
        "generator": generator.fingerprint,
        "dtype": dtype_name(generator),
        "batch": config.batch,
        "panel": panel.fingerprint,
    }
    file = out and out.joinpath("renders", *scope[:-1], f"{scope[-1]}.safetensors")
    return ScoredView(
        generator, panel, config.batch, progress, ScoreCache(file, metadata, len(panel.attributes), requested)
    )
