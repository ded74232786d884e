"""Reads the toy generator's attributes off its pictures, in closed form."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ganvas.generators.toy import (
    BLOB,
    BRIGHT,
    GREY,
    PINK,
    PLACE_SPAN,
    PLANTED,
    RED,
    REDNESS,
    SIDE,
    STRIPES,
    WIDTH,
    WIDTH_SPAN,
    build_pixel_grid,
    build_stripe_pattern,
)
from ganvas.io.fingerprints import hash_weights
from ganvas.io.images import downscale
from ganvas.scorers.base import Scorer
from ganvas.types import Images, Scores

LOGITS_PER_SIGMA = 2.0
"""Logits per standard deviation."""
EDGE = 0.9995
"""Styles after tanh are read up to ±EDGE: values beyond are indistinguishable in a picture."""


def load(name: str) -> ToyScorer:
    """Load the toy scorer."""
    return ToyScorer(name)


class ToyScorer(Scorer):
    """The toy generator's attributes: logits of Bright, Red, Big and Striped, and Right, a position in pixels, -4 to 4.

    The logits are twice the coordinates in W.
    """

    def __init__(self, name: str = "toy") -> None:
        super().__init__()
        self.name = name
        self.attributes = tuple(PLANTED)
        self.kinds = tuple("value" if a == "Right" else "probability" for a in PLANTED)
        self.colours = nn.Buffer(torch.tensor([GREY, RED, PINK]))
        constants = torch.tensor(
            [BRIGHT, STRIPES, REDNESS, BLOB, WIDTH, WIDTH_SPAN, PLACE_SPAN, LOGITS_PER_SIGMA, EDGE]
        )
        self.fingerprint = hash_weights([("colours", self.colours), ("constants", constants)])

    def forward(self, images: Images) -> Scores:
        """Score pictures of any size, (n, 5)."""
        images = downscale(images.float(), SIDE)
        colours = self.colours / self.colours.square().sum(1, keepdim=True)
        grey, red, blob = (images[:, None] * colours[..., None, None]).sum(2).unbind(1)
        y, x = build_pixel_grid(images.device)
        upper, stripes = (
            (y < SIDE / 2).expand(SIDE, SIDE).float(),
            build_stripe_pattern(images.device).expand(SIDE, SIDE),
        )
        # Relative to the margins, which the blob doesn't reach, since JPEG shifts whole pictures a little.
        blob = blob - torch.cat((blob[:, :3], blob[:, -3:]), 1).mean((1, 2), keepdim=True)
        mass = blob.sum((1, 2)).clamp(min=1e-3)
        width = (mass / (2 * torch.pi * BLOB)).sqrt()
        styles = {
            "Bright": _correlate(grey, upper) / BRIGHT,
            "Red": red.mean((1, 2)) / REDNESS,
            "Big": (width - WIDTH) / WIDTH_SPAN,
            "Striped": _correlate(grey, stripes) / STRIPES,
        }
        place = (blob * (x - SIDE / 2)).sum((1, 2)) / mass
        logits = {a: LOGITS_PER_SIGMA * 2 * torch.atanh(style.clamp(-EDGE, EDGE)) for a, style in styles.items()}
        return torch.stack([place if a == "Right" else logits[a] for a in self.attributes], 1)


def _correlate(values: Tensor, pattern: Tensor) -> Tensor:
    """Measure the amount of a pattern of 0 and ±1 in each picture (n, height, width)."""
    return (values * pattern).sum((1, 2)) / pattern.square().sum()
