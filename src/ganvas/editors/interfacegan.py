"""InterfaceGAN: the normal of a linear boundary between codes that have an attribute and codes that lack it.

Shen, Gu, Tang and Zhou, *Interpreting the Latent Space of GANs for Semantic Face Editing*, CVPR 2020,
https://arxiv.org/abs/1907.10786. A linear support vector machine separates the codes with the highest scores from those
with the lowest; an edit moves codes along the unit normal of its boundary. A conditional boundary (section 3.3) subtracts
the normal's projection on the normals of other attributes, so that moving along it doesn't cross theirs.

The penalty of a code on the wrong side, ``c``, isn't in the paper; its code has scikit-learn's 1, on codes that are not
scaled (``c=100`` here, on ffhq). In 512 dimensions 1,200 extreme codes can be separated without an error, and so high a
penalty fits their noise: the lower one agrees better with published directions
(experiments/ffhq/published_directions.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ganvas.data.dataset import LatentDataset, find_columns
from ganvas.editors._directions import fit_boundary_normal, scale_codes, select_extremes
from ganvas.editors.base import (
    LinearEditor,
    build_metadata,
    calibrate,
    find_unresponsive,
    format_report,
    orthogonalize,
)
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator

NEEDS = "labels"
"""What the method learns from."""
REPORTS = ("quick", "labels")
"""The parts of reports that the method is in beside the full comparison."""
IS_FAST = True
"""The method is fitted within seconds."""

Conditions = Mapping[str, Sequence[str] | str] | Sequence[str] | str
MIN_NORM = 0.05
"""The least norm that has to be left of a unit normal after projections are subtracted."""

from_tensors = LinearEditor.from_tensors


def fit(
    data: LatentDataset,
    generator: Generator,
    *,
    share: float = 0.02,
    c: float = 0.1,
    conditional: Conditions | None = None,
    attributes: tuple[str, ...] | list[str] | None = None,
) -> LinearEditor:
    """Fit a linear boundary for each attribute.

    ``share``: of the codes, on each side of a boundary. ``c``: the penalty of a code on the wrong side. ``conditional``:
    what to project out. A mapping from attributes to the others to project out of each (names, or "all"); names (also one
    text, "Male,Young"): project these out of every attribute; "all": all others of ``data`` out of each.
    ``attributes``: only these, in this order; conditions may name any of ``data``.
    Raises GanvasError for impossible options, an attribute with too few codes on a side, and where nothing of a
    direction is left.
    """
    if not 0 < share <= 0.5:
        raise GanvasError(f"share must be above 0 and at most 0.5, not {share}.")
    if not 0 < c < float("inf"):
        raise GanvasError(f"c must be a number above 0, not {c}.")
    names = data.attributes if attributes is None else tuple(attributes)
    find_columns(names, data.attributes)
    conditions = _parse_conditions(conditional, names, data.attributes)
    w, a = data.w.to(generator.device), data.normals().to(generator.device)
    needed = [
        name for name in data.attributes if name in {*names, *(other for some in conditions.values() for other in some)}
    ]
    normals = _fit_normals(w, a, data.attributes, needed, share, c)
    directions = torch.stack([_remove_projection(normals, needed, name, conditions[name]) for name in names])
    chosen = data.select(names)
    calibrated, gain = calibrate(directions, chosen.probe, w)
    kept = torch.stack([directions[i] @ normals[needed.index(name)] for i, name in enumerate(names)])
    options = {"share": share, "c": c, "conditional": {name: others for name, others in conditions.items() if others}}
    moved = (calibrated * chosen.probe.weight.T.to(calibrated)).sum(1)
    report = {"unresponsive": find_unresponsive(names, moved)}
    report |= format_report(names, gain=gain, **({"kept": kept} if options["conditional"] else {}))
    return LinearEditor(build_metadata("interfacegan", chosen, generator, options, report), calibrated)


def _fit_normals(
    w: Tensor, a: Tensor, attributes: tuple[str, ...], needed: list[str], share: float, c: float
) -> Tensor:
    x = scale_codes(w)
    columns = [(name, a[:, attributes.index(name)]) for name in needed]
    return torch.stack([fit_boundary_normal(x, *select_extremes(column, share, name), c) for name, column in columns])


def _parse_conditions(
    conditions: Conditions | None, names: tuple[str, ...], all_names: tuple[str, ...]
) -> dict[str, list[str]]:
    """Check the conditions and return the attributes to project out of each of ``names``."""
    if conditions is None:
        conditions = {}
    if not isinstance(conditions, Mapping):
        conditions = dict.fromkeys(names, conditions)
    for name in conditions:
        if name not in names:
            raise unknown("attribute", name, names)
    return {name: _parse_names(conditions.get(name, []), name, all_names) for name in names}


def _parse_names(others: Sequence[str] | str, name: str, all_names: tuple[str, ...]) -> list[str]:
    if isinstance(others, str):
        others = all_names if others == "all" else [part.strip() for part in others.split(",")]
    if not isinstance(others, Sequence):
        raise GanvasError(f'conditional takes names of attributes or "all" for {name!r}, not {others!r}.')
    for other in others:
        if other not in all_names:
            raise unknown("attribute", other, [*all_names, "all"])
    return [other for other in all_names if other in others and other != name]


def _remove_projection(normals: Tensor, needed: list[str], name: str, others: list[str]) -> Tensor:
    rest = orthogonalize(normals, needed.index(name), [needed.index(other) for other in others])
    if rest.norm() < MIN_NORM:
        raise GanvasError(
            f"Nothing of the direction of {name!r} is left without {', '.join(others)}: condition on fewer."
        )
    return rest / rest.norm()
