"""Directions found without labels: each attribute gets the axis that moves it most, with the sign that raises it."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ganvas.data.dataset import LatentDataset
from ganvas.editors._boundary import scale_to_deviation
from ganvas.editors.base import Editor, LinearEditor, editor_metadata, find_unresponsive, format_report, response_gains
from ganvas.editors.masked import Layers, mask_editor
from ganvas.generators.base import Generator

NAMED_AXES = 20
"""The number of leading axes that the report lists."""
MAX_LENGTH = 5.0
"""The most standard deviations along an axis that a change of 1 may take: beyond them pictures come apart."""


def name_directions(
    method: str,
    data: LatentDataset,
    generator: Generator,
    axes: Float[Tensor, "axes w_dim"],
    options: dict[str, Any],
    layers: Layers | None,
) -> Editor:
    """Make an editor that moves each attribute along that of the unit vectors ``axes`` that moves it most.

    An attribute's axis is the one on which a standard deviation of codes moves the probe's reading most; several
    attributes may have the same. The report holds the axis' number, the correlation of the codes' coordinates along it
    with the scores, and for the leading axes the attribute that each correlates with most. A change is limited to
    ``MAX_LENGTH``: attributes that then respond to less than half of it are "unresponsive". ``layers``: the rows of W+
    that edits move.
    """
    w, a = data.w.to(generator.device), data.normals().to(generator.device)
    along = scale_to_deviation(axes, w)
    moved = along @ data.probe.weight.to(along)
    best = moved.abs().argmax(0)
    correlations = _correlate(w @ axes.T, a)
    every = torch.arange(len(data.attributes), device=best.device)
    response = moved[best, every]
    gain = response_gains(response.abs()).clamp(max=MAX_LENGTH)
    directions = along[best] * (response.sign() * gain)[:, None]
    most = correlations.abs().argmax(1).tolist()
    options = options | {"layers": layers if layers is None or isinstance(layers, str) else list(layers)}
    report = {
        "axes": [f"{i} {data.attributes[k]} {correlations[i, k]:+.2f}" for i, k in enumerate(most[:NAMED_AXES])],
        "unresponsive": find_unresponsive(data.attributes, response.abs() * gain),
        **format_report(data.attributes, axis=best, correlation=correlations[best, every], gain=gain),
    }
    return mask_editor(
        LinearEditor(editor_metadata(method, data, generator, options, report), directions), layers, generator
    )


def _correlate(x: Tensor, y: Tensor) -> Tensor:
    """Compute the correlation of every column of ``x`` with every one of ``y``, (axes, attributes)."""
    x, y = ((t - t.mean(0)) / t.std(0).clamp(min=1e-12) for t in (x, y))
    return x.T @ y / max(len(x) - 1, 1)
