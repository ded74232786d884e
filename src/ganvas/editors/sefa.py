"""SeFa: the directions that change styles most, in closed form from the generator's weights.

Shen and Zhou, *Closed-Form Factorization of Latent Semantics in GANs*, CVPR 2021, https://arxiv.org/abs/2007.06600. A
layer computes its style from a code by an affine map with weight A; the unit vectors n that maximise |A n|² are the
eigenvectors of AᵀA with the largest eigenvalues. The weights of the chosen layers are stacked. The method needs no samples and
no labels; here labels name the eigenvectors, which people did in the paper.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ganvas.data.dataset import LatentDataset
from ganvas.editors._directions import build_numbered_editor, name_directions
from ganvas.editors.base import Editor, LinearEditor
from ganvas.editors.masked import Layers, parse_rows
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator

NEEDS = "the style weights; labels name its directions and set their scale"
"""What the method learns from."""
REPORTS = ()
"""The parts of reports that the method is in beside the full comparison: none."""

from_tensors = LinearEditor.from_tensors


def fit(
    data: LatentDataset,
    generator: Generator,
    *,
    eigenvectors: int = 80,
    layers: Layers | None = None,
    attributes: tuple[str, ...] | list[str] | None = None,
) -> Editor:
    """Fit an editor whose directions are among the first ``eigenvectors`` (at most), with the sign that raises the attribute.

    ``layers``: those whose weights are factorised, and the rows that edits move, like "0-3" or "4-32px"
    (``editors.masked.parse_rows``); None: all. ``attributes``: only these, in this order.
    Raises GanvasError for a generator without style weights, fewer than 1 eigenvector, and layers that don't exist.
    """
    data = data if attributes is None else data.select(tuple(attributes))
    axes = _factorize_styles(generator, eigenvectors, layers)
    return name_directions("sefa", data, generator, axes, {"eigenvectors": len(axes)}, layers)


def fit_unlabelled(generator: Generator, *, eigenvectors: int = 20, layers: Layers | None = None) -> Editor:
    """Fit an editor with an attribute for each of the first ``eigenvectors``, named by its number; see ``fit``."""
    axes = _factorize_styles(generator, eigenvectors, layers)
    return build_numbered_editor("sefa", generator, axes, {"eigenvectors": len(axes)}, layers)


def _factorize_styles(generator: Generator, eigenvectors: int, layers: Layers | None) -> Float[Tensor, "axes w_dim"]:
    """Compute the unit vectors that change the styles of ``layers`` most, the strongest first."""
    if type(eigenvectors) is not int or eigenvectors < 1:
        raise GanvasError(f"eigenvectors must be a whole number of at least 1, not {eigenvectors!r}.")
    weights = generator.style_weights()
    if not weights:
        raise GanvasError(f"Generator {generator.name!r} has no style weights, which sefa needs: pick another method.")
    rows = range(len(weights)) if layers is None else parse_rows(layers, generator)
    stacked = torch.cat([weights[row] for row in rows]).double()
    values, axes = torch.linalg.eigh(stacked.T @ stacked)
    rank = int((values > 1e-9 * values[-1]).sum())  # directions beyond the rank change no style
    axes = axes.flip(1).T[: min(eigenvectors, rank)]
    signs = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()  # the solver's signs are arbitrary
    return (axes * signs).float()
