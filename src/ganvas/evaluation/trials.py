"""Pools of fresh faces, goals, and the files of trials, which all protocols share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganvas.control.search import ScoredView
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator, map_seeds, truncate
from ganvas.io.files import load_tensors, save_tensors
from ganvas.metrics import Trial, to_readable
from ganvas.seeds import EVALUATION_SEED
from ganvas.types import Scores, WPlus

POOL_CHUNK = 64
"""Faces scored between two saves, at most lost when a run is stopped."""
MAX_POOL_PER_FACE = 40
"""Fresh faces scored for one that is needed, before an attribute counts as too one-sided."""
PRESENCE_THRESHOLD = 0.5
"""Probability below which an attribute is absent."""


@dataclass(frozen=True)
class EditGoal:
    """An attribute to give to faces that lack it, or (``up`` False) to take from faces that have it."""

    attribute: str
    up: bool = True

    def mask_lacking(self, probabilities: Tensor) -> Tensor:
        """Return True for faces of these probabilities of the attribute that aren't at the goal yet."""
        return probabilities < PRESENCE_THRESHOLD if self.up else probabilities > PRESENCE_THRESHOLD

    def get_target(self, probability: float) -> float:
        """Return the probability to pass, 1 minus it where the goal is absence."""
        return probability if self.up else 1 - probability


@dataclass(frozen=True)
class FacePool:
    """Scored fresh faces, one pool for all attributes: face ``i`` is seed ``seed + i`` at ``psi``."""

    scores: Scores
    seed: int = EVALUATION_SEED
    psi: float = 1.0

    def make_codes(self, generator: Generator, index: Tensor) -> WPlus:
        """Return the codes of some faces, (len(index), num_ws, w_dim)."""
        w = map_seeds(generator, (self.seed + index).tolist())
        return generator.expand(truncate(w, generator.w_avg, self.psi))

    def find_lacking(self, view: ScoredView, goal: EditGoal) -> Tensor:
        """Return the indices of the faces that a goal can be tried on, in the order of their seeds."""
        column = view.scorer.column(goal.attribute)
        return goal.mask_lacking(to_readable(self.scores, view.scorer.kinds)[:, column]).nonzero()[:, 0]


def grow_pool(
    view: ScoredView, goals: Sequence[EditGoal], n: int, empty: FacePool, file: Path | None = None
) -> FacePool:
    """Grow ``empty`` to ``n`` faces, and until every goal has ``n`` to be tried on; kept in ``file`` and continued from there.

    Raises GanvasError for an attribute that ``MAX_POOL_PER_FACE`` faces for each one needed don't suffice for.
    """
    metadata = {
        "pool": 2,
        "generator": view.generator.fingerprint,
        "dtype": dtype_name(view.generator),
        "batch": view.batch,
        "scorer": view.scorer.fingerprint,
        "seed": empty.seed,
        "psi": empty.psi,
    }
    scores = _load_scores(file, metadata, len(view.scorer.attributes)) if file is not None else None
    pool = empty if scores is None else replace(empty, scores=scores)
    while (short := [goal for goal in goals if len(pool.find_lacking(view, goal)) < n]) or len(pool.scores) < n:
        if short and len(pool.scores) >= MAX_POOL_PER_FACE * n + POOL_CHUNK:
            raise GanvasError(
                f"Only {len(pool.find_lacking(view, short[0]))} of {len(pool.scores)} faces can be tried on"
                f" {short[0].attribute!r}, not {n}: ask for fewer, or for another attribute."
            )
        index = torch.arange(len(pool.scores), len(pool.scores) + min(POOL_CHUNK, 2 * n))
        more = view(pool.make_codes(view.generator, index))
        pool = replace(pool, scores=torch.cat((pool.scores, more.to(pool.scores))))
        if file is not None:
            save_tensors(file, {"scores": pool.scores}, metadata)
    return pool


def dtype_name(generator: Generator) -> str:
    """Return the name of a generator's dtype, like "bfloat16": pictures differ with it, so scores do."""
    return str(generator.dtype).removeprefix("torch.")


def _load_cache(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load ``file``; nothing where it is missing or damaged: it is only a cache, and is made anew."""
    try:
        return load_tensors(file)
    except GanvasError:
        return {}, {}


def _load_scores(file: Path, metadata: dict[str, Any], columns: int) -> Scores | None:
    """Load the scores of a pool with this metadata; None where there are none, or others, or no finite numbers."""
    tensors, saved = _load_cache(file)
    scores = tensors.get("scores")
    if saved != metadata or scores is None or scores.dtype != torch.float32:
        return None
    return scores if _are_finite(scores) and scores.ndim == 2 and scores.shape[1] == columns else None


def _are_finite(*tensors: Tensor) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def save_trial(file: Path, trial: Trial, key: dict[str, Any]) -> None:
    """Write a trial, with ``key`` saying what it is a trial of."""
    tensors = {f.name: getattr(trial, f.name) for f in fields(trial)}
    names = {"attribute": trial.attribute, "attributes": list(trial.attributes), "kinds": list(trial.kinds)}
    tensors = {name: value for name, value in tensors.items() if isinstance(value, Tensor)}
    for name in ("before", "after"):
        # Codes of W have equal rows: one is kept.
        first = tensors[name][:, :1]
        if torch.equal(tensors[name], first.expand_as(tensors[name])):
            tensors[name] = first
    save_tensors(file, tensors, {"trial": names, "num_ws": trial.before.shape[1], "key": key})


def load_trial(file: Path, key: dict[str, Any]) -> Trial | None:
    """Load the trial in ``file`` where it is one of ``key``; None where there is none, another, or a damaged one."""
    tensors, metadata = _load_cache(file)
    if metadata.get("key") != key:
        return None
    try:
        for name in ("before", "after"):
            tensors[name] = tensors[name].expand(-1, metadata["num_ws"], -1)
        names = metadata["trial"]
        attributes = tuple(names["attributes"])
        if not _are_consistent(tensors, len(attributes)):
            return None
        return Trial(names["attribute"], attributes, tuple(names["kinds"]), **tensors)
    except (KeyError, TypeError, RuntimeError):  # torch's, for a shape that can't be expanded
        return None


def _are_consistent(tensors: dict[str, Tensor], columns: int) -> bool:
    """Return whether a trial's tensors are of as many codes and hold finite numbers. Raises KeyError where one is missing."""
    n = len(tensors["arrived"])
    codes, scores = ([tensors[f"{what}{when}"] for when in ("before", "after")] for what in ("", "scores_"))
    return (
        n > 0
        and tensors["arrived"].dtype == torch.bool
        and all(len(tensor) == n for tensor in tensors.values())
        and codes[0].shape == codes[1].shape
        and all(part.shape == (n, columns) for part in scores)
        and tensors["strengths"].shape == (n,)
        and _are_finite(*codes, *scores, tensors["strengths"])
    )
