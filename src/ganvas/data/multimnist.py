"""Make MultiMNIST from MNIST's files: pictures with a few digits of MNIST that don't overlap.

As in Doubinsky et al., *Contrôle de la cardinalité par navigation dans l'espace latent des GANs*, RFIAP 2022,
https://cea.hal.science/cea-04852483 (40,000 pictures of 128×128 with 1 to 4 digits), after Sun, *Multi-digit MNIST*,
https://github.com/shaohua0116/MultiDigitMNIST. Training pictures show MNIST's training digits, test pictures its test
digits. ``data.multimnist_files`` describes the folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ganvas.data.mnist import Mnist, read_mnist
from ganvas.data.multimnist_files import KIND, PARTS, SIZES, VERSION, DigitPicture, write_part
from ganvas.errors import GanvasError
from ganvas.io.files import atomic_write
from ganvas.progress import Progress

DIGIT_SIDE = 20
"""The side in pixels that MNIST's digits fit in."""
MIN_DIGIT_SHARE = 20 / 64
"""The share of a picture's side that a digit takes where there are at most 4; more are drawn smaller."""
GAP = 2 / 64
"""The share of the side that stays free between two digits' boxes, at least."""
MAX_COUNT, MAX_PICTURES = 16, 10_000_000
MAX_PLACEMENTS = 1000
"""Arrangements that are tried before a picture counts as too full."""


@dataclass(frozen=True)
class MultiMnistLayout:
    """The layout of the set's pictures: the side in pixels, and the least and greatest number of digits."""

    size: int = 128
    counts: tuple[int, int] = (1, 4)

    def __post_init__(self) -> None:
        if not SIZES[0] <= self.size <= SIZES[1]:
            raise GanvasError(
                f"The size of the pictures must be from {SIZES[0]} to {SIZES[1]} pixels, not {self.size}."
            )
        low, high = self.counts
        if not 0 <= low <= high or not 1 <= high <= MAX_COUNT:
            raise GanvasError(f"Counts must be a range like 1-4 within 0 to {MAX_COUNT}, not {low}-{high}.")

    @property
    def scale(self) -> float:
        """Pixels of the picture for one pixel of MNIST."""
        return MIN_DIGIT_SHARE * self.size / DIGIT_SIDE * min(1, (4 / self.counts[1]) ** 0.5)

    @property
    def gap(self) -> int:
        """The least number of free pixels between two digits."""
        return max(round(GAP * self.size * min(1, (4 / self.counts[1]) ** 0.5)), 1)


def draw_picture(mnist: Mnist, layout: MultiMnistLayout, seed: int, part: str, i: int) -> DigitPicture:
    """Draw picture ``i`` of a part, which depends on the arguments alone. Counts cycle, so that all are equally frequent.

    Raises GanvasError where the digits don't fit into the picture.
    """
    rng = np.random.default_rng((seed, PARTS.index(part), i))
    low, high = layout.counts
    chosen = [int(k) for k in rng.integers(0, len(mnist.labels), low + i % (high - low + 1))]
    inks = [_cut_ink(mnist.images[k], layout.scale) for k in chosen]
    for _ in range(MAX_PLACEMENTS):
        if (boxes := _place_boxes([ink.shape for ink in inks], layout, rng)) is not None:
            break
    else:
        raise GanvasError(
            f"{len(inks)} digits don't fit into {layout.size}×{layout.size} pixels: use fewer digits or larger pictures."
        )
    pixels = np.zeros((layout.size, layout.size), np.uint8)
    for ink, (x0, y0, x1, y1) in zip(inks, boxes, strict=True):
        pixels[y0:y1, x0:x1] = ink
    return DigitPicture(pixels, tuple(int(mnist.labels[k]) for k in chosen), tuple(boxes))


def make_multimnist(
    mnist: str | Path,
    out: str | Path,
    *,
    layout: MultiMnistLayout = MultiMnistLayout(),
    n: int = 40_000,
    test: int | None = None,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Write the set into the folder ``out``, all of it or nothing, and return ``about.json``; equal arguments give equal bytes.

    ``mnist``: a folder of MNIST's idx files (gzipped or not) or an npz. ``test``: the number of test pictures, by default a
    tenth of ``n``. Raises GanvasError for MNIST files that are missing or damaged, impossible settings, and a folder that
    can't be written.
    """
    sizes = {"train": n, "test": max(n // 10, 1) if test is None else test}
    for part, pictures in sizes.items():
        if not 1 <= pictures <= MAX_PICTURES:
            raise GanvasError(f"The number of {part} pictures must be from 1 to {MAX_PICTURES:,}, not {pictures}.")
    if not 0 <= seed < 2**32:
        raise GanvasError(f"A seed must be a whole number from 0 to {2**32 - 1}, not {seed}.")
    sets = {part: read_mnist(mnist, part) for part in PARTS}
    metadata = _describe_set(layout, sizes, seed, sets)
    out, total = Path(out), sum(sizes.values())
    with ExitStack() as stack:
        for done, part in ((0, "train"), (n, "test")):
            path = stack.enter_context(atomic_write(out / f"{part}.parquet"))
            pictures = (draw_picture(sets[part], layout, seed, part, i) for i in range(sizes[part]))
            write_part(path, pictures, lambda k, done=done: progress(done + k, total))
        stack.enter_context(atomic_write(out / "about.json")).write_text(
            json.dumps(metadata, indent=2) + "\n", encoding="utf-8"
        )
    return metadata


def _cut_ink(image: np.ndarray, scale: float) -> np.ndarray:
    """Cut a digit to its ink and resize it."""
    rows, columns = (np.flatnonzero(image.any(axis)) for axis in (1, 0))
    ink = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if scale == 1:
        return ink
    width, height = (max(round(side * scale), 1) for side in ink.shape[::-1])
    return np.asarray(Image.fromarray(ink).resize((width, height), Image.Resampling.BICUBIC))


def _place_boxes(
    shapes: Sequence[tuple[int, ...]], layout: MultiMnistLayout, rng: np.random.Generator
) -> list[tuple[int, int, int, int]] | None:
    """Place boxes at random where they don't overlap; None where one doesn't fit."""
    boxes: list[tuple[int, int, int, int]] = []
    for height, width in shapes:
        free = np.ones((max(layout.size - height + 1, 0), max(layout.size - width + 1, 0)), bool)
        for x0, y0, x1, y1 in boxes:
            top, left = max(y0 - height - layout.gap + 1, 0), max(x0 - width - layout.gap + 1, 0)
            free[top : y1 + layout.gap, left : x1 + layout.gap] = False
        places = np.flatnonzero(free)
        if not len(places):
            return None
        y, x = divmod(int(places[rng.integers(len(places))]), free.shape[1])
        boxes.append((x, y, x + width, y + height))
    return boxes


def _describe_set(layout: MultiMnistLayout, sizes: dict[str, int], seed: int, sets: dict[str, Mnist]) -> dict[str, Any]:
    digest = hashlib.sha256()
    for part in PARTS:
        digest.update(sets[part].images.tobytes() + sets[part].labels.tobytes())
    return {
        "kind": KIND,
        "version": VERSION,
        "size": layout.size,
        "counts": list(layout.counts),
        "seed": seed,
        **sizes,
        "mnist": digest.hexdigest(),
    }
