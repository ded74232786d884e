"""What published face networks share: where on an FFHQ-aligned picture they look, and their means."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ganvas.io.images import LABEL_SIDE, downscale
from ganvas.types import Images

MEANS = (122.782, 117.001, 104.298)
"""Of red, green and blue from 0 to 255, over the faces that dlib's networks (and face-api's, after them) learned from."""


def crop_box(images: Images, box: tuple[int, int, int, int], size: int) -> Tensor:
    """The square (left, top, right, bottom), in pixels of a picture of 256, at ``size``: (n, 3, size, size) of 0 … 255
    with MEANS taken off."""
    left, top, right, bottom = box
    part = downscale(images.float(), LABEL_SIDE).clamp(-1, 1)[:, :, top:bottom, left:right]
    part = F.interpolate(part, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return part * 127.5 + 127.5 - torch.tensor(MEANS, device=part.device)[:, None, None]
