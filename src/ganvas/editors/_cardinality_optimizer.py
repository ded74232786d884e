"""Moves without H: each code climbs by itself to where the latent classifiers see the count that it is to have.

What H is to learn for all codes at once is found for each one: gradient ascent, in coordinates, of the classifiers' mean
log-probability of y + α, at the same cost of the way and with the same care for what was there as in learning H.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ganvas.editors._cardinality_moves import CodeVectors, Coordinates, Vectors
from ganvas.editors._count_classifier import CountClassifier, CountRanges, Counts, vote_counts


@dataclass(frozen=True)
class Preservation:
    """What stays. ``one_sided[k]``: attribute k is the parts' sum, so that none may fall where k grows, and none rise where
    k falls; ``own[k]``: the column of attribute k among the parts, -1 where it isn't one."""

    one_sided: tuple[bool, ...]
    own: tuple[int, ...]

    def lost(self, change: Tensor, attribute: Tensor, sign: Tensor) -> Tensor:
        """(n,): how many of the parts went, or came where objects were removed; of a part itself, how many others changed.

        ``change`` (n, parts) of the parts, where attribute ``attribute`` (n,) was moved by ``sign`` (n,).
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
    """What moves cost beside the count's loss: ``weight`` (λ) of the length, ``density`` of leaving the distribution,
    ``preserve`` of parts lost. ``scale``: the root mean square distance of codes from their mean."""

    weight: float
    density: float
    preserve: float
    scale: float

    def of_way(self, x: Coordinates, step: Coordinates, moved: Vectors) -> Tensor:
        """(n,): what it costs that coordinates ``x`` move by ``step``, and vectors by ``moved``."""
        # The root's slope is infinite at 0, where every way begins.
        cost = self.weight * (moved.square().sum(1) + 1e-12).sqrt() / self.scale
        if self.density:
            cost = cost + self.density * ((x + step).square().mean(1) - x.square().mean(1)).clamp(min=0)
        return cost


@dataclass(frozen=True)
class CodeOptimizer:
    """``steps`` of Adam with ``rate``, in coordinates, at the same costs as in learning H."""

    places: CodeVectors
    classifiers: list[CountClassifier]
    keeper: CountClassifier | None
    care: Preservation
    costs: MoveCosts
    steps: int
    rate: float

    @property
    def heads(self) -> CountRanges:
        """The range of each count."""
        return self.classifiers[0].heads

    def move(self, codes: Vectors, changes: Tensor) -> Vectors:
        """What vectors move by for changes (n, attributes): successive unit moves, the last one in part; of several attributes,
        each from where the one before led, in the attributes' order."""
        start, left = codes, changes
        while left.ne(0).any():
            now = left.clamp(-1, 1)
            for k in now.ne(0).any(0).nonzero()[:, 0].tolist():
                rows = now[:, k].ne(0).nonzero()[:, 0]
                part = self.unit(codes[rows], k, now[rows, k].sign())
                codes = codes.index_add(0, rows, part * now[rows, k].abs()[:, None])
            left = left - now
        return codes - start

    def unit(self, codes: Vectors, k: int, sign: Tensor) -> Vectors:
        """What vectors move by for one object more or less (``sign``, (n,)) of attribute ``k``; nothing where there's no such
        count."""
        before = vote_counts(self.classifiers, codes)
        target = before.clone()
        target[:, k] += sign.long()
        able = self.heads.contains(target)[:, k]
        target = self.heads.clamp(target)
        codes = codes.detach()
        x = self.places.project(codes)
        with torch.enable_grad():
            step = torch.zeros_like(x).requires_grad_()
            optimizer = torch.optim.Adam([step], self.rate)
            for _ in range(self.steps):
                # Of a sum each code's gradient is its own: what else is in the batch doesn't matter.
                (loss,) = torch.autograd.grad(self._loss(codes, x, step, target, k, sign).sum(), step)
                step.grad = loss
                optimizer.step()
        return self.places.unproject(step.detach()) * able[:, None]

    def _loss(self, codes: Vectors, x: Coordinates, step: Tensor, target: Counts, k: int, sign: Tensor) -> Tensor:
        moved = self.places.unproject(step)
        loss = torch.stack([network.losses(codes + moved, target)[:, k] for network in self.classifiers]).mean(0)
        loss = loss + self.costs.of_way(x, step, moved)
        if self.keeper is not None:
            change = self.keeper.expected(codes + moved) - self.keeper.expected(codes)
            loss = loss + self.costs.preserve * self.care.lost(change, torch.full_like(target[:, 0], k), sign)
        return loss
