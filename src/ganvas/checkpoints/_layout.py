"""Taking weights out of a foreign state dict under ganvas's names, with the errors where they are missing or of other shapes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ganvas.checkpoints._budget import ReadBudget, format_printable
from ganvas.checkpoints._torch import StoredTensor
from ganvas.errors import GanvasError


def get_length(
    weights: Mapping[str, Tensor | StoredTensor], name: str, axis: int, axes: int, budget: ReadBudget
) -> int:
    """Return the length of one axis of a weight that has ``axes`` of them. Raises GanvasError where it hasn't, or is missing."""
    if name not in weights:
        raise GanvasError(f"{budget.origin} lacks the weights {format_printable(name)}.")
    shape = tuple(weights[name].shape)
    if len(shape) != axes or 0 in shape:
        raise GanvasError(
            f"{budget.origin} has {format_printable(name)} of shape {shape}: {axes} axes without zeros are expected."
        )
    return shape[axis]


def take_weight(weights: Mapping[str, Tensor], name: str, size: tuple[int, ...], budget: ReadBudget) -> Tensor:
    """Return a weight in the shape ``size``, from which it may differ in axes of length one only.

    Raises GanvasError where it is missing or differs more.
    """
    if name not in weights:
        raise GanvasError(f"{budget.origin} lacks the weights {format_printable(name)}.")
    shape = tuple(weights[name].shape)
    if [n for n in shape if n != 1] != [n for n in size if n != 1]:
        raise GanvasError(f"{budget.origin} has {format_printable(name)} of shape {shape}, where {size} belongs.")
    return weights[name].reshape(size)


def count_layers(weights: Mapping[str, Tensor | StoredTensor], pattern: str, start: int = 0, step: int = 1) -> int:
    """Count the names ``pattern.format(start)``, ``pattern.format(start + step)``, … up to the first that is missing."""
    count = 0
    while pattern.format(start + count * step) in weights:
        count += 1
    return count
