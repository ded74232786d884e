"""What methods without labels share: each attribute gets the axis that moves it most, turned the right way."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ganvas.data.dataset import LatentDataset
from ganvas.editors._boundary import find_unresponsive, format_report, scale_to_deviation
from ganvas.editors.base import Editor, LinearEditor, editor_metadata, response_gains
from ganvas.editors.masked import Layers, mask_editor
from ganvas.generators.base import Generator

NAMED = 20
"""First axes that the report names."""
MAX_LENGTH = 5.0
"""Standard deviations along an axis that a change of 1 may take: beyond it no picture is left to respond."""


def name_directions(
    method: str,
    data: LatentDataset,
    generator: Generator,
    axes: Float[Tensor, "axes w_dim"],
    options: dict[str, Any],
    layers: Layers | None,
) -> Editor:
    """An editor whose attributes are the unit vectors ``axes`` that move them most, on some layers.

    A standard deviation of codes along an axis moves the probe's readings; the axis with the largest movement is the
    attribute's, and may be another's, too. The report holds its number, the correlation of codes' places along it with
    the scores, and for the first axes the attribute that each goes with most. A change takes at most ``MAX_LENGTH``:
    attributes that then respond to less than half of it are "unresponsive".
    """
    w, a = data.w.to(generator.device), data.normals().to(generator.device)
    along = scale_to_deviation(axes, w)
    moved = along @ data.probe.weight.to(along)
    best = moved.abs().argmax(0)
    found = _correlation(w @ axes.T, a)
    every = torch.arange(len(data.attributes), device=best.device)
    response = moved[best, every]
    gain = response_gains(response.abs()).clamp(max=MAX_LENGTH)
    directions = along[best] * (response.sign() * gain)[:, None]
    most = found.abs().argmax(1).tolist()
    options = options | {"layers": layers if layers is None or isinstance(layers, str) else list(layers)}
    report = {
        "axes": [f"{i} {data.attributes[k]} {found[i, k]:+.2f}" for i, k in enumerate(most[:NAMED])],
        "unresponsive": find_unresponsive(data.attributes, response.abs() * gain),
        **format_report(data.attributes, axis=best, correlation=found[best, every], gain=gain),
    }
    return mask_editor(
        LinearEditor(editor_metadata(method, data, generator, options, report), directions), layers, generator
    )


def _correlation(x: Tensor, y: Tensor) -> Tensor:
    """(axes, attributes)."""
    x, y = ((t - t.mean(0)) / t.std(0).clamp(min=1e-12) for t in (x, y))
    return x.T @ y / max(len(x) - 1, 1)
