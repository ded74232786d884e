"""The compact editor's options, and how they are checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator
from torch import Tensor

from ganvas.editors._compact_network import correlation
from ganvas.editors._compact_training import RECIPES, CompactTraining
from ganvas.errors import GanvasError, unknown
from ganvas.types import Scores, W
from ganvas.validation import Flag, Natural, NonNegative, PositiveInt, Share, validated

CUSTOM_RECIPE = "own"
"""The name that editors store for a recipe that isn't one of ``RECIPES``: their other options state all of it."""


def _parse_hold(hold: Any) -> Any:
    """Convert the text "none" to None, for the command line."""
    return None if isinstance(hold, str) and hold.lower() == "none" else hold


def _parse_matrix(rows: Any) -> Any:
    """Convert a matrix to tuples, () for what isn't rows. Raises GanvasError for an entry that isn't a number."""
    if not isinstance(rows, list | tuple):
        return rows
    if not all(isinstance(row, list | tuple) for row in rows):
        return ()
    try:
        return tuple(tuple(map(float, row)) for row in rows)
    except (TypeError, ValueError, OverflowError):
        raise GanvasError("mref must be a matrix of numbers, or one of identity, labels.") from None


@validated
class CompactConfig:
    """Options of ``compact.fit``, besides the fields of ``CompactTraining``.

    ``components`` of W and ``dim`` of the code: the most; fewer where W or the attributes have fewer.
    ``residual``: an edit keeps what lies beyond the components and what the auto-encoder doesn't reconstruct; without it an
    edited code is the decoder's output, as in the paper (a change of 0 is still the identity).
    ``hold``: the weight with which a change keeps the other readings; None moves c_k alone, as in the paper.
    ``aim``: what moves are to change, the normal "score" (the paper's) or the "probability"; only with ``hold``.
    ``truncation``: the share of the shell's squared radius lost for each Mahalanobis length moved, from 0 (the paper's) to 1.
    ``mref``: M_ref of (5): "identity", "labels" (the labels' own correlation) or a K×K matrix in the attributes' order.
    """

    components: PositiveInt = 60
    dim: PositiveInt = 60
    residual: Flag = True
    mref: Annotated[Any, BeforeValidator(_parse_matrix)] = "identity"
    hold: Annotated[NonNegative | None, BeforeValidator(_parse_hold)] = None
    aim: Literal["score", "probability"] = "score"
    truncation: Share = 0.0
    seed: Natural = 0

    def __post_init__(self) -> None:
        if self.aim == "probability" and self.hold is None:
            raise GanvasError(
                "aim=probability needs hold, without which only c_k moves: give hold a number, or set aim=score."
            )
        if self.truncation and not self.residual:
            raise GanvasError("truncation needs residual: set truncation=0 or residual=true.")


def config_names(*classes: type) -> list[str]:
    """Return the names of the fields of dataclasses."""
    return [field.name for cls in classes for field in fields(cls)]


def recipe_name(recipe: str | Mapping[str, Any]) -> str:
    """Return the name that editors store for a recipe, given by its name or as its options."""
    if isinstance(recipe, str):
        return recipe
    return next((name for name, shipped in RECIPES.items() if shipped == dict(recipe)), CUSTOM_RECIPE)


def parse_config(recipe: str | Mapping[str, Any], options: Mapping[str, Any]) -> tuple[CompactConfig, CompactTraining]:
    """Build both configs from ``options`` on top of the recipe's. Raises GanvasError for a name that neither has."""
    if isinstance(recipe, str) and recipe not in (*RECIPES, CUSTOM_RECIPE):
        raise unknown("recipe", recipe, RECIPES)
    options = update_options(options)
    merged = {**(RECIPES.get(recipe, {}) if isinstance(recipe, str) else update_options(recipe)), **options}
    for name in merged:
        if name not in config_names(CompactConfig, CompactTraining):
            raise unknown("option", name, ["recipe", "attributes", *config_names(CompactConfig, CompactTraining)])
    # A recipe's aim needs hold, and its truncation the residual: without these they are dropped.
    if _parse_hold(merged.get("hold")) is None and "aim" not in options:
        merged.pop("aim", None)
    if not merged.get("residual", True) and "truncation" not in options:
        merged.pop("truncation", None)
    own_options = {name: value for name, value in merged.items() if name in config_names(CompactConfig)}
    return CompactConfig(**own_options), CompactTraining(
        **{name: value for name, value in merged.items() if name not in own_options}
    )


def update_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the option ``bfloat16`` of older editors' files by ``dtype``."""
    renamed = {name: value for name, value in options.items() if name != "bfloat16"}
    if "bfloat16" in options:
        renamed["dtype"] = "bfloat16" if options["bfloat16"] else "float32"
    return renamed


def fit_to_data(settings: CompactConfig, w: W, k: int) -> CompactConfig:
    """Limit ``components`` and ``dim`` to what the data allow. Raises GanvasError where the code can't hold ``k`` attributes."""
    components = min(settings.components, w.shape[1], len(w) - 1)
    dim = settings.dim if components == settings.components else min(settings.dim, max(components, k))
    if dim < k:
        raise GanvasError(f"A code of {dim} numbers can't hold {k} attributes: raise dim, or pick fewer attributes.")
    return replace(settings, components=components, dim=dim)


def check_reference(mref: Any, a: Scores) -> Tensor:
    """Build M_ref, (K, K). Raises GanvasError where it isn't a correlation matrix."""
    k = a.shape[1]
    if mref == "identity":
        return torch.eye(k).to(a)
    if mref == "labels":
        return correlation(a)
    if isinstance(mref, str):
        raise unknown("mref", mref, ["identity", "labels", "a matrix"])
    try:
        matrix = torch.tensor(mref, dtype=torch.float64)
    except (TypeError, ValueError):
        matrix = torch.empty(0)
    if matrix.shape != (k, k) or not torch.isfinite(matrix).all():
        raise GanvasError(f"mref must be a matrix of {k} rows and {k} columns, for {k} attributes.")
    if (
        (matrix - matrix.T).abs().max() > 1e-6
        or (matrix.diagonal() - 1).abs().max() > 1e-6
        or matrix.abs().max() > 1.001
    ):
        raise GanvasError("mref must be a correlation matrix: symmetric, from -1 to 1, with 1 on its diagonal.")
    return matrix.to(a)
