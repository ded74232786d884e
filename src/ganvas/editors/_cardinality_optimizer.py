"""Moves without H: each code is optimised by itself until the latent classifiers expect the requested count.

Gradient descent, in coordinates, on the classifiers' mean loss for the count y + α, with the same costs of the move and of
lost parts as in training H.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ganvas.editors._cardinality_moves import CodeVectors, Coordinates, Vectors
from ganvas.editors._count_classifier import CountClassifier, CountRanges, Counts, vote_counts


@dataclass(frozen=True)
class Preservation:
    """Which parts must stay when an attribute moves.

    ``one_sided[k]``: attribute k is the sum of the parts, so that none may fall where k grows, and none rise where k falls.
    ``own[k]``: the column of attribute k among the parts, -1 where it isn't one.
    """

    one_sided: tuple[bool, ...]
    own: tuple[int, ...]

    def sum_unwanted_changes(self, change: Tensor, attribute: Tensor, sign: Tensor) -> Tensor:
        """Sum the unwanted changes of the parts, (n,).

        ``change`` (n, parts): of the parts, where attribute ``attribute`` (n,) was moved by ``sign`` (n,). For a sum of the
        parts, changes against ``sign`` are unwanted; for others, all changes of other parts.
        """
        others = change.new_ones(len(self.own), change.shape[1])
        for k, own in enumerate(self.own):
            if own >= 0:
                others[k, own] = 0
        one_sided = torch.tensor(self.one_sided, device=change.device)[attribute, None]
        lost = torch.where(one_sided, (-change * sign[:, None]).clamp(min=0), change.abs())
        return (lost * others[attribute]).sum(1)


@dataclass(frozen=True)
class MoveCosts:
    """The weights of what a move costs beside the loss of the count.

    ``weight`` (λ): of its length; ``density``: of leaving the distribution; ``preserve``: of lost parts. ``scale``: the root
    mean square distance of codes from their mean, the unit of length.
    """

    weight: float
    density: float
    preserve: float
    scale: float

    def compute_cost(self, x: Coordinates, step: Coordinates, displacement: Vectors) -> Tensor:
        """Return the cost (n,) of a move of coordinates ``x`` by ``step``, and of vectors by ``displacement``."""
        # The root's slope is infinite at 0, where every move begins.
        cost = self.weight * (displacement.square().sum(1) + 1e-12).sqrt() / self.scale
        if self.density:
            cost = cost + self.density * ((x + step).square().mean(1) - x.square().mean(1)).clamp(min=0)
        return cost


@dataclass(frozen=True)
class CodeOptimizer:
    """Optimises codes by ``steps`` of Adam with ``rate``, in coordinates, with the same costs as in training H."""

    places: CodeVectors
    classifiers: list[CountClassifier]
    keeper: CountClassifier | None
    preservation: Preservation
    costs: MoveCosts
    steps: int
    rate: float

    @property
    def ranges(self) -> CountRanges:
        """The range of each count."""
        return self.classifiers[0].ranges

    def move(self, codes: Vectors, changes: Tensor) -> Vectors:
        """Return what vectors move by for changes (n, attributes): successive unit moves, the last one in part.

        Several attributes move one after the other, in their order.
        """
        start, left = codes, changes
        while left.ne(0).any():
            amounts = left.clamp(-1, 1)
            for k in amounts.ne(0).any(0).nonzero()[:, 0].tolist():
                rows = amounts[:, k].ne(0).nonzero()[:, 0]
                displacement = self.move_once(codes[rows], k, amounts[rows, k].sign())
                codes = codes.index_add(0, rows, displacement * amounts[rows, k].abs()[:, None])
            left = left - amounts
        return codes - start

    def move_once(self, codes: Vectors, k: int, sign: Tensor) -> Vectors:
        """Return what vectors move by for one object more or less (``sign``, (n,)) of attribute ``k``.

        Codes whose count would leave the range don't move.
        """
        before = vote_counts(self.classifiers, codes)
        target = before.clone()
        target[:, k] += sign.long()
        possible = self.ranges.contains(target)[:, k]
        target = self.ranges.clamp(target)
        codes = codes.detach()
        x = self.places.project(codes)
        with torch.enable_grad():
            step = torch.zeros_like(x).requires_grad_()
            optimizer = torch.optim.Adam([step], self.rate)
            for _ in range(self.steps):
                # Each code's gradient of a sum is its own: the result doesn't depend on the batch.
                (gradient,) = torch.autograd.grad(self._compute_loss(codes, x, step, target, k, sign).sum(), step)
                step.grad = gradient
                optimizer.step()
        return self.places.unproject(step.detach()) * possible[:, None]

    def _compute_loss(
        self, codes: Vectors, x: Coordinates, step: Tensor, target: Counts, k: int, sign: Tensor
    ) -> Tensor:
        displacement = self.places.unproject(step)
        loss = torch.stack([network.losses(codes + displacement, target)[:, k] for network in self.classifiers]).mean(0)
        loss = loss + self.costs.compute_cost(x, step, displacement)
        if self.keeper is not None:
            change = self.keeper.estimate_counts(codes + displacement) - self.keeper.estimate_counts(codes)
            loss = loss + self.costs.preserve * self.preservation.sum_unwanted_changes(
                change, torch.full_like(target[:, 0], k), sign
            )
        return loss
