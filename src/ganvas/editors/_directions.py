"""Directions: linear boundaries between the codes with the highest and lowest scores, and directions found without labels.

The latter get names: each attribute gets the axis that moves it most, with the sign that raises it.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ganvas.data.correlation import correlate_columns
from ganvas.data.dataset import LatentDataset
from ganvas.data.gaussianize import Gaussianize
from ganvas.data.probe import Probe
from ganvas.editors.base import (
    Editor,
    EditorMetadata,
    LinearEditor,
    build_metadata,
    compute_response_gains,
    find_unresponsive,
    format_report,
    scale_to_deviation,
)
from ganvas.editors.masked import Layers, mask_editor
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator, sample
from ganvas.seeds import LABEL_SEED
from ganvas.types import W

MIN_CODES = 10
"""The least number of codes on each side of a boundary."""
NAMED_AXES = 20
"""The number of leading axes that the report lists."""
SAMPLED_CODES = 4000
"""The number of codes on which standard deviations are measured where there are no labels."""
MAX_LENGTH = 5.0
"""The most standard deviations along an axis that a change of 1 may take: beyond them pictures come apart."""


def select_extremes(scores: Float[Tensor, " n"], share: float, name: str) -> tuple[Tensor, Tensor]:
    """Select the rows of the ``share`` of codes (at least ``MIN_CODES``) with the lowest scores, and with the highest.

    Codes with a score that also occurs on the other side are left out.
    Raises GanvasError where fewer than ``MIN_CODES`` are left on a side.
    """
    n = min(max(round(share * len(scores)), MIN_CODES), len(scores) // 2)
    order = scores.argsort(stable=True)
    low, high = order[:n], order[len(order) - n :]
    if n == 0 or scores[low[0]] == scores[high[-1]]:
        raise GanvasError(f"Attribute {name!r} has one score everywhere, nothing to learn from: select the others.")
    lowest, highest = scores[low[-1]], scores[high[0]]
    if lowest >= highest:  # one score reaches into both ends: leave it out on the side where more codes remain
        candidates = (low, high[scores[high] > lowest]), (low[scores[low] < highest], high)
        low, high = max(candidates, key=lambda sides: min(map(len, sides)))
    for side, rows in (("negatives", low), ("positives", high)):
        if len(rows) < MIN_CODES:
            count = f"{len(rows)} of {len(scores)} codes, at least {MIN_CODES} are needed"
            raise GanvasError(f"Attribute {name!r} has too few {side}: {count}. Label more pictures, or leave it out.")
    return low, high


def scale_codes(w: W) -> W:
    """Centre codes and scale them to a total variance of 1, so that ``c`` of ``fit_boundary_normal`` means the same in any W."""
    return (w - w.mean(0)) / w.var(0).sum().sqrt().clamp(min=1e-12)


def fit_boundary_normal(x: W, low: Tensor, high: Tensor, c: float) -> Float[Tensor, " w_dim"]:
    """Fit a linear support vector machine between two sets of rows and return its unit normal, towards ``high``.

    ``c`` is the penalty of a code on the wrong side; ``x`` has mean 0. The order in which liblinear visits codes is fixed
    by its seed.
    """
    from sklearn.svm import LinearSVC

    sides = torch.arange(len(low) + len(high)).ge(len(low)).numpy()
    machine = LinearSVC(loss="hinge", C=c, random_state=0, max_iter=20_000)
    machine.fit(x[torch.cat((low, high))].double().cpu().numpy(), sides)
    normal = torch.tensor(machine.coef_[0]).to(x)
    return normal / normal.norm().clamp(min=1e-12)


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
    correlations = correlate_columns(w @ axes.T, a)
    every = torch.arange(len(data.attributes), device=best.device)
    response = moved[best, every]
    gain = compute_response_gains(response.abs()).clamp(max=MAX_LENGTH)
    directions = along[best] * (response.sign() * gain)[:, None]
    most = correlations.abs().argmax(1).tolist()
    options = options | {"layers": layers if layers is None or isinstance(layers, str) else list(layers)}
    report = {
        "axes": [f"{i} {data.attributes[k]} {correlations[i, k]:+.2f}" for i, k in enumerate(most[:NAMED_AXES])],
        "unresponsive": find_unresponsive(data.attributes, response.abs() * gain),
        **format_report(data.attributes, axis=best, correlation=correlations[best, every], gain=gain),
    }
    return mask_editor(
        LinearEditor(build_metadata(method, data, generator, options, report), directions), layers, generator
    )


def build_numbered_editor(
    method: str,
    generator: Generator,
    axes: Float[Tensor, "axes w_dim"],
    options: dict[str, Any],
    layers: Layers | None,
) -> Editor:
    """Make an editor with an attribute ``component0``, ``component1``, … for each of the unit vectors ``axes``.

    No labels are needed: a change of 1 moves codes by one standard deviation of W along the axis.
    """
    w = sample(generator, SAMPLED_CODES, 1.0, LABEL_SEED)[:, 0]
    deviations = (w @ axes.T).std(0)
    weight = (axes / deviations[:, None]).T
    attributes = tuple(f"component{number}" for number in range(len(axes)))
    line = torch.linspace(-10, 10, 2, dtype=torch.float64)[:, None].repeat(1, len(axes))
    metadata = EditorMetadata(
        method,
        attributes,
        ("value",) * len(axes),
        generator.fingerprint,
        generator.name,
        "none:none",
        "w",
        Gaussianize(line, line.clone()),
        Probe(weight.cpu().float(), -(w.mean(0) @ weight).cpu().float()),
        options | {"layers": layers if layers is None or isinstance(layers, str) else list(layers)},
        {"deviation": dict(zip(attributes, deviations.tolist(), strict=True))},
    )
    return mask_editor(LinearEditor(metadata, (axes * deviations[:, None]).float()), layers, generator)
