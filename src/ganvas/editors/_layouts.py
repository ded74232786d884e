"""Where objects lie in pictures of light ink on dark ground, and samples by where theirs lie.

An object is a connected component of ink. ``editors.composed`` starts its searches from samples whose objects lie as wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor, nn

from ganvas.generators import has_bfloat16_instructions
from ganvas.scorers.count import Counter

MIN_INK = 0.35
"""The brightness from which a pixel of 0 to 1 is ink."""
MIN_AREA = 16
"""The least number of pixels, of a component grown by one, that is an object."""
MAX_GAP = 5.0
"""The largest distance in pixels between parts of one object, each grown by one."""
FEATURE_WEIGHTS = (1.0, 1.0, 0.5, 0.5, 16.0)
"""The weights of squared differences of x, y, width and height, in pixels, and of another class, when samples are found."""
MAX_COUNT = 4
"""The most objects that a sample may have."""


class SampleBank(nn.Module):
    """Samples by their seeds, with the boxes (x0, y0, x1, y1) and classes of their objects; class -1: no object."""

    def __init__(self, seeds: Tensor, boxes: Tensor, labels: Tensor) -> None:
        super().__init__()
        self.seeds, self.boxes, self.labels = nn.Buffer(seeds), nn.Buffer(boxes), nn.Buffer(labels)

    def list_layouts(self) -> dict[int, Layouts]:
        """Return, by the number of objects, all samples without one of their objects and all whole ones."""
        counts, layouts = (self.labels >= 0).sum(1), {}
        features = describe_boxes(self.boxes, self.labels)
        for n in range(1, MAX_COUNT + 1):
            whole = (counts == n).nonzero()[:, 0]
            parts = [(features[whole, :n], whole, torch.full_like(whole, -1))]
            more = (counts == n + 1).nonzero()[:, 0]
            for left_out in range(n + 1 if n < MAX_COUNT else 0):
                others = [k for k in range(n + 1) if k != left_out]
                parts.append((features[more][:, others], more, torch.full_like(more, left_out)))
            layouts[n] = Layouts(*map(torch.cat, zip(*parts, strict=True)))
        return layouts


@dataclass(frozen=True)
class Layouts:
    """Objects of samples, (rows, n, 5) as ``describe_boxes`` has them.

    ``samples`` (rows,): of which sample; ``left_out`` (rows,): the number of its object that isn't among them, -1 for none.
    """

    features: Tensor
    samples: Tensor
    left_out: Tensor

    def measure_distances(self, objects: Tensor) -> Float[Tensor, " rows"]:
        """Measure how far ``objects`` (n, 5) are from those of each row, paired in the best way."""
        scale = objects.new_tensor(FEATURE_WEIGHTS)
        each = []
        for order in permutations(range(len(objects))):
            difference = self.features[:, list(order)] - objects
            difference[..., 4] = difference[..., 4].ne(0)
            each.append((difference.square() * scale).sum((1, 2)))
        return torch.stack(each).amin(0)


def find_objects(picture: Tensor) -> list[Bool[Tensor, "64 64"]]:
    """Find the connected components of ink, each grown by one pixel."""
    ink = ndimage.binary_dilation((picture > MIN_INK).cpu().numpy())
    found: Any = ndimage.label(ink, np.ones((3, 3)))
    labels, n = found
    masks = [torch.from_numpy(labels == i).to(picture.device) for i in range(1, n + 1)]
    return [mask for mask in masks if int(mask.sum()) >= MIN_AREA]


def join_objects(objects: list[Bool[Tensor, "64 64"]], n: int) -> list[Bool[Tensor, "64 64"]]:
    """Join the nearest of objects until there are at most ``n``: parts of a broken one, which a small gap divides."""
    masks = list(objects)
    while len(masks) > max(n, 1):
        points = [mask.nonzero().float() for mask in masks]
        pairs = list(combinations(range(len(masks)), 2))
        gaps = [float(torch.cdist(points[i], points[j]).min()) for i, j in pairs]
        if min(gaps) > MAX_GAP:
            break
        i, j = pairs[gaps.index(min(gaps))]
        masks[i] = masks[i] | masks.pop(j)
    return masks


def grow(mask: Bool[Tensor, "64 64"], pixels: int) -> Bool[Tensor, "64 64"]:
    """Grow a mask by some pixels."""
    return F.max_pool2d(mask[None].float(), 2 * pixels + 1, 1, pixels)[0] > 0


def classify_objects(counter: Counter, pictures: list[Tensor]) -> Tensor:
    """Return the class of the one object in each picture (64, 64), (n,)."""
    # Twice as fast, and a class is seldom that close.
    device = pictures[0].device
    with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16_instructions(device)):
        logits = counter.network(torch.stack(pictures)[:, None]).classes.float()
    return (logits[..., 1:].logsumexp(2) - logits[..., 0]).argmax(1)


def get_box(mask: Bool[Tensor, "64 64"]) -> list[int]:
    """Return the box of an object, as ``SampleBank`` has it."""
    y, x = mask.nonzero().T
    return [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]


def describe_boxes(boxes: Tensor, labels: Tensor) -> Tensor:
    """Return the middle, width, height and class of objects, (..., 5), from their boxes (..., 4) and classes (...)."""
    x0, y0, x1, y1 = boxes.float().unbind(-1)
    return torch.stack(((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, labels.float()), -1)
