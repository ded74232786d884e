"""Search for codes of grey pictures of objects, in W+ and inside of the typical set.

Abdal, Qin and Wonka, *Image2StyleGAN*, 2019, https://arxiv.org/abs/1904.03189; the typical set is that of ``data.distribution``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ganvas.generators.base import Generator
from ganvas.scorers.count import to_network_input
from ganvas.types import WPlus

SCALES = (1, 2, 4, 8)
"""The sizes of the blocks whose means are compared, from pixels on."""
FALLING_SHARE = 0.7
"""The last share of a search's steps, in which its rate falls to 0."""

Grey = Float[Tensor, "n 64 64"]


class TypicalSet(NamedTuple):
    """The mean of W (w_dim,), its whitening (w_dim, w_dim), and the largest norm of a whitened row."""

    mean: Tensor
    whitening: Tensor
    bound: Tensor

    def draw_inside(self, ws: WPlus) -> WPlus:
        """Draw rows that are outside towards the mean, onto the border."""
        centred = ws - self.mean
        distance = (centred @ self.whitening).norm(dim=2, keepdim=True)
        return self.mean + centred * (self.bound / distance).clamp(max=1)


def descend(
    start: WPlus,
    typical: TypicalSet,
    generator: Generator,
    basis: Float[Tensor, "components w_dim"],
    compute_loss: Callable[[Grey, int], Float[Tensor, " n"]],
    steps: int,
    rate: float,
    falling: bool,
) -> WPlus:
    """Move each row of codes along ``basis`` by some steps of Adam on the losses of their pictures, inside of the typical set.

    ``compute_loss`` takes the pictures and the step's number. ``falling``: the rate falls to 0 in the end.
    """
    start = start.detach()
    with torch.enable_grad():
        move = torch.zeros(*start.shape[:2], len(basis), device=start.device).requires_grad_()
        optimizer = torch.optim.Adam([move], rate)
        for i in range(steps):
            optimizer.param_groups[0]["lr"] = rate * (min(1, (steps - i) / (FALLING_SHARE * steps)) if falling else 1)
            grey = to_network_input(generator.synthesis(typical.draw_inside(start + move @ basis)))[:, 0]
            # Each code's gradient of a sum is its own.
            (move.grad,) = torch.autograd.grad(compute_loss(grey, i).sum(), move)
            optimizer.step()
    return typical.draw_inside(start + move.detach() @ basis)


def compare(pictures: Grey, targets: Grey) -> Float[Tensor, " n"]:
    """Compute the mean squared errors of pixels from -1 to 1, summed over block means of all ``SCALES``."""
    difference = 2 * (pictures - targets)[:, None]
    return torch.stack([F.avg_pool2d(difference, scale).square().mean((1, 2, 3)) for scale in SCALES]).sum(0)


def find_least(values: Float[Tensor, " rows"], group: Tensor) -> Tensor:
    """Find the row of the least value of each group, in the order of the groups' numbers."""
    rows = [(group == i).nonzero()[:, 0] for i in group.unique()]
    return torch.stack([each[values[each].argmin()] for each in rows])
