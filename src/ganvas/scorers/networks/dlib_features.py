"""A linear reading of dlib's face embedding network: a judge of another architecture and training than the default scorer.

The features are those of dlib's face embedding (``scorers.networks.dlib_face``), two and one level before its end,
on a 4×4 grid. Only the linear layer is trained and stored.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganvas.scorers.networks.dlib_face import FACE_SIDE, load_face_network
from ganvas.scorers.networks.framing import crop_box

BOX = (44, 70, 213, 239)
"""Left, top, right, bottom of 256: the mean position of dlib's aligned face in 23 faces of ``ffhq``."""
GRID = 4
WIDTH = (128 + 256) * GRID**2
"""The number of features of a picture."""


class FrozenNetwork(nn.Module):
    """A linear layer ``reading`` on frozen features (n, WIDTH)."""

    arch, size = "dlib", 160

    def __init__(self, attributes: int = 40) -> None:
        """Raise GanvasError where dlib's weights aren't installed."""
        super().__init__()
        # In a tuple, so that it is neither trained nor saved.
        self._frozen = (load_face_network(),)
        self.reading = nn.Linear(WIDTH, attributes)

    def describe(self, images: Tensor) -> Tensor:
        """Compute features (n, WIDTH) of pictures (n, 3, size, size) in [-1, 1]."""
        levels = self._frozen[0].to(images.device).compute_levels(crop_box(images, BOX, FACE_SIDE))
        return torch.cat([F.adaptive_avg_pool2d(part, GRID).flatten(1) for part in levels[2:4]], 1)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (n, attributes) of pictures (n, 3, size, size) in [-1, 1]."""
        return self.reading(self.describe(images))
