"""Truncation of the compact editor's long moves: what the changed attributes' readings don't depend on moves to the mean.

Whitened components of W lie in a shell about their mean. A move of 4σ leaves it outwards, and the generator, which wasn't
trained on such codes, makes faces that come apart. The truncation trick (Karras et al., 2019,
https://arxiv.org/abs/1812.04948, appendix B) moves the whole code towards the mean; here only that part moves which the
readings of the changed attributes don't depend on, as far as the shell requires, and farther for larger changes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MIN_RADIUS_SHARE = 0.1
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

    def __init__(self, deviations: Tensor, readings: Tensor, truncation: float) -> None:
        super().__init__()
        # Not saved: both follow from what an editor's file holds.
        self.register_buffer("deviations", deviations, persistent=False)
        self.register_buffer("readings", readings, persistent=False)
        self.truncation = truncation


def shrink_to_shell(x: Tensor, y: Tensor, named: Tensor, shell: TypicalShell) -> Tensor:
    """Shrink moved components ``y`` (n, components) into the shell of those of ``x``.

    The radius is the code's own, or the mean one of codes where that is larger (so truncated codes have room); its square
    shrinks by ``truncation`` for each Mahalanobis length moved. ``named`` (n, K), at least 0: how much the reading of each
    attribute is kept as it is in ``y``, by half at ``HALF_KEPT_CHANGE`` and nearly all at 1; where those readings alone
    leave the shell, so does the result. It is a continuous function of its arguments, so tiny changes have tiny effects.
    """
    if not shell.truncation:
        return y
    before, after = x / shell.deviations, y / shell.deviations
    share = (1 - shell.truncation * (after - before).norm(dim=1, keepdim=True)).clamp(min=MIN_RADIUS_SHARE)
    radius = share * before.square().sum(1, keepdim=True).clamp(min=x.shape[1])
    kept = _project_on_readings(after, named, shell.deviations[:, None] * shell.readings)
    rest = after - kept
    room = torch.maximum(radius - kept.square().sum(1, keepdim=True), MIN_REST_SHARE * radius)
    shrunk = rest * (room / rest.square().sum(1, keepdim=True).clamp(min=1e-12)).sqrt().clamp(max=1)
    return (kept + shrunk) * shell.deviations


def _project_on_readings(x: Tensor, named: Tensor, readings: Tensor) -> Tensor:
    """Project each row of ``x`` on the directions of the ``named`` readings, by a ridge projection."""
    used = named.ne(0).any(0)
    if not used.any():
        return torch.zeros_like(x)
    directions = torch.nn.functional.normalize(readings[:, used], dim=0).to(x)
    weights = named[:, used]
    gram = weights[:, :, None] * weights[:, None] * (directions.T @ directions) + HALF_KEPT_CHANGE**2 * torch.eye(
        len(weights.T), dtype=x.dtype, device=x.device
    )
    right = weights * (x @ directions)
    return (weights * torch.linalg.solve(gram, right[:, :, None])[:, :, 0]) @ directions.T
