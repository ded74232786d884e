"""Mean difference: from the mean code of those that have least of an attribute to that of those that have most.

The simplest supervised direction, as in Upchurch et al., *Deep Feature Interpolation for Image Content Changes*, 2017,
https://arxiv.org/abs/1611.05507. It also moves whatever correlates with the attribute: the baseline for other methods.
"""

from __future__ import annotations

import torch

from ganvas.data.dataset import LatentDataset
from ganvas.editors._directions import select_extremes
from ganvas.editors.base import LinearEditor, build_metadata, compute_response_gains
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator

NEEDS = "labels"
"""What the method learns from."""
REPORTS = ("quick", "labels")
"""The parts of reports that the method is in beside the full comparison."""
IS_FAST = True
"""The method is fitted within seconds."""

from_tensors = LinearEditor.from_tensors


def fit(
    data: LatentDataset,
    generator: Generator,
    *,
    share: float = 0.1,
    attributes: tuple[str, ...] | list[str] | None = None,
) -> LinearEditor:
    """Fit the difference of two means; ``share`` of the codes make each. ``attributes``: only these, in this order.

    Raises GanvasError where ``share`` isn't above 0 and at most 0.5, and for an attribute with too few codes on a side.
    """
    if not 0 < share <= 0.5:
        raise GanvasError(f"share must be above 0 and at most 0.5, not {share}.")
    data = data if attributes is None else data.select(tuple(attributes))
    w, a = data.w.to(generator.device), data.normals().to(generator.device)
    directions = []
    for k in range(a.shape[1]):
        low, high = select_extremes(a[:, k], share, data.attributes[k])
        distance = (a[high, k].mean() - a[low, k].mean()).clamp(min=1e-6)
        directions.append((w[high].mean(0) - w[low].mean(0)) / distance)
    moves = torch.stack(directions)  # by one standard deviation of the labels: the natural unit of this method
    gain = compute_response_gains((moves * data.probe.weight.T.to(moves)).sum(1))
    report = {"gain": dict(zip(data.attributes, gain.tolist(), strict=True))}
    metadata = build_metadata("mean_difference", data, generator, {"share": share}, report)
    return LinearEditor(metadata, moves * gain[:, None])
