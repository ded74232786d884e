"""Metrics of edits: a metric is a function of a ``Trial`` that gives one value a code.

``stats.bootstrap_mean`` turns the values into a mean with its confidence interval; nan marks a code that doesn't count.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ganvas.data.distribution import Distribution
from ganvas.data.gaussianize import Gaussianize
from ganvas.errors import GanvasError, unknown
from ganvas.types import Scores, WPlus


@dataclass(frozen=True)
class Trial:
    """``n`` codes whose ``attribute`` was edited, with their scores before and after."""

    attribute: str
    attributes: tuple[str, ...]
    """Names of the columns of the scores."""
    kinds: tuple[str, ...]
    before: WPlus
    after: WPlus
    scores_before: Scores
    scores_after: Scores
    arrived: Tensor
    """(n,) bool: the target score was reached, within bounds."""
    strengths: Tensor
    """(n,) the changes that were made, in the units of ``Editor.edit``."""
    stopped: Tensor | None = None
    """(n,) bool: not arrived, because the distribution's bound stopped the edit before the largest strength."""
    renders: Tensor | None = None
    """(n,) pictures rendered to find the strength."""
    faces_before: Tensor | None = None
    faces_after: Tensor | None = None
    """(n, d) face embeddings before and after, None where they weren't computed; nan rows where no face was detected."""

    def __len__(self) -> int:
        return len(self.arrived)

    @property
    def column(self) -> int:
        """The column of the edited attribute. Raises GanvasError where the scores have none."""
        if self.attribute not in self.attributes:
            raise unknown("attribute", self.attribute, self.attributes)
        return self.attributes.index(self.attribute)


def to_readable(scores: Scores, kinds: tuple[str, ...]) -> Scores:
    """Convert logits to probabilities and leave scores of other kinds as they are."""
    is_probability = torch.tensor([kind == "probability" for kind in kinds], device=scores.device)
    return torch.where(is_probability, torch.sigmoid(scores), scores)


def success(trial: Trial) -> Tensor:
    """Return 1 for each code that arrived and 0 for the others, (n,): the mean is Lesné et al.'s share of correct edits."""
    return trial.arrived.to(trial.scores_before)


def variation(trial: Trial) -> Tensor:
    """Return the change of every attribute, as probabilities, (n, attributes); nan for codes that didn't arrive.

    The mean over codes is one row of Lesné et al.'s matrix, equation (7), which too is over finished edits.
    """
    change = to_readable(trial.scores_after, trial.kinds) - to_readable(trial.scores_before, trial.kinds)
    return torch.where(trial.arrived[:, None], change, torch.nan)


def variation_row(trial: Trial) -> Tensor:
    """Average ``variation`` over codes, (attributes,): a row of equation (7) of Lesné et al.; nan where nothing arrived."""
    return variation(trial).nanmean(0)


def off_target_drift(trial: Trial, gaussianize: Gaussianize) -> Tensor:
    """Average |change| over the other attributes, in standard deviations of normal scores, (n,); nan for codes not arrived.

    ``gaussianize`` has one column for each of the trial's attributes. Raises GanvasError where it hasn't, or where there is
    no other attribute.
    """
    if gaussianize.scores.shape[1] != len(trial.attributes):
        raise GanvasError(
            f"{gaussianize.scores.shape[1]} normal scores for a trial of {len(trial.attributes)} attributes: pass one for each."
        )
    if len(trial.attributes) < 2:
        raise GanvasError(f"{trial.attribute!r} is the only attribute: drift needs another one.")
    change = (gaussianize(trial.scores_after) - gaussianize(trial.scores_before)).abs()
    others = torch.arange(change.shape[1], device=change.device) != trial.column
    return torch.where(trial.arrived, change[:, others].mean(1), torch.nan)


def mahalanobis_after(trial: Trial, distribution: Distribution) -> Tensor:
    """Return the Mahalanobis distances of the edited codes from the mean of W, (n,)."""
    return distribution.mahalanobis(trial.after)


def success_within(trial: Trial, distribution: Distribution) -> Tensor:
    """Return 1 for each code that arrived and lies within ``distribution``, such as a stricter one, (n,)."""
    return (trial.arrived & distribution.contains(trial.after)).to(trial.scores_before)


def distance_moved(trial: Trial) -> Tensor:
    """Return the length of each move in W, averaged over rows, (n,)."""
    return (trial.after - trial.before).norm(dim=-1).mean(-1)


def identity_cosine(trial: Trial) -> Tensor:
    """Return the cosines of face embeddings before and after, equation (8) of Lesné et al., (n,); nan without a face."""
    before, after = _get_faces(trial)
    return torch.where((before + after).isnan().any(1), torch.nan, torch.cosine_similarity(before, after, dim=1))


def identity_distance(trial: Trial) -> Tensor:
    """Return the Euclidean distances of face embeddings before and after, (n,); nan where no face was found.

    dlib calls two faces one person below 0.6.
    """
    before, after = _get_faces(trial)
    return (before - after).norm(dim=1)


def _get_faces(trial: Trial) -> tuple[Tensor, Tensor]:
    if trial.faces_before is None or trial.faces_after is None:
        raise GanvasError(
            "This trial has no face embeddings: give the panel of judges a FaceRecognizer when running it."
        )
    return trial.faces_before, trial.faces_after
