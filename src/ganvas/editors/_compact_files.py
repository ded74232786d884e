"""Checks of what a compact editor's file holds: its options against the shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ganvas.editors.base import EditorMetadata
from ganvas.errors import GanvasError


def check_local_options(metadata: EditorMetadata, shape: torch.Size | None) -> None:
    """Raise GanvasError where the options of local moves are impossible, or don't fit moves of ``shape``."""
    names, w_dim = metadata.options.get("local", []), metadata.probe.weight.shape[0]
    is_known = isinstance(names, list) and all(name in metadata.attributes for name in names)
    if not is_known or len({*names}) != len(names):
        raise GanvasError(f"The names of local moves are damaged: {names!r} aren't attributes, each once.")
    if (shape is None) != (not names) or (
        shape is not None and (len(shape) != 3 or shape[0] != len(names) or not shape[1] or shape[2] != w_dim)
    ):
        raise GanvasError(f"Local moves of {names} don't have the shape {shape and tuple(shape)}.")
    limit = metadata.options.get("local_limit")
    is_limit = isinstance(limit, int | float) and not isinstance(limit, bool) and 0 < limit < float("inf")
    if names and not is_limit:
        raise GanvasError(f"The limit of local moves must be a number above 0, not {limit!r}.")


def check_p_options(metadata: EditorMetadata, shapes: Mapping[str, torch.Size]) -> None:
    """Raise GanvasError where an editor's option ``keep_typical`` and the shapes of its tensors of P don't fit each other."""
    w_dim = metadata.probe.weight.shape[0]
    found = {name: tuple(shapes[name]) for name in ("p_mean", "p_whitening", "p_slope") if name in shapes}
    whitened = next(iter(found.get("p_whitening", ())), 0)
    needed = {"p_mean": (w_dim,), "p_whitening": (whitened, w_dim), "p_slope": (1,)}
    is_kept = metadata.options.get("keep_typical", False)
    if found != (needed if is_kept else {}) or (is_kept and not 1 <= whitened <= w_dim):
        raise GanvasError(
            f"The tensors of P have shapes {found}, where W has {w_dim} dimensions and keep_typical is {is_kept}."
        )
