"""InterfaceGAN: the normal of a linear boundary between codes that have an attribute and codes that lack it.

Shen, Gu, Tang and Zhou, *Interpreting the Latent Space of GANs for Semantic Face Editing*, CVPR 2020,
https://arxiv.org/abs/1907.10786. A linear support vector machine parts the codes with the highest scores from those with
the lowest; an edit moves codes along the unit normal of its boundary. A conditional boundary (section 3.3) takes away the
normal's projection on the normals of other attributes, so that moving along it doesn't cross theirs.

The price of a code on the wrong side, ``c``, isn't in the paper; its code leaves scikit-learn's 1, on codes as they are
(``c=100`` here, on ffhq). In 512 dimensions 1,200 extreme codes can be parted without an error, and so high a price
fits their noise: the lower one agrees better with directions that others published (experiments/ffhq/published_directions.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ganvas.data.dataset import LatentDataset, find_columns
from ganvas.editors._boundary import (
    boundary_normal,
    find_unresponsive,
    format_report,
    scale_codes,
    scale_to_deviation,
    select_extremes,
)
from ganvas.editors.base import LinearEditor, calibrate, editor_metadata, orthogonal
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator

NEEDS = "labels"
"""What it learns from."""

Conditions = Mapping[str, Sequence[str] | str] | Sequence[str] | str
MIN_NORM = 0.05
"""Of a unit normal that has to be left, for it to be a direction."""

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
    """``share`` of the codes stand on each side of a boundary; ``c``: the price of a code on the wrong side.

    ``conditional``: what to project out. A mapping from attributes to the others that each is freed from (names, or
    "all"); names (also one text, "Male,Young"): every attribute is freed from these; "all": each from all others of
    ``data``. ``attributes``: only these, in this order; conditions may name any of ``data``.
    Raises GanvasError for impossible options, an attribute with too few codes on a side, and where nothing of a
    direction is left.
    """
    if not 0 < share <= 0.5:
        raise GanvasError(f"share must be above 0 and at most 0.5, not {share}.")
    if not 0 < c < float("inf"):
        raise GanvasError(f"c must be a number above 0, not {c}.")
    names = data.attributes if attributes is None else tuple(attributes)
    find_columns(names, data.attributes)
    freed = _conditions(conditional, names, data.attributes)
    w, a = data.w.to(generator.device), data.normals().to(generator.device)
    needed = [
        name for name in data.attributes if name in {*names, *(other for some in freed.values() for other in some)}
    ]
    normals = _normals(w, a, data.attributes, needed, (share, c))
    directions = torch.stack([_freed(normals, needed, name, freed[name]) for name in names])
    chosen = data.select(names)
    calibrated, gain = calibrate(scale_to_deviation(directions, w), chosen.probe)
    kept = torch.stack([directions[i] @ normals[needed.index(name)] for i, name in enumerate(names)])
    options = {"share": share, "c": c, "conditional": {name: others for name, others in freed.items() if others}}
    moved = (calibrated * chosen.probe.weight.T.to(calibrated)).sum(1)
    report = {"unresponsive": find_unresponsive(names, moved)}
    report |= format_report(names, gain=gain, **({"kept": kept} if options["conditional"] else {}))
    return LinearEditor(editor_metadata("interfacegan", chosen, generator, options, report), calibrated)


def _normals(w: Tensor, a: Tensor, attributes: tuple[str, ...], needed: list[str], how: tuple[float, float]) -> Tensor:
    (share, c), x = how, scale_codes(w)
    columns = [(name, a[:, attributes.index(name)]) for name in needed]
    return torch.stack([boundary_normal(x, *select_extremes(column, share, name), c) for name, column in columns])


def _conditions(wanted: Conditions | None, names: tuple[str, ...], known: tuple[str, ...]) -> dict[str, list[str]]:
    """For each of ``names`` the others to project out, checked."""
    if wanted is None:
        wanted = {}
    if not isinstance(wanted, Mapping):
        wanted = dict.fromkeys(names, wanted)
    for name in wanted:
        if name not in names:
            raise unknown("attribute", name, names)
    return {name: _others(wanted.get(name, []), name, known) for name in names}


def _others(wanted: Sequence[str] | str, name: str, known: tuple[str, ...]) -> list[str]:
    if isinstance(wanted, str):
        wanted = known if wanted == "all" else [part.strip() for part in wanted.split(",")]
    if not isinstance(wanted, Sequence):
        raise GanvasError(f'conditional takes names of attributes or "all" for {name!r}, not {wanted!r}.')
    for other in wanted:
        if other not in known:
            raise unknown("attribute", other, [*known, "all"])
    return [other for other in known if other in wanted and other != name]


def _freed(normals: Tensor, needed: list[str], name: str, others: list[str]) -> Tensor:
    rest = orthogonal(normals, needed.index(name), [needed.index(other) for other in others])
    if rest.norm() < MIN_NORM:
        raise GanvasError(
            f"Nothing of the direction of {name!r} is left beside {', '.join(others)}: condition on fewer."
        )
    return rest / rest.norm()
