"""Judges of a picture: scorers of different origin, and face recognition, all on the same pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from ganvas.data import gaussianize
from ganvas.data.correlation import correlate_columns
from ganvas.data.distribution import Distribution
from ganvas.data.gaussianize import Gaussianize
from ganvas.errors import GanvasError
from ganvas.evaluation.faces import EditGoal
from ganvas.metrics import Trial
from ganvas.scorers.base import Scorer
from ganvas.types import Images, Scores

EQUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "Male": ("male", "gender", "female"),
    "Young": ("young", "age"),
    "Age": ("age", "young"),
    "Eyeglasses": ("eyeglasses", "sunglasses"),
    "Sunglasses": ("sunglasses", "eyeglasses"),
    "Weight": ("weight", "chubby"),
    "Smiling": ("smiling", "happy", "neutral", "sad", "angry", "fearful", "disgusted", "surprised"),
}
"""Names that other scorers give to what an attribute changes by itself: their change isn't drift.

Expressions are one softmax: more of a smile is less of all the others.
"""
OPPOSITE_NAMES = (("Young", "age"), ("Age", "young"))
"""Pairs of names whose scores rise in opposite directions."""


def is_same_attribute(attribute: str, other: str) -> bool:
    """Return whether another scorer's attribute is this one under its own name."""
    return other.lower() in (attribute.lower(), *EQUAL_NAMES.get(attribute, ()))


@dataclass(frozen=True)
class FaceRecognizer:
    """Face recognition: ``embed`` gives (n, ``width``) embeddings, nan rows where it finds no face."""

    embed: Callable[[Images], Tensor]
    fingerprint: str
    width: int = 128


@final
class JudgePanel(Scorer):
    """All judges as one scorer: the label scorer's columns, then each judge's as "judge:attribute", then the face embedding.

    The label scorer made the labels, or stands in for the one that did. A face that isn't found has an embedding of zeros,
    so that rows stay finite; ``split_faces`` gives nan for it.
    """

    def __init__(
        self, label_scorer: Scorer, judges: Sequence[Scorer] = (), faces: FaceRecognizer | None = None
    ) -> None:
        super().__init__()
        self.label_scorer, self.judges, self.face = label_scorer, tuple(judges), faces
        self.name = "+".join((label_scorer.name, *(judge.name for judge in judges)))
        self.width = faces.width if faces is not None else 0
        titles = [f"{judge.name}:{attribute}" for judge in judges for attribute in judge.attributes]
        self.attributes = (*label_scorer.attributes, *titles, *(f"face:{i}" for i in range(self.width)))
        kinds = [kind for judge in judges for kind in judge.kinds]
        self.kinds = (*label_scorer.kinds, *kinds, *("value",) * self.width)
        fingerprints = [scorer.fingerprint for scorer in (label_scorer, *judges)]
        fingerprints += [faces.fingerprint] if faces else []
        self.fingerprint = hashlib.sha256(" ".join(fingerprints).encode()).hexdigest()

    def forward(self, images: Images) -> Scores:
        """Score pictures by all judges, (n, columns)."""
        parts = [self.label_scorer(images), *(judge(images) for judge in self.judges)]
        if self.face is not None:
            parts.append(self.face.embed(images))
        return torch.cat([part.to(parts[0]).nan_to_num(nan=0.0) for part in parts], 1)

    def split_scores(self, rows: Tensor) -> Tensor:
        """Return the columns of scores of the panel's rows."""
        return rows[:, : rows.shape[1] - self.width]

    def split_faces(self, rows: Tensor) -> Tensor | None:
        """Return the embeddings of the panel's rows, nan where no face was found; None for a panel without face recognition."""
        if self.face is None:
            return None
        embeddings = rows[:, rows.shape[1] - self.width :]
        return torch.where(embeddings.norm(dim=1, keepdim=True) > 0, embeddings, torch.nan)


@dataclass(frozen=True)
class JudgeScale:
    """One judge's attributes, in standard deviations of its own normal scores.

    ``columns``: where the panel has its ``attributes``. ``correlation`` (own attributes, attributes): of each of its normal
    scores with each of the label scorer's, over the pool.
    """

    name: str
    attributes: tuple[str, ...]
    columns: tuple[int, ...]
    gaussianize: Gaussianize
    correlation: Tensor

    def measure_change(self, before: Tensor, after: Tensor) -> Tensor:
        """Return the change of normal scores between two sets of the panel's rows, (n, attributes)."""
        columns = list(self.columns)
        return self.gaussianize(after[:, columns]) - self.gaussianize(before[:, columns])

    def mask_others(self, edited: Sequence[str]) -> Tensor:
        """Return True for attributes that are none of the edited ones, under any name."""
        return torch.tensor([not any(is_same_attribute(name, a) for name in edited) for a in self.attributes])

    def find_attribute(self, attribute: str) -> tuple[int, float] | None:
        """Return the place of an attribute under its own or its nearest other name, and 1, or -1 where that runs the other way.

        None where this judge lacks it.
        """
        for candidate in (attribute.lower(), *EQUAL_NAMES.get(attribute, ())[:2]):
            for k, name in enumerate(self.attributes):
                if name.lower() == candidate:
                    return k, -1.0 if (attribute, candidate) in OPPOSITE_NAMES else 1.0
        return None


def view_trial(
    scales: Sequence[JudgeScale], judge: int, trial: Trial, goals: Sequence[EditGoal], typical_set: Distribution | None
) -> Trial:
    """Return a trial of the panel's columns as one judge sees it, in the units of its own normal scores."""
    scale, own = scales[judge], scales[0]
    columns = list(scale.columns)
    towards = torch.zeros(len(columns))
    for goal in goals:
        match = scale.find_attribute(goal.attribute)
        if match is not None:
            towards[match[0]] = match[1] * goal.sign
    place = own.find_attribute(goals[0].attribute) if len(goals) == 1 else None
    own_change = None if place is None else own.measure_change(trial.scores_before, trial.scores_after)[:, place[0]]
    return replace(
        trial,
        attributes=scale.attributes,
        kinds=tuple(trial.kinds[c] for c in columns),
        scores_before=trial.scores_before[:, columns],
        scores_after=trial.scores_after[:, columns],
        changes=scale.measure_change(trial.scores_before, trial.scores_after).float(),
        towards=towards,
        others=scale.mask_others([goal.attribute for goal in goals]),
        correlation=None if place is None else scale.correlation[place[0]],
        target_change=own_change,
        typical_set=typical_set,
    )


def fit_judge_scales(
    panel: JudgePanel, pool: Tensor, own: Gaussianize | None, labelled: Sequence[str]
) -> tuple[list[JudgeScale], list[str]]:
    """Fit one scale for each scorer of the panel, and give the reasons why some have none.

    ``own`` normalises the label scorer's columns of ``labelled``, the labels' attributes, as labels do. The judges' normal
    scores (and the label scorer's, where ``own`` is None: the labels are another's) are fitted on ``pool``, the panel's rows of
    fresh faces. An attribute whose score is the same everywhere is left out.
    Raises GanvasError where the label scorer has no usable attribute among the labels'.
    """
    scales, gaps, start, own_scores = [], [], 0, pool[:, :0]
    for scorer in (panel.label_scorer, *panel.judges):
        columns = [c for c in range(start, start + len(scorer.attributes)) if pool[:, c].unique().numel() > 1]
        first, start = start, start + len(scorer.attributes)
        if first == 0:
            columns = [c for c in columns if scorer.attributes[c] in labelled]
        names = tuple(scorer.attributes[c - first] for c in columns)
        if not names and first == 0:
            raise GanvasError(
                f"Scorer {scorer.name!r} scores none of the labels' attributes: use the scorer that made the labels."
            )
        if not names:
            gaps.append(f"{scorer.name} gives every face the same scores.")
            continue
        fitted = own.select([list(labelled).index(a) for a in names]) if own is not None and first == 0 else None
        normal = fitted or gaussianize.fit(pool[:, columns], names)
        scores = normal(pool[:, columns])
        own_scores = scores if first == 0 else own_scores
        scales.append(JudgeScale(scorer.name, names, tuple(columns), normal, correlate_columns(own_scores, scores)))
    return scales, gaps
