"""Label codes with an attribute of which a few have it and a few lack it, as a reading of the scores that they have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ganvas.data.dataset import LatentDataset, make_dataset
from ganvas.errors import GanvasError
from ganvas.scorers.from_examples import KIND, MAX_EXAMPLES, MIN_EXAMPLES, fit_logistic


def label_by_examples(
    data: LatentDataset, name: str, positive: Sequence[int], negative: Sequence[int]
) -> tuple[LatentDataset, float]:
    """Label all codes of a dataset with one new attribute, by a logistic regression of their normal scores.

    No picture is drawn, so that it takes seconds; what the scores say nothing of isn't learned.

    Args:
        data: Labelled codes.
        name: The new attribute.
        positive: Rows of codes that have it.
        negative: Rows of codes that lack it.

    Returns:
        The codes with the new attribute, and the cross-validated accuracy on the examples, from 0 to 1.

    Raises:
        GanvasError: There are too few or too many examples, or a row is on both sides, or none of the data.
    """
    for what, rows in (("have", positive), ("lack", negative)):
        if not MIN_EXAMPLES <= len(rows) <= MAX_EXAMPLES:
            raise GanvasError(
                f"{len(rows)} pictures {what} {name!r}: at least {MIN_EXAMPLES} are needed, 10 to 20 are good."
            )
    rows = [*positive, *negative]
    if len(set(rows)) != len(rows) or not all(0 <= row < len(data) for row in rows):
        raise GanvasError("A picture is an example once, and one of those that have labels.")
    normal = data.normals().double()
    sides = np.repeat([1, 0], [len(positive), len(negative)])
    weight, bias, accuracy = fit_logistic(normal[rows].numpy(), sides)
    scores = (normal @ torch.from_numpy(weight) + bias).float()[:, None]
    scorer = f"{KIND}:{data.scorer}"
    return make_dataset(data.codes, scores, (name,), ("probability",), data.source, data.generator, scorer), accuracy
