"""H of the cardinality editor, and the vectors that represent codes in it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ganvas.types import WPlus

Vectors = Float[Tensor, "n numbers"]
Coordinates = Float[Tensor, "n coordinates"]
Groups = tuple[tuple[int, ...], ...]
"""Rows of W+ that move together."""


class CodeVectors(nn.Module):
    """The map from codes to vectors, the concatenated means of each group's rows, and to coordinates of variance 1 each.

    Coordinates are along the leading principal components or, with ``basis`` None, along the vectors' own axes.
    """

    def __init__(self, groups: Groups, mean: Tensor, deviations: Tensor, basis: Tensor | None) -> None:
        super().__init__()
        self.groups = groups
        self.mean, self.deviations = nn.Buffer(mean), nn.Buffer(deviations)
        self.basis = None if basis is None else nn.Buffer(basis)

    def flatten(self, ws: WPlus) -> Vectors:
        """Return codes as vectors, (n, groups · w_dim)."""
        return flatten(ws, self.groups)

    def expand_rows(self, displacement: Vectors) -> Float[Tensor, "n rows w_dim"]:
        """Return what each row of a code moves by when its vector moves; a single row if all rows are one group."""
        rows = displacement.unflatten(1, (len(self.groups), -1))
        if len(self.groups) == 1:
            return rows
        owner = [k for _, k in sorted((row, k) for k, group in enumerate(self.groups) for row in group)]
        return rows[:, owner]

    def project(self, codes: Vectors) -> Coordinates:
        """Return the coordinates of vectors."""
        centred = codes - self.mean
        return (centred if self.basis is None else centred @ self.basis.T) / self.deviations

    def unproject(self, displacement: Coordinates) -> Vectors:
        """Return what vectors move by when their coordinates move by ``displacement``."""
        scaled = displacement * self.deviations
        return scaled if self.basis is None else scaled @ self.basis


def flatten(ws: WPlus, groups: Groups) -> Vectors:
    """Concatenate the means of each group's rows."""
    return torch.cat([ws[:, list(group)].mean(1) for group in groups], 1)


class CountDirections(nn.Module):
    """H(z) for each attribute, in coordinates: linear, plus a network with a hidden layer of ``width``, if not 0.

    ``signs``: 1, the same H adds and removes (the paper's α·H(z)); 2, one adds and another removes. ``pieces``: the number
    of small steps in a unit move, each from where the last one ended.
    """

    def __init__(self, attributes: int, coordinates: int, signs: int, width: int, pieces: int) -> None:
        super().__init__()
        k, c = attributes * signs, coordinates
        self.signs, self.pieces = signs, pieces
        self.maps, self.biases = nn.Parameter(torch.zeros(k, c, c)), nn.Parameter(torch.zeros(k, c))
        self.first = nn.Parameter(torch.randn(k, c, width) / c**0.5) if width else None
        self.second = nn.Parameter(torch.zeros(k, width, c)) if width else None
        self.gains = nn.Buffer(torch.ones(k))

    def evaluate_direction(self, x: Coordinates, k: int) -> Coordinates:
        """Evaluate the ``k``-th H at ``x``."""
        direction = torch.addmm(self.biases[k], x, self.maps[k])
        if self.first is not None and self.second is not None:
            direction = direction + torch.relu(x @ self.first[k]) @ self.second[k]
        return direction * self.gains[k]

    def move_once(self, x: Coordinates, amounts: Float[Tensor, "n attributes"]) -> Coordinates:
        """Return what coordinates move by for ``amounts`` of -1 to 1 objects of each attribute, moved together."""
        start = x
        attributes = amounts.ne(0).any(0).nonzero()[:, 0].tolist()
        for _ in range(self.pieces):
            step = torch.zeros_like(x)
            for k in attributes:
                part = amounts[:, k : k + 1] / self.pieces
                if self.signs == 1:
                    step = step + part * self.evaluate_direction(x, k)
                else:
                    adding, removing = self.evaluate_direction(x, 2 * k), self.evaluate_direction(x, 2 * k + 1)
                    step = step + part.clamp(min=0) * adding - part.clamp(max=0) * removing
            x = x + step
        return x - start

    def move(self, x: Coordinates, changes: Float[Tensor, "n attributes"]) -> Coordinates:
        """Return what coordinates move by for any changes: successive unit moves, the last one in part."""
        start, left = x, changes
        while left.ne(0).any():
            amounts = left.clamp(-1, 1)
            x, left = x + self.move_once(x, amounts), left - amounts
        return x - start
