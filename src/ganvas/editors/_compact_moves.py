"""How far the compact editor's code moves for a change of 1: found and measured on held-out codes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ganvas.editors._compact_network import Perceptron
from ganvas.editors._compact_truncation import TypicalShell, shrink_to_shell
from ganvas.editors.base import response_gains

MAX_LENGTH = 30.0
"""The Mahalanobis length that a change of 1 may have before it is drawn in: what nothing reads would ask for moves without end.
On ffhq moves are 5 long on average even with ``hold=None`` (experiments/ffhq/hold.py)."""
STEP = 0.25
"""Of a code, to measure how the decoder follows it."""


@dataclass(frozen=True)
class MoveCalibrationSet:
    """What moves are tried on.

    ``x``: the components (n, components) of codes of W, their compact ``data.codes`` (n, dim) and the ``decoder``
    back; the ``shell`` that moves are drawn into; ``aims`` (components, K), what moves are to change.
    """

    x: Tensor
    codes: Tensor
    decoder: Perceptron
    shell: TypicalShell
    aims: Tensor

    def moved(self, moves: Tensor, k: int, change: float) -> Tensor:
        """By how much a change of attribute k moves components, (n, components)."""
        straight = self.decoder(self.codes + change * moves[k]) - self.decoder(self.codes)
        named = torch.zeros(1, len(moves)).to(moves)
        named[:, k] = abs(change)
        return shrink_to_shell(self.x, self.x + straight, named, self.shell) - self.x


@dataclass(frozen=True)
class MoveStatistics:
    """Of changes of each attribute, (K,) each; for what a change of 1 does.

    ``response``: how far its own reading moves, by least squares over changes of ±1 and ±2. ``length``: the mean Mahalanobis
    length of the move. ``others``: the mean |change| of the other readings.
    """

    response: Tensor
    length: Tensor
    others: Tensor


def calibrate_moves(ground: MoveCalibrationSet, moves: Tensor, hold: float | None) -> Tensor:
    """The moves (K, dim), scaled so that each moves its reading by 1, as far as ``MAX_LENGTH`` allows; always finite.

    ``moves`` are those for ``hold=None``. Scaled twice, since the way may be curved.
    """
    moves = _bounded(ground, moves if hold is None else _cheapest(ground, hold))
    for _ in range(2):
        moves = _bounded(ground, moves * response_gains(measure_moves(ground, moves).response)[:, None])
    return moves


def measure_moves(ground: MoveCalibrationSet, moves: Tensor) -> MoveStatistics:
    """What the moves do on average."""
    k = len(moves)
    response, length, others = (moves.new_zeros(k) for _ in range(3))
    for j in range(k):
        for change in (-2.0, -1.0, 1.0, 2.0):
            moved = ground.moved(moves, j, change)
            readings = (moved @ ground.shell.readings).mean(0)
            response[j] += change * readings[j] / 10
            if change == 1:
                length[j] = (moved / ground.shell.deviations).norm(dim=1).mean()
                others[j] = (readings.abs().sum() - readings[j].abs()) / max(k - 1, 1)
    return MoveStatistics(response, length, others)


def _lengths(ground: MoveCalibrationSet, moves: Tensor) -> Tensor:
    """Of the moves before they are drawn in."""
    before = ground.decoder(ground.codes)
    parts = [(ground.decoder(ground.codes + move) - before) / ground.shell.deviations for move in moves]
    return torch.stack([part.norm(dim=1).mean() for part in parts])


def _bounded(ground: MoveCalibrationSet, moves: Tensor) -> Tensor:
    """The moves at most ``MAX_LENGTH`` long; 0 where they aren't finite or can't be measured."""
    moves = torch.where(moves.isfinite().all(1, keepdim=True), moves, 0.0)
    for _ in range(5):  # the way is curved: once may leave some too long
        excess = _lengths(ground, moves).nan_to_num(nan=torch.inf, posinf=torch.inf) / MAX_LENGTH
        if (excess <= 1).all():
            break
        moves = moves / excess.clamp(min=1)[:, None]
    return moves


def _cheapest(ground: MoveCalibrationSet, hold: float) -> Tensor:
    """The cheapest moves that change one reading by 1 each; see ``compact``. Not finite where nothing changes a reading."""
    c, before = ground.codes, ground.decoder(ground.codes)
    steps = STEP * torch.eye(c.shape[1]).to(c)
    jacobian = torch.stack([(ground.decoder(c + step) - before) / STEP for step in steps]).double()
    whitened = jacobian / ground.shell.deviations  # (dim, n, components)
    length = torch.einsum("ink,jnk->ij", whitened, whitened) / len(c)
    # A code that the decoder ignores costs nothing and gives nothing.
    length += 1e-6 * length.trace() / len(length) * torch.eye(len(length)).to(length)
    readings, aims = (
        (jacobian.mean(1) @ weight.double()).T for weight in (ground.shell.readings, ground.aims)
    )  # (K, dim)
    # What a move is for costs nothing: each attribute has a price of its own.
    others = readings.T @ readings - torch.einsum("ki,kj->kij", readings, readings)
    cheapest = torch.linalg.solve_ex(length + hold * others, aims[:, :, None]).result[:, :, 0]
    return (cheapest / (cheapest * readings).sum(1, keepdim=True)).to(c)
