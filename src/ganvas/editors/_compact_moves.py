"""Moves of the compact editor: what a change of an attribute moves a code by, solved for and calibrated on codes.

See ``compact`` for what they are. Long moves are truncated to the shell that codes of W lie in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganvas.editors._networks import Perceptron
from ganvas.editors.base import compute_response_gains

MAX_LENGTH = 30.0
"""The largest Mahalanobis length of a change of 1 before truncation; an attribute that no move changes would need more."""
# experiments/ffhq/hold.py measures lengths.
DIFFERENCE_STEP = 0.25
"""The step of a code for finite differences of the decoder."""
MIN_HOLD_POWER, BISECTION_STEPS = -16.0, 20
"""The exponent of 2 of the smallest factor that scales weights where moves must be shorter, and the steps of its search."""
MIN_RESPONSE = 0.05
"""The least that a change of 1 is taken to move the reading of its attribute by."""
MIN_SQUARED_RADIUS_SHARE = 0.1
"""The least share of the squared radius that is left, however large the change."""
MIN_REST_SHARE = 0.1
"""The share of it that the rest keeps where the changed attributes alone fill the shell."""
HALF_KEPT_CHANGE = 0.1
"""The change, in standard deviations, with which an attribute's reading is kept by half: too small to be visible."""


class TypicalShell(nn.Module):
    """The shell of codes: ``deviations`` (components,) whiten, ``readings`` (components, K) read the attributes; see the option
    ``truncation``."""

    deviations: Tensor
    readings: Tensor
    protected: Tensor

    def __init__(
        self, deviations: Tensor, readings: Tensor, truncation: float, protected: Sequence[bool] | None = None
    ) -> None:
        super().__init__()
        # Not saved: all follow from what an editor's file holds.
        self.register_buffer("deviations", deviations, persistent=False)
        self.register_buffer("readings", readings, persistent=False)
        mask = torch.tensor(protected or [False] * readings.shape[1]).to(readings)
        self.register_buffer("protected", mask, persistent=False)
        self.truncation = truncation

    def add_protected(self, kept_amounts: Tensor) -> Tensor:
        """Return ``kept_amounts`` (n, K) of ``shrink_to_shell`` with protected attributes kept like the one that changes most."""
        return torch.maximum(kept_amounts, self.protected.to(kept_amounts) * kept_amounts.amax(1, keepdim=True))


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
        kept_amounts = torch.zeros(1, len(moves)).to(moves)
        kept_amounts[:, k] = abs(change)
        return shrink_to_shell(self.x, self.x + straight, self.shell.add_protected(kept_amounts), self.shell) - self.x


@dataclass(frozen=True)
class MoveStatistics:
    """What a change of 1 of each attribute does, (K,) each.

    ``response``: how far its own reading moves, by least squares over changes of ±1 and ±2. ``length``: the mean Mahalanobis
    length of the move. ``others``: the absolute mean change of the other readings, averaged over these.
    """

    response: Tensor
    length: Tensor
    others: Tensor


def calibrate_moves(
    calibration: MoveCalibrationSet, moves: Tensor, weights: Tensor | None, max_unit_length: float | None = None
) -> Tensor:
    """Scale moves (K, dim) so that each moves its reading by 1, as far as ``MAX_LENGTH`` allows; always finite.

    ``weights`` (K, K): those of ``compute_held_weights``; None keeps ``moves``, those for ``hold=None``. ``max_unit_length``: see
    ``solve_within``. Moves are scaled twice, since the response isn't linear.
    """
    if weights is not None:
        linearized = linearize_codes(calibration)
        readings, aims = (
            linearized.jacobian @ each.double() for each in (calibration.shell.readings, calibration.aims)
        )
        moves = solve_within(linearized, readings, aims, weights.to(readings), max_unit_length).to(moves)
    moves = limit_lengths(calibration, moves)
    for _ in range(2):
        moves = limit_lengths(
            calibration, moves * compute_response_gains(measure_moves(calibration, moves).response)[:, None]
        )
    return moves


def measure_moves(calibration: MoveCalibrationSet, moves: Tensor) -> MoveStatistics:
    """Measure what the moves do on average."""
    k = len(moves)
    response, length, others = (moves.new_zeros(k) for _ in range(3))
    for j in range(k):
        for change in (-2.0, -1.0, 1.0, 2.0):
            moved = calibration.apply_move(moves, j, change)
            readings = (moved @ calibration.shell.readings).mean(0)
            response[j] += change * readings[j] / 10  # the sum of the squared changes
            if change == 1:
                length[j] = (moved / calibration.shell.deviations).norm(dim=1).mean()
                others[j] = (readings.abs().sum() - readings[j].abs()) / max(k - 1, 1)
    return MoveStatistics(response, length, others)


def _measure_lengths(calibration: MoveCalibrationSet, moves: Tensor) -> Tensor:
    """Measure the mean Mahalanobis lengths of moves before truncation."""
    before = calibration.decoder(calibration.codes)
    parts = [(calibration.decoder(calibration.codes + move) - before) / calibration.shell.deviations for move in moves]
    return torch.stack([part.norm(dim=1).mean() for part in parts])


def limit_lengths(calibration: MoveCalibrationSet, moves: Tensor) -> Tensor:
    """Shorten moves to about ``MAX_LENGTH``; 0 where they aren't finite or can't be measured."""
    moves = torch.where(moves.isfinite().all(1, keepdim=True), moves, 0.0)
    for _ in range(5):  # lengths aren't linear in the move: once may leave some too long
        excess = _measure_lengths(calibration, moves).nan_to_num(nan=torch.inf, posinf=torch.inf) / MAX_LENGTH
        if (excess <= 1).all():
            break
        moves = moves / excess.clamp(min=1)[:, None]
    return moves


@dataclass(frozen=True)
class LinearizedCodes:
    """What a small move of the code does on average: ``metric`` (dim, dim), the quadratic form of its squared Mahalanobis length,
    and the components that it moves, ``jacobian`` (dim, components)."""

    metric: Tensor
    jacobian: Tensor


def linearize_codes(calibration: MoveCalibrationSet) -> LinearizedCodes:
    """Linearise the decoder by finite differences, in float64."""
    c, before = calibration.codes, calibration.decoder(calibration.codes)
    steps = DIFFERENCE_STEP * torch.eye(c.shape[1]).to(c)
    jacobian = torch.stack([(calibration.decoder(c + step) - before) / DIFFERENCE_STEP for step in steps]).double()
    whitened = jacobian / calibration.shell.deviations  # (dim, n, components)
    metric = torch.einsum("ink,jnk->ij", whitened, whitened) / len(c)
    # Keeps the matrix regular where the decoder ignores a code.
    metric += 1e-6 * metric.trace() / len(metric) * torch.eye(len(metric)).to(metric)
    return LinearizedCodes(metric, jacobian.mean(1))


def solve_cheapest(linearized: LinearizedCodes, readings: Tensor, aims: Tensor, weights: Tensor) -> Tensor:
    """Solve for the cheapest moves (K, dim) that change one reading by 1 each (see ``compact``); not finite where nothing does.

    ``readings`` and ``aims``: how far each code moves what is held, and what is aimed at, (dim, K).
    """
    # Each attribute has its own cost of the other readings.
    others = torch.einsum("kl,il,jl->kij", weights.to(readings), readings, readings)
    cheapest = torch.linalg.solve_ex(linearized.metric + others, aims.T[:, :, None]).result[:, :, 0]
    return cheapest / (cheapest * readings.T).sum(1, keepdim=True)


def solve_within(
    linearized: LinearizedCodes, readings: Tensor, aims: Tensor, weights: Tensor, max_unit_length: float | None
) -> Tensor:
    """Solve for the cheapest moves (K, dim) that are no longer than ``max_unit_length``, if holding others less makes them so.

    The other arguments are those of ``solve_cheapest``: a move that is too long has its ``weights`` scaled down, all alike.
    """
    moves = solve_cheapest(linearized, readings, aims, weights)
    if max_unit_length is None:
        return moves

    def is_short(moves: Tensor) -> Tensor:
        return torch.einsum("ki,ij,kj->k", moves, linearized.metric, moves) <= max_unit_length**2

    enough = is_short(moves)[:, None]
    low, high = (torch.full((len(moves), 1), power).to(weights) for power in (MIN_HOLD_POWER, 0.0))
    for _ in range(BISECTION_STEPS):
        middle = (low + high) / 2
        short = is_short(solve_cheapest(linearized, readings, aims, 2**middle * weights))[:, None]
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return torch.where(enough, moves, solve_cheapest(linearized, readings, aims, 2**low * weights))


def shrink_to_shell(x: Tensor, y: Tensor, kept_amounts: Tensor, shell: TypicalShell) -> Tensor:
    """Shrink moved components ``y`` (n, components) into the shell of those of ``x``.

    The radius is the code's own, or the mean one of codes where that is larger (so truncated codes have room); its square
    shrinks by ``truncation`` for each Mahalanobis length moved. ``kept_amounts`` (n, K), at least 0: how much the reading of each
    attribute is kept as it is in ``y``, by half at ``HALF_KEPT_CHANGE`` and nearly all at 1; where those readings alone
    leave the shell, so does the result. It is a continuous function of its arguments, so tiny changes have tiny effects.
    """
    if not shell.truncation:
        return y
    before, after = x / shell.deviations, y / shell.deviations
    share = (1 - shell.truncation * (after - before).norm(dim=1, keepdim=True)).clamp(min=MIN_SQUARED_RADIUS_SHARE)
    squared_radius = share * before.square().sum(1, keepdim=True).clamp(min=x.shape[1])
    kept = _project_on_readings(after, kept_amounts, shell.deviations[:, None] * shell.readings)
    rest = after - kept
    room = torch.maximum(squared_radius - kept.square().sum(1, keepdim=True), MIN_REST_SHARE * squared_radius)
    shrunk = rest * (room / rest.square().sum(1, keepdim=True).clamp(min=1e-12)).sqrt().clamp(max=1)
    return (kept + shrunk) * shell.deviations


def _project_on_readings(x: Tensor, kept_amounts: Tensor, readings: Tensor) -> Tensor:
    """Project each row of ``x`` on the directions of the readings with ``kept_amounts``, by a ridge projection."""
    used = kept_amounts.ne(0).any(0)
    if not used.any():
        return torch.zeros_like(x)
    directions = torch.nn.functional.normalize(readings[:, used], dim=0).to(x)
    weights = kept_amounts[:, used]
    gram = weights[:, :, None] * weights[:, None] * (directions.T @ directions) + HALF_KEPT_CHANGE**2 * torch.eye(
        len(weights.T), dtype=x.dtype, device=x.device
    )
    right = weights * (x @ directions)
    return (weights * torch.linalg.solve(gram, right[:, :, None])[:, :, 0]) @ directions.T


def split_changes(changes: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """Split changes of local attributes into what moves locally, and what moves compact codes.

    Up to ``limit`` all is local. Beyond it the local part falls, to half of the limit at one and a half, and stays there.
    """
    size = changes.abs()
    local = changes.sign() * torch.minimum(size, (2 * limit - size).clamp(min=limit / 2))
    return local, changes - local


def solve_split_changes(readings: Tensor, limit: float, local_responses: Tensor, responses: Tensor) -> Tensor:
    """Solve for the changes (n, K) that move readings by ``readings``, where a change is split as in ``split_changes``.

    ``local_responses`` and ``responses`` (K,): how far a change of 1 moves the reading locally, and by compact codes.
    """
    at_limit, size = limit * local_responses, readings.abs()
    # Where the local part falls readings rise slowly, or not at all.
    width = (limit * responses - limit / 2 * local_responses).clamp(min=at_limit / 20)
    falling = limit + limit / 2 * (size - at_limit) / width
    solved = torch.where(size <= at_limit + width, falling, 1.5 * limit + (size - at_limit - width) / responses)
    return readings.sign() * torch.where(size <= at_limit, size / local_responses, solved)
