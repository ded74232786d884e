"""Judges of pictures of digits that no editor learns from: connected components, which nobody trained, and a detector.

A digit of the original is kept where the edited picture has one whose centre is near, and that is as large (components) or of the
same class (detector). ``experiments.multimnist.train_detector`` trains the detector on MultiMNIST's own pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor, nn

from ganvas.errors import GanvasError
from ganvas.io.files import load_tensors, save_tensors

SIDE, CELLS, CLASSES = 64, 16, 10
MIN_BRIGHTNESS = 0.35
"""The share of full brightness from which a pixel is ink."""
MIN_AREA_SHARE = 0.004
"""The least share of the picture, dilated once, that is a component."""
MAX_SHIFT = 4.0
"""Pixels of 64 that the centre of a digit that was kept may move by."""
SIZE_RATIOS = (0.6, 1.6)
"""The bounds of its new size by its old one."""
MIN_COVERED = 0.4
"""The least share of a component that its successor covers."""
DETECTED_PROBABILITY = 0.5
SUPPRESSED_CELLS = 1.5
"""The distance within which the less probable of two detections is dropped."""

Grey = Float[Tensor, "n 64 64"]


@dataclass(frozen=True)
class Digit:
    """A digit that a judge found: its centre in pixels, its ``mask`` (64, 64) or its class, whichever the judge sees."""

    y: float
    x: float
    mask: np.ndarray | None = None
    label: int = -1


DigitJudge = Callable[[Grey], list[list[Digit]]]
"""Grey pictures from -1 to 1, to the digits of each."""


def label_components(ink: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the connected components of ink (height, width) from 1; return the numbers, and how many there are."""
    found: Any = ndimage.label(ink, np.ones((3, 3)))
    return found


def find_components(pictures: Grey) -> list[list[Digit]]:
    """Find the connected components of ink in each picture, dilated once."""
    found = []
    for picture in pictures:
        ink = ndimage.binary_dilation(((picture + 1) / 2 > MIN_BRIGHTNESS).numpy())
        labels, n = label_components(ink)
        masks = [labels == k for k in range(1, n + 1)]
        large = [mask for mask in masks if mask.mean() >= MIN_AREA_SHARE]
        centres: list[Any] = [ndimage.center_of_mass(mask) for mask in large]
        found.append([Digit(float(y), float(x), mask) for (y, x), mask in zip(centres, large, strict=True)])
    return found


def is_kept(digit: Digit, after: list[Digit]) -> bool:
    """Return whether one of the digits ``after`` is this one."""
    return any(_is_same(digit, other) for other in after)


def _is_same(digit: Digit, other: Digit) -> bool:
    if (digit.y - other.y) ** 2 + (digit.x - other.x) ** 2 > MAX_SHIFT**2 or digit.label != other.label:
        return False
    if digit.mask is None or other.mask is None:
        return True
    ratio = other.mask.sum() / digit.mask.sum()
    covered = (digit.mask & other.mask).sum() / digit.mask.sum()
    return SIZE_RATIOS[0] <= ratio <= SIZE_RATIOS[1] and bool(covered >= MIN_COVERED)


def measure_kept(before: list[list[Digit]], after: list[list[Digit]], alpha: Tensor) -> Tensor:
    """Return the share of the digits that could stay that did, (n,); nan where none could.

    All could where digits were added (``alpha`` (n,) above 0), all but as many as were to be removed elsewhere.
    """
    shares = []
    for old, new, change in zip(before, after, alpha.tolist(), strict=True):
        possible = len(old) + min(int(change), 0)
        kept = sum(is_kept(digit, new) for digit in old)
        shares.append(min(kept / possible, 1.0) if possible > 0 else torch.nan)
    return torch.tensor(shares)


def measure_right(before: list[list[Digit]], after: list[list[Digit]], alpha: Tensor) -> Tensor:
    """Return 1 where there are as many digits more as asked for, else 0; (n,)."""
    changes = torch.tensor([len(new) - len(old) for old, new in zip(before, after, strict=True)])
    return (changes == alpha).float()


class DigitDetector(nn.Module):
    """A network from grey pictures to 16×16 cells of four pixels: logits of no centre or that of a class, and the offset."""

    def __init__(self) -> None:
        super().__init__()
        widths = ((16, 32), (32, 48), (48, 64), (64, 64), (64, 64))
        layers: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(widths):
            # Dilated, so that a cell sees a whole digit.
            dilation = (1, 1, 1, 2, 1)[i]
            convolution = nn.Conv2d(inputs, outputs, 3, 1 + (i == 0), dilation, dilation, bias=False)
            layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
        self.layers = nn.Sequential(nn.Conv2d(4, 16, 3, padding=1), nn.ReLU(), *layers)
        self.output = nn.Conv2d(64, 1 + CLASSES + 2, 1)

    def forward(self, pictures: Grey) -> Float[Tensor, "n 13 16 16"]:
        """Return the logits and offsets of each cell."""
        return self.output(self.layers(F.pixel_unshuffle((pictures[:, None] + 1) / 2, 2)))

    @torch.no_grad()
    def find_digits(self, pictures: Grey) -> list[list[Digit]]:
        """Find the digits in each picture, the most probable first."""
        found = []
        for maps in torch.cat([self(part) for part in pictures.split(256)]):
            probabilities = maps[: CLASSES + 1].softmax(0)
            digits: list[Digit] = []
            for cell in (1 - probabilities[0]).flatten().argsort(descending=True).tolist():
                row, column = divmod(cell, CELLS)
                if 1 - probabilities[0, row, column] < DETECTED_PROBABILITY:
                    break
                step = SIDE / CELLS
                y = (row + 0.5 + float(maps[CLASSES + 1, row, column])) * step
                x = (column + 0.5 + float(maps[CLASSES + 2, row, column])) * step
                if all((y - d.y) ** 2 + (x - d.x) ** 2 > (SUPPRESSED_CELLS * step) ** 2 for d in digits):
                    digits.append(Digit(y, x, label=int(probabilities[1:, row, column].argmax())))
            found.append(digits)
        return found


def save_detector(detector: DigitDetector, path: Path) -> None:
    """Write a detector."""
    state = {key: value for key, value in detector.state_dict().items() if "num_batches" not in key}
    save_tensors(path, state, {"kind": "digit detector"})


def read_detector(path: Path) -> DigitDetector:
    """Read a detector that ``save_detector`` wrote. Raises GanvasError for any other file."""
    tensors, metadata = load_tensors(path)
    if metadata.get("kind") != "digit detector":
        raise GanvasError(f"{path} holds no detector: experiments/multimnist/train_detector.py writes one.")
    detector = DigitDetector()
    detector.load_state_dict(tensors, strict=False)
    return detector.eval().requires_grad_(False)
