"""A linear reading of a network that learned something else from other faces: a judge of other make than the default scorer.

The features are those of dlib's face embedding (``scorers.networks.dlib_face``), two and one level before its end,
on a 4×4 grid. Only the reading is learned, and only the reading is in the file.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganvas.scorers.networks.dlib_face import CHIP, face_network
from ganvas.scorers.networks.framing import crop_box

BOX = (44, 70, 213, 239)
"""Left, top, right, bottom of 256: the mean place of dlib's chip in 23 faces of ``ffhq``."""
GRID = 4
WIDTH = (128 + 256) * GRID**2
"""Numbers that are read of a picture."""


class FrozenNetwork(nn.Module):
    """``reading`` of features (n, WIDTH)."""

    arch, size = "dlib", 160

    def __init__(self, attributes: int = 40) -> None:
        """Raises GanvasError where dlib's weights aren't installed."""
        super().__init__()
        # In a tuple: it is no part of what is learned or saved.
        self._frozen = (face_network(),)
        self.reading = nn.Linear(WIDTH, attributes)

    def describe(self, images: Tensor) -> Tensor:
        """Features (n, WIDTH) of pictures (n, 3, size, size) in [-1, 1]."""
        levels = self._frozen[0].to(images.device).levels(crop_box(images, BOX, CHIP))
        return torch.cat([F.adaptive_avg_pool2d(part, GRID).flatten(1) for part in levels[2:4]], 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, attributes) of pictures (n, 3, size, size) in [-1, 1]."""
        return self.reading(self.describe(images))
