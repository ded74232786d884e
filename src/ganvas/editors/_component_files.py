"""Files with many directions found without labels: GANSpace's components and SeFa's eigenvectors.

- GANSpace (https://github.com/harskish/ganspace) writes .npz: ``act_comp`` are components of what a layer computes, of the layer
  ``style`` those of w, (n, 1, w_dim); ``lat_comp`` are directions of the latent, of w in files whose names end in ``_w``.
- SeFa in rosinality's ``closed_form_factorization.py`` writes a mapping with ``eigvec`` (w_dim, w_dim), in whose columns the
  eigenvectors are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.io.files import read_npz

LISTED_CHANNEL = re.compile(r"[0-9]{1,2}[_,:\s]+[0-9]{1,4}\b")
"""A style channel as StyleSpace's lists name it: layer and channel."""
LISTS = (".txt", ".csv", ".tsv", ".json")
"""Suffixes of lists of style channels."""


def read_components(path: Path, tensors: Mapping[str, Tensor]) -> Float[Tensor, "n w_dim"] | None:
    """Return the directions among the ``tensors`` of a file, in their order; None where it isn't such a file.

    Raises GanvasError where they aren't of W.
    """
    if "eigvec" in tensors:
        axes = tensors["eigvec"]
        if axes.ndim != 2 or axes.shape[0] < axes.shape[1]:
            raise GanvasError(f"{path} holds eigenvectors of shape {tuple(axes.shape)}: SeFa's are (w_dim, w_dim).")
        return axes.T.contiguous()
    if "act_comp" not in tensors and "lat_comp" not in tensors:
        return None
    names = ["act_comp", "lat_comp"] if path.stem.endswith("_w") else ["act_comp"]
    for name in names:
        axes = tensors.get(name, torch.empty(0))
        if axes.ndim in (2, 3) and axes.numel() and axes.shape[1:-1] in ((), (1,)):
            return axes.reshape(len(axes), -1)
    shape = tuple(tensors["act_comp"].shape) if "act_comp" in tensors else "none"
    raise GanvasError(
        f"{path} holds GANSpace's components of a layer's features (act_comp {shape}), not of w: take those of the layer "
        "'style', computed with --use_w."
    )


def read_arrays(path: Path) -> dict[str, Tensor]:
    """Read the arrays of a .npz file as float32 tensors. Raises GanvasError as ``read_npz`` does."""
    return {name: torch.from_numpy(array.astype("float32")) for name, array in read_npz(path).items()}


def check_no_channels(path: Path) -> None:
    """Raise GanvasError where a text lists single style channels."""
    if path.suffix.lower() not in LISTS or not path.is_file():
        return
    with path.open("rb") as file:
        lines = file.read(4096).decode("utf-8", "replace").splitlines()
    if any(LISTED_CHANNEL.match(line.lstrip(' "[({')) for line in lines):
        raise GanvasError(
            f"{path} lists single style channels (StyleSpace), which aren't supported: ganvas's editors move codes in W and "
            "W+. `ganvas fit stylespace` finds channels of a generator of its own."
        )
