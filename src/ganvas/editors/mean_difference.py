"""Mean difference: from the mean code of those that have least of an attribute to that of those that have most.

The simplest supervised direction, as in Upchurch et al., *Deep Feature Interpolation for Image Content Changes*, 2017,
https://arxiv.org/abs/1611.05507. It takes along all that goes with the attribute: what other methods are held against.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ganvas.data.dataset import LatentDataset
from ganvas.editors._boundary import select_extremes
from ganvas.editors.base import EditorMetadata, LinearEditor, calibrate, editor_metadata, load_module
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator

NEEDS = "labels"
"""What it learns from."""


def fit(
    data: LatentDataset,
    generator: Generator,
    *,
    share: float = 0.1,
    attributes: tuple[str, ...] | list[str] | None = None,
) -> LinearEditor:
    """``share`` of the codes make each of the two means; ``attributes``: only these, in this order.

    Raises GanvasError where ``share`` isn't above 0 and at most 0.5, and where too few codes stand out on a side.
    """
    if not 0 < share <= 0.5:
        raise GanvasError(f"share must be above 0 and at most 0.5, not {share}.")
    data = data if attributes is None else data.select(tuple(attributes))
    w, a = data.w.to(generator.device), data.normals().to(generator.device)
    directions = []
    for k in range(a.shape[1]):
        low, high = select_extremes(a[:, k], share, data.attributes[k])
        apart = (a[high, k].mean() - a[low, k].mean()).clamp(min=1e-6)
        directions.append((w[high].mean(0) - w[low].mean(0)) / apart)
    calibrated, gain = calibrate(torch.stack(directions), data.probe)
    report = {"gain": dict(zip(data.attributes, gain.tolist(), strict=True))}
    told = editor_metadata("mean_difference", data, generator, {"share": share}, report)
    return LinearEditor(told, calibrated)


def from_tensors(tensors: Mapping[str, Tensor], about: EditorMetadata) -> LinearEditor:
    """The editor of a file. Raises GanvasError where its tensors are others."""
    with torch.device("meta"):
        editor = LinearEditor(about, torch.empty(about.probe.weight.T.shape))
    load_module(editor, tensors)
    return editor
