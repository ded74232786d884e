"""Label efficiency: the quality of a method by the number of labels that it learns from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ganvas.data.dataset import LatentDataset, make_dataset
from ganvas.errors import GanvasError
from ganvas.evaluation.context import EvaluationContext
from ganvas.evaluation.latent_measures import measure_readings
from ganvas.evaluation.methods import MethodEntry, fit_entry
from ganvas.stats import Estimate, bootstrap_mean
from ganvas.types import WPlus


def take_first_labels(data: LatentDataset, n: int, attributes: Sequence[str]) -> LatentDataset:
    """Return the first ``n`` labels as if there were no others: normal scores and probe are fitted on them alone.

    Attributes with one score everywhere among so few are left out, unless they are among ``attributes``.
    Raises GanvasError where those are.
    """
    scores = data.scores[:n]
    usable = [a for k, a in enumerate(data.attributes) if a in attributes or scores[:, k].unique().numel() > 1]
    columns = [data.attributes.index(a) for a in usable]
    kinds = tuple(data.kinds[k] for k in columns)
    source = data.subset(torch.arange(n)).source
    return make_dataset(data.codes[:n], scores[:, columns], tuple(usable), kinds, source, data.generator, data.scorer)


def measure_efficiency(
    context: EvaluationContext, entry: MethodEntry, attributes: Sequence[str], ws: WPlus, n: int
) -> dict[str, Any]:
    """Fit a method on ``n`` labels and measure its readings by the probe of all labels, over attributes.

    "target": what a change of 1 does to the target; "others": what it does to the rest, for each that the target moved by
    (``latent_measures.measure_readings``).
    Raises GanvasError where there aren't so many labels or they don't suffice.
    """
    if n > len(context.data):
        raise GanvasError(f"There are {len(context.data):,} labels, not {n:,}.")
    data = take_first_labels(context.data, n, attributes)
    editor = fit_entry(entry, data, context.generator, attributes)
    readings = [measure_readings(editor, ws, name, context.data, context.typical_set) for name in attributes]
    return {what: _average([values[what] for values in readings]) for what in ("target", "others", "mahalanobis")}


def _average(values: Sequence[Estimate]) -> Estimate:
    """Estimate the mean over attributes: the bootstrap draws attributes."""
    return bootstrap_mean(torch.tensor([value.mean for value in values]))
