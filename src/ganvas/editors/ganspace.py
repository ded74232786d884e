"""GANSpace: the principal components of W, each named after the attribute that it moves most.

Härkönen, Hertzmann, Lehtinen and Paris, *GANSpace: Discovering Interpretable GAN Controls*, NeurIPS 2020,
https://arxiv.org/abs/2004.02546. Components need no labels; here labels name them, which people did in the paper. As
there, a component can be applied to chosen layers: coarse ones change the pose, fine ones colours.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ganvas.data.dataset import LatentDataset
from ganvas.data.pca import fit_pca
from ganvas.editors._directions import build_numbered_editor, name_directions
from ganvas.editors.base import Editor, LinearEditor
from ganvas.editors.masked import Layers
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator, sample
from ganvas.seeds import LABEL_SEED
from ganvas.types import W

NEEDS = "codes alone; labels name its directions and set their scale"
"""What the method learns from."""
REPORTS = ()
"""The parts of reports that the method is in beside the full comparison: none."""

SAMPLED_CODES = 10_000
"""The number of codes whose components are taken where there are no labels."""

from_tensors = LinearEditor.from_tensors


def fit(
    data: LatentDataset,
    generator: Generator,
    *,
    components: int = 80,
    layers: Layers | None = None,
    attributes: tuple[str, ...] | list[str] | None = None,
) -> Editor:
    """Fit an editor whose directions are among the first ``components`` (at most), with the sign that raises the attribute.

    ``layers``: the rows that edits move, like "0-3" or "4-32px" (``editors.masked.parse_rows``). ``attributes``: only these, in
    this order.
    Raises GanvasError for fewer than 1 component, and layers that don't exist.
    """
    data = data if attributes is None else data.select(tuple(attributes))
    axes = _fit_axes(data.w.to(generator.device), components)
    return name_directions("ganspace", data, generator, axes, {"components": len(axes)}, layers)


def fit_unlabelled(generator: Generator, *, components: int = 20, layers: Layers | None = None) -> Editor:
    """Fit an editor with an attribute for each of the first ``components`` of sampled codes, named by its number; see ``fit``."""
    axes = _fit_axes(sample(generator, SAMPLED_CODES, 1.0, LABEL_SEED)[:, 0], components)
    return build_numbered_editor("ganspace", generator, axes, {"components": len(axes)}, layers)


def _fit_axes(w: W, components: int) -> Float[Tensor, "axes w_dim"]:
    if type(components) is not int or components < 1:
        raise GanvasError(f"components must be a whole number of at least 1, not {components!r}.")
    return fit_pca(w, min(components, w.shape[1], len(w) - 1)).components
