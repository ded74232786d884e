"""The compact editor's moves for a change of 1: calibrated and measured on held-out codes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ganvas.editors._compact_truncation import TypicalShell, shrink_to_shell
from ganvas.editors._networks import Perceptron
from ganvas.editors.base import response_gains

MAX_LENGTH = 30.0
"""The largest Mahalanobis length of a change of 1 before truncation: what no reading follows would need endless moves."""
# On ffhq moves are 5 long on average even with hold=None (experiments/ffhq/hold.py).
DIFFERENCE_STEP = 0.25
"""The step of a code for finite differences of the decoder."""


@dataclass(frozen=True)
class MoveCalibrationSet:
    """The codes and networks that moves are calibrated on.

    ``x``: components of W (n, components); ``codes``: their compact codes (n, dim); ``decoder``: back to components;
    ``shell``: what moves are truncated to; ``aims`` (components, K): the linear readings that moves are to change.
    """

    x: Tensor
    codes: Tensor
    decoder: Perceptron
    shell: TypicalShell
    aims: Tensor

    def apply_move(self, moves: Tensor, k: int, change: float) -> Tensor:
        """Return what a change of attribute k moves components by, (n, components)."""
        straight = self.decoder(self.codes + change * moves[k]) - self.decoder(self.codes)
        named = torch.zeros(1, len(moves)).to(moves)
        named[:, k] = abs(change)
        return shrink_to_shell(self.x, self.x + straight, named, self.shell) - self.x


@dataclass(frozen=True)
class MoveStatistics:
    """What a change of 1 of each attribute does, (K,) each.

    ``response``: how far its own reading moves, by least squares over changes of ±1 and ±2. ``length``: the mean Mahalanobis
    length of the move. ``others``: the mean |change| of the other readings.
    """

    response: Tensor
    length: Tensor
    others: Tensor


def calibrate_moves(calibration: MoveCalibrationSet, moves: Tensor, hold: float | None) -> Tensor:
    """Scale moves (K, dim) so that each moves its reading by 1, as far as ``MAX_LENGTH`` allows; always finite.

    ``moves`` are those for ``hold=None``. They are scaled twice, since the response isn't linear.
    """
    moves = _bound_lengths(calibration, moves if hold is None else _solve_cheapest(calibration, hold))
    for _ in range(2):
        moves = _bound_lengths(calibration, moves * response_gains(measure_moves(calibration, moves).response)[:, None])
    return moves


def measure_moves(calibration: MoveCalibrationSet, moves: Tensor) -> MoveStatistics:
    """Measure what the moves do on average."""
    k = len(moves)
    response, length, others = (moves.new_zeros(k) for _ in range(3))
    for j in range(k):
        for change in (-2.0, -1.0, 1.0, 2.0):
            moved = calibration.apply_move(moves, j, change)
            readings = (moved @ calibration.shell.readings).mean(0)
            response[j] += change * readings[j] / 10
            if change == 1:
                length[j] = (moved / calibration.shell.deviations).norm(dim=1).mean()
                others[j] = (readings.abs().sum() - readings[j].abs()) / max(k - 1, 1)
    return MoveStatistics(response, length, others)


def _measure_lengths(calibration: MoveCalibrationSet, moves: Tensor) -> Tensor:
    """Measure the mean Mahalanobis lengths of moves before truncation."""
    before = calibration.decoder(calibration.codes)
    parts = [(calibration.decoder(calibration.codes + move) - before) / calibration.shell.deviations for move in moves]
    return torch.stack([part.norm(dim=1).mean() for part in parts])


def _bound_lengths(calibration: MoveCalibrationSet, moves: Tensor) -> Tensor:
    """Shorten moves to ``MAX_LENGTH``; 0 where they aren't finite or can't be measured."""
    moves = torch.where(moves.isfinite().all(1, keepdim=True), moves, 0.0)
    for _ in range(5):  # lengths aren't linear in the move: once may leave some too long
        excess = _measure_lengths(calibration, moves).nan_to_num(nan=torch.inf, posinf=torch.inf) / MAX_LENGTH
        if (excess <= 1).all():
            break
        moves = moves / excess.clamp(min=1)[:, None]
    return moves


def _solve_cheapest(calibration: MoveCalibrationSet, hold: float) -> Tensor:
    """Solve for the cheapest moves that change one reading by 1 each (see ``compact``); not finite where nothing does."""
    c, before = calibration.codes, calibration.decoder(calibration.codes)
    steps = DIFFERENCE_STEP * torch.eye(c.shape[1]).to(c)
    jacobian = torch.stack([(calibration.decoder(c + step) - before) / DIFFERENCE_STEP for step in steps]).double()
    whitened = jacobian / calibration.shell.deviations  # (dim, n, components)
    length = torch.einsum("ink,jnk->ij", whitened, whitened) / len(c)
    # Keeps the matrix regular where the decoder ignores a code.
    length += 1e-6 * length.trace() / len(length) * torch.eye(len(length)).to(length)
    readings, aims = (
        (jacobian.mean(1) @ weight.double()).T for weight in (calibration.shell.readings, calibration.aims)
    )  # (K, dim)
    # The cost leaves out the reading that the move is for, so each attribute has its own matrix.
    others = readings.T @ readings - torch.einsum("ki,kj->kij", readings, readings)
    cheapest = torch.linalg.solve_ex(length + hold * others, aims[:, :, None]).result[:, :, 0]
    return (cheapest / (cheapest * readings).sum(1, keepdim=True)).to(c)
