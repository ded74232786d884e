"""H of the cardinality editor, and the vectors that it sees codes as."""

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
    """Codes as vectors: the mean of each group's rows, one after the other; and their coordinates, of variance 1 each.

    Coordinates lie along the leading principal components, or (``basis`` None) they are the numbers themselves.
    """

    def __init__(self, groups: Groups, mean: Tensor, deviations: Tensor, basis: Tensor | None) -> None:
        super().__init__()
        self.groups = groups
        self.mean, self.deviations = nn.Buffer(mean), nn.Buffer(deviations)
        self.basis = None if basis is None else nn.Buffer(basis)

    def flatten(self, ws: WPlus) -> Vectors:
        """(n, groups · w_dim)."""
        return flatten(ws, self.groups)

    def spread(self, moved: Vectors) -> Float[Tensor, "n rows w_dim"]:
        """What each row of a code moves by where its vector moves by ``moved``; one row for all where they are one group."""
        rows = moved.unflatten(1, (len(self.groups), -1))
        if len(self.groups) == 1:
            return rows
        owner = [k for _, k in sorted((row, k) for k, group in enumerate(self.groups) for row in group)]
        return rows[:, owner]

    def project(self, codes: Vectors) -> Coordinates:
        """The coordinates of vectors."""
        centred = codes - self.mean
        return (centred if self.basis is None else centred @ self.basis.T) / self.deviations

    def unproject(self, moved: Coordinates) -> Vectors:
        """What vectors move by where their coordinates move by ``moved``."""
        scaled = moved * self.deviations
        return scaled if self.basis is None else scaled @ self.basis


def flatten(ws: WPlus, groups: Groups) -> Vectors:
    """The mean of each group's rows, one after the other."""
    return torch.cat([ws[:, list(group)].mean(1) for group in groups], 1)


class CountDirections(nn.Module):
    """H(z) for each attribute, in coordinates: linear; with ``width``, plus a hidden layer of that many.

    ``signs``: 1, the same H adds and removes (the paper's α·H(z)); 2, one adds and another removes. ``pieces``: a unit move
    is made in so many small ones, each from where the last one led.
    """

    def __init__(self, attributes: int, coordinates: int, signs: int, width: int, pieces: int) -> None:
        super().__init__()
        k, c = attributes * signs, coordinates
        self.signs, self.pieces = signs, pieces
        self.maps, self.biases = nn.Parameter(torch.zeros(k, c, c)), nn.Parameter(torch.zeros(k, c))
        self.first = nn.Parameter(torch.randn(k, c, width) / c**0.5) if width else None
        self.second = nn.Parameter(torch.zeros(k, width, c)) if width else None
        self.gains = nn.Buffer(torch.ones(k))

    def directions(self, x: Coordinates, k: int) -> Coordinates:
        """The ``k``-th H at ``x``."""
        found = torch.addmm(self.biases[k], x, self.maps[k])
        if self.first is not None and self.second is not None:
            found = found + torch.relu(x @ self.first[k]) @ self.second[k]
        return found * self.gains[k]

    def unit(self, x: Coordinates, amounts: Float[Tensor, "n attributes"]) -> Coordinates:
        """What coordinates move by for ``amounts`` of -1 to 1 objects of each attribute, moved together."""
        start = x
        wanted = amounts.ne(0).any(0).nonzero()[:, 0].tolist()
        for _ in range(self.pieces):
            step = torch.zeros_like(x)
            for k in wanted:
                part = amounts[:, k : k + 1] / self.pieces
                if self.signs == 1:
                    step = step + part * self.directions(x, k)
                else:
                    adding, removing = self.directions(x, 2 * k), self.directions(x, 2 * k + 1)
                    step = step + part.clamp(min=0) * adding - part.clamp(max=0) * removing
            x = x + step
        return x - start

    def move(self, x: Coordinates, changes: Float[Tensor, "n attributes"]) -> Coordinates:
        """What coordinates move by for any changes: unit moves, each from where the last one led, the last one in part."""
        start, left = x, changes
        while left.ne(0).any():
            now = left.clamp(-1, 1)
            x, left = x + self.unit(x, now), left - now
        return x - start
