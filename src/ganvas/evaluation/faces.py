"""Goals of edits, and pools of fresh faces that they are tried on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ganvas.control.search import CodeScorer
from ganvas.generators.base import Generator, map_seeds
from ganvas.metrics import to_readable
from ganvas.seeds import EVALUATION_SEED
from ganvas.types import Scores, WPlus

POOL_STEP_FACES = 64
"""Fresh faces that are scored at a time."""
PRESENCE_THRESHOLD = 0.5
"""Probability below which an attribute is absent."""
TARGET_PROBABILITY = 0.9
"""The probability that ends an edit by the paper's protocol."""
DOWNWARD_ATTRIBUTES = ("Young",)
"""Attributes that are tried towards their absence: the paper's "age" makes faces older."""


@dataclass(frozen=True)
class EditGoal:
    """An attribute to give to faces that lack it, or (``up`` False) to take from faces that have it."""

    attribute: str
    up: bool = True

    @property
    def sign(self) -> float:
        """1 for a change upwards, -1 for one downwards."""
        return 1.0 if self.up else -1.0

    def mask_lacking(self, probabilities: Tensor) -> Tensor:
        """Return True for faces of these probabilities of the attribute that aren't at the goal yet."""
        return probabilities < PRESENCE_THRESHOLD if self.up else probabilities > PRESENCE_THRESHOLD

    def get_target(self, probability: float) -> float:
        """Return the probability to pass, 1 minus it where the goal is absence."""
        return probability if self.up else 1 - probability


def make_goal(attribute: str) -> EditGoal:
    """Return the goal of an attribute: the direction in which it is tried."""
    return EditGoal(attribute, up=attribute not in DOWNWARD_ATTRIBUTES)


def format_goal(attribute: str) -> str:
    """Format an attribute with the direction in which it is tried."""
    return attribute if make_goal(attribute).up else f"less {attribute}"


@dataclass(frozen=True)
class FacePool:
    """Scored fresh faces, one pool for all attributes: face ``i`` is seed ``seed + i`` at ``psi``."""

    scores: Scores
    seed: int = EVALUATION_SEED
    psi: float = 1.0

    def make_codes(self, generator: Generator, index: Tensor) -> WPlus:
        """Return the codes of some faces, (len(index), num_ws, w_dim)."""
        w = map_seeds(generator, (self.seed + index).tolist())
        return generator.expand(generator.truncate(w, self.psi))

    def find_lacking(self, code_scorer: CodeScorer, goal: EditGoal) -> Tensor:
        """Return the indices of the faces that a goal can be tried on, in the order of their seeds."""
        column = code_scorer.scorer.column(goal.attribute)
        return goal.mask_lacking(to_readable(self.scores, code_scorer.scorer.kinds)[:, column]).nonzero()[:, 0]


def grow_pool(
    code_scorer: CodeScorer,
    goals: Sequence[EditGoal],
    n: int,
    pool: FacePool,
    at_least: int,
    limit: int,
    step: int = POOL_STEP_FACES,
) -> FacePool:
    """Score fresh faces, ``at_least`` so many, until every goal has ``n`` to be tried on, or ``limit`` were scored."""
    while len(pool.scores) < at_least or (
        len(pool.scores) < limit and any(len(pool.find_lacking(code_scorer, goal)) < n for goal in goals)
    ):
        end = at_least if len(pool.scores) < at_least else limit
        index = torch.arange(len(pool.scores), min(len(pool.scores) + step, end))
        more = code_scorer(pool.make_codes(code_scorer.generator, index)).cpu().to(pool.scores)
        pool = replace(pool, scores=torch.cat((pool.scores, more)))
    return pool


def get_dtype_name(generator: Generator) -> str:
    """Return the name of a generator's dtype, like "bfloat16": pictures differ with it, so scores do."""
    return str(generator.dtype).removeprefix("torch.")
