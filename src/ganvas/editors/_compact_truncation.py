"""What keeps a long move of the compact editor where codes are: all that it doesn't name is drawn towards the mean.

Components of W, whitened, lie in a shell about their mean. A move of 4σ leaves it outwards, and the generator, which never
drew such codes, makes faces that come apart. The truncation trick (Karras et al., 2019, https://arxiv.org/abs/1812.04948,
appendix B) trades variety for such safety by drawing the whole code to the mean; here only what the readings of the
changed attributes don't depend on is drawn, as far as the shell asks and as the change grows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MIN_DEVIATION = 0.1
"""Of the squared radius: no change, however large, makes the shell smaller."""
KEPT = 0.1
"""Of it, that the rest keeps where the changed attributes alone fill the shell."""
HALF = 0.1
"""The change, in standard deviations, of an attribute whose reading is kept by half: small beside any that is seen."""


class TypicalShell(nn.Module):
    """``deviations`` (components,) whiten; ``readings`` (components, K) read the attributes; ``truncation`` a length of 1."""

    deviations: Tensor
    readings: Tensor

    def __init__(self, deviations: Tensor, readings: Tensor, truncation: float) -> None:
        super().__init__()
        # Both follow from what an editor's file holds.
        self.register_buffer("deviations", deviations, persistent=False)
        self.register_buffer("readings", readings, persistent=False)
        self.truncation = truncation


def shrink_to_shell(x: Tensor, y: Tensor, named: Tensor, shell: TypicalShell) -> Tensor:
    """The moved components ``y`` (n, components), drawn back into the shell that those of ``x`` lie in.

    The radius is the code's own, or that of codes in the mean where that is larger (truncated codes have room); its square
    shrinks by ``truncation`` for each Mahalanobis length moved. ``named`` (n, K), from 0 on: how much the reading of each
    attribute is kept as it is in ``y``, half at ``HALF`` and next to all at 1; where those readings alone leave the shell,
    so does the result. A continuous function of all of them: a change of next to nothing keeps next to nothing.
    """
    if not shell.truncation:
        return y
    before, after = x / shell.deviations, y / shell.deviations
    share = (1 - shell.truncation * (after - before).norm(dim=1, keepdim=True)).clamp(min=MIN_DEVIATION)
    radius = share * before.square().sum(1, keepdim=True).clamp(min=x.shape[1])
    kept = _along(after, named, shell.deviations[:, None] * shell.readings)
    rest = after - kept
    room = torch.maximum(radius - kept.square().sum(1, keepdim=True), KEPT * radius)
    drawn = rest * (room / rest.square().sum(1, keepdim=True).clamp(min=1e-12)).sqrt().clamp(max=1)
    return (kept + drawn) * shell.deviations


def _along(x: Tensor, named: Tensor, readings: Tensor) -> Tensor:
    """The part of each row of ``x`` that the ``named`` readings depend on: a ridge projection on their directions."""
    used = named.ne(0).any(0)
    if not used.any():
        return torch.zeros_like(x)
    directions = torch.nn.functional.normalize(readings[:, used], dim=0).to(x)
    weights = named[:, used]
    gram = weights[:, :, None] * weights[:, None] * (directions.T @ directions) + HALF**2 * torch.eye(
        len(weights.T), dtype=x.dtype, device=x.device
    )
    right = weights * (x @ directions)
    return (weights * torch.linalg.solve(gram, right[:, :, None])[:, :, 0]) @ directions.T
