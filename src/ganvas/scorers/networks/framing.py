"""Preprocessing that published face networks share: crops of FFHQ-aligned pictures, and pixel means."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ganvas.io.images import LABEL_SIDE, downscale
from ganvas.types import Images

PIXEL_MEANS = (122.782, 117.001, 104.298)
"""Means of red, green and blue from 0 to 255, over the training faces of dlib's networks; face-api's take the same."""


def crop_box(images: Images, box: tuple[int, int, int, int], size: int) -> Tensor:
    """Crop the square ``box`` (left, top, right, bottom), in pixels of a picture of 256, and resize it to ``size``.

    Returns (n, 3, size, size) of 0 … 255 minus PIXEL_MEANS.
    """
    left, top, right, bottom = box
    part = downscale(images.float(), LABEL_SIDE).clamp(-1, 1)[:, :, top:bottom, left:right]
    part = F.interpolate(part, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return part * 127.5 + 127.5 - torch.tensor(PIXEL_MEANS, device=part.device)[:, None, None]
