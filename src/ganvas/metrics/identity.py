"""Whether the person stays the same."""

from __future__ import annotations

import torch
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.metrics.base import Trial, metric


@metric(digits=3)
def identity(trial: Trial) -> Tensor:
    """Cosine of face embeddings before and after, equation (8) of Lesné et al.; faces that aren't found don't count."""
    before, after = _get_faces(trial)
    return torch.where((before + after).isnan().any(1), torch.nan, torch.cosine_similarity(before, after, dim=1))


@metric(digits=3)
def identity_distance(trial: Trial) -> Tensor:
    """Euclidean distance of dlib's face embeddings before and after; below 0.6 dlib calls two faces one person."""
    before, after = _get_faces(trial)
    return (before - after).norm(dim=1)


@metric(share=True, digits=3)
def no_face(trial: Trial) -> Tensor:
    """No face was found in the picture, before or after."""
    before, after = _get_faces(trial)
    return (before.isnan() | after.isnan()).any(1).float()


def _get_faces(trial: Trial) -> tuple[Tensor, Tensor]:
    if trial.faces_before is None or trial.faces_after is None:
        raise GanvasError(
            "Faces weren't compared: that needs dlib, pip install 'ganvas[faces]', and a generator of faces (in Python, the"
            " option faces of JudgePanel)."
        )
    return trial.faces_before, trial.faces_after
