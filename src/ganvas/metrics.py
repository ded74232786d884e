"""What an edit did, and how well: a metric is a function of a Trial that gives one value a code.

``estimate`` turns the values into a mean with its confidence interval; nan marks a code that doesn't count.
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
    """``n`` codes whose ``attribute`` was edited: edited once, scored once, judged by as many metrics as one likes."""

    attribute: str
    attributes: tuple[str, ...]
    """The columns of the scores."""
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
    """(n,) bool: what hasn't arrived was stopped by the distribution's bound, not by the largest strength."""
    renders: Tensor | None = None
    """(n,) pictures rendered to find the strength."""
    faces_before: Tensor | None = None
    faces_after: Tensor | None = None
    """(n, d) embeddings of the pictures' faces, where somebody computed them; nan rows where no face was found."""

    def __len__(self) -> int:
        return len(self.arrived)

    @property
    def column(self) -> int:
        """The column of the edited attribute."""
        if self.attribute not in self.attributes:
            raise unknown("attribute", self.attribute, self.attributes)
        return self.attributes.index(self.attribute)


def to_readable(scores: Scores, kinds: tuple[str, ...]) -> Scores:
    """Scores as people read them: probabilities for logits, the rest as it is."""
    is_probability = torch.tensor([kind == "probability" for kind in kinds], device=scores.device)
    return torch.where(is_probability, torch.sigmoid(scores), scores)


def success(trial: Trial) -> Tensor:
    """1 for a code that arrived, 0 for one that didn't: the mean is the paper's share of correctly edited images."""
    return trial.arrived.to(trial.scores_before)


def variation(trial: Trial) -> Tensor:
    """(n, attributes): what the edit did to each attribute, as probabilities; nan for codes that didn't arrive.

    The mean over codes is one row of Lesné et al.'s matrix, equation (7), which too is over finished edits.
    """
    change = to_readable(trial.scores_after, trial.kinds) - to_readable(trial.scores_before, trial.kinds)
    return torch.where(trial.arrived[:, None], change, torch.nan)


def variation_row(trial: Trial) -> Tensor:
    """(attributes,): equation (7) of Lesné et al.; nan where nothing arrived."""
    return variation(trial).nanmean(0)


def off_target_drift(trial: Trial, gaussianize: Gaussianize) -> Tensor:
    """(n,): mean |change| of the other attributes in standard deviations of their normal scores; nan if not arrived.

    ``data.gaussianize`` has one column for each of the trial's attributes.
    """
    if gaussianize.scores.shape[1] != len(trial.attributes):
        raise GanvasError(
            f"{gaussianize.scores.shape[1]} normal scores for a trial of {len(trial.attributes)} attributes."
        )
    if len(trial.attributes) < 2:
        raise GanvasError("Drift off the target needs a second attribute.")
    change = (gaussianize(trial.scores_after) - gaussianize(trial.scores_before)).abs()
    others = torch.arange(change.shape[1], device=change.device) != trial.column
    return torch.where(trial.arrived, change[:, others].mean(1), torch.nan)


def mahalanobis_after(trial: Trial, distribution: Distribution) -> Tensor:
    """(n,): how far from the mean of W the edited codes lie."""
    return distribution.mahalanobis(trial.after)


def success_within(trial: Trial, distribution: Distribution) -> Tensor:
    """(n,): 1 for a code that arrived and lies within another, stricter distribution too."""
    return (trial.arrived & distribution.contains(trial.after)).to(trial.scores_before)


def distance_moved(trial: Trial) -> Tensor:
    """(n,): the length of the move in W, averaged over rows."""
    return (trial.after - trial.before).norm(dim=-1).mean(-1)


def identity_cosine(trial: Trial) -> Tensor:
    """(n,): the cosine of the faces' embeddings, equation (8) of Lesné et al.; nan where no face was found."""
    before, after = _faces(trial)
    return torch.where((before + after).isnan().any(1), torch.nan, torch.cosine_similarity(before, after, dim=1))


def identity_distance(trial: Trial) -> Tensor:
    """(n,): the Euclidean distance of the faces' embeddings, which dlib calls one person below 0.6; nan likewise."""
    before, after = _faces(trial)
    return (before - after).norm(dim=1)


def _faces(trial: Trial) -> tuple[Tensor, Tensor]:
    if trial.faces_before is None or trial.faces_after is None:
        raise GanvasError("Nobody looked whose faces these are: the trial holds no embeddings.")
    return trial.faces_before, trial.faces_after
