"""Train the detector that judges moves, on MultiMNIST's own pictures, and measure it on its test part.

    ganvas make-multimnist --mnist MNIST --size 64 --out m64
    python -m experiments.multimnist.train_detector m64 --out detector.safetensors

Prints the share of the test pictures' digits that are found (within 4 pixels, and of the right class) and of pictures with
nothing missed or added; and, for components, the share of pictures with as many as there are digits.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from torch import Tensor

from experiments.multimnist.judges import (
    CELLS,
    CLASSES,
    SIDE,
    Digit,
    DigitDetector,
    find_components,
    is_kept,
    save_detector,
)
from ganvas.data.multimnist_files import MultiMnist, read_multimnist
from ganvas.errors import GanvasError
from ganvas.generators import has_bfloat16_instructions
from ganvas.progress import Progress, show_count
from ganvas.training_loop import minimize


def build_targets(data: MultiMnist) -> tuple[Tensor, Tensor]:
    """Return each cell's class, 0 for none, (n, 16, 16), and the offsets of centres from their cells' (n, 2, 16, 16)."""
    classes, offsets = torch.zeros(len(data), CELLS, CELLS, dtype=torch.long), torch.zeros(len(data), 2, CELLS, CELLS)
    for i, digits in enumerate(list_digits(data)):
        for digit in digits:
            y, x = digit.y * CELLS / SIDE, digit.x * CELLS / SIDE
            row, column = min(int(y), CELLS - 1), min(int(x), CELLS - 1)
            classes[i, row, column] = digit.label + 1
            offsets[i, :, row, column] = torch.tensor([y - row - 0.5, x - column - 0.5])
    return classes, offsets


def list_digits(data: MultiMnist) -> list[list[Digit]]:
    """List the true digits of each picture."""
    return [
        [
            Digit((y0 + y1) / 2, (x0 + x1) / 2, label=label)
            for label, (x0, y0, x1, y1) in zip(labels, boxes, strict=True)
        ]
        for labels, boxes in zip(data.digits, data.boxes, strict=True)
    ]


def to_grey(pixels: Tensor) -> Tensor:
    """Convert pixels to grey pictures from -1 to 1."""
    return pixels / 127.5 - 1


def train_detector(
    data: MultiMnist,
    steps: int,
    batch: int = 64,
    seed: int = 0,
    progress: Progress = lambda step, steps: None,
) -> DigitDetector:
    """Train a detector; equal arguments give equal weights on one machine."""
    classes, offsets = build_targets(data)
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        detector = DigitDetector().to(memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]

    def loss(step: int) -> Tensor:
        rows = torch.randint(len(data), (batch,), generator=random)
        # Digits may be faint or soft in what a generator draws.
        brightness = 0.6 + 0.4 * torch.rand(batch, 1, 1, generator=random)
        pictures = (to_grey(data.pixels[rows]) + 1) * brightness - 1
        soft = F.avg_pool2d(pictures[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
        pictures = torch.lerp(pictures, soft, torch.rand(batch, 1, 1, generator=random) * 0.5)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16_instructions("cpu")):
            maps = detector(pictures.contiguous())
        maps = maps.float()
        there = classes[rows] > 0
        of_class = F.cross_entropy(maps[:, : CLASSES + 1], classes[rows])
        distance = (maps[:, CLASSES + 1 :] - offsets[rows]).square().sum(1)[there].mean()
        return CELLS * of_class + distance

    optimizer = torch.optim.AdamW(detector.parameters(), 4e-3, weight_decay=0.01)
    minimize(loss, optimizer, steps, progress=progress)
    return detector.eval().requires_grad_(False)


def measure_detector(detector: DigitDetector, data: MultiMnist) -> tuple[float, float]:
    """Return the share of the digits that are found, and that of pictures in which all are found and no other."""
    truth, found = list_digits(data), detector.find_digits(to_grey(data.pixels))
    hits = [[is_kept(digit, there) for digit in digits] for digits, there in zip(truth, found, strict=True)]
    whole = [all(hit) and len(hit) == len(there) for hit, there in zip(hits, found, strict=True)]
    return sum(map(sum, hits)) / sum(map(len, hits)), sum(whole) / len(whole)


def main(
    folder: Annotated[Path, typer.Argument(help="A MultiMNIST folder, 64×64.")],
    out: Annotated[Path, typer.Option(help="The detector's file.")],
    steps: Annotated[int, typer.Option(help="Batches of 64 pictures.")] = 2500,
    seed: Annotated[int, typer.Option(help="Of weights and batches.")] = 0,
) -> None:
    """Train and measure the detector."""
    data = read_multimnist(folder, "train")
    with show_count("Training") as progress:
        detector = train_detector(data, steps, seed=seed, progress=progress)
    save_detector(detector, out)
    test = read_multimnist(folder, "test")
    digits, pictures = measure_detector(detector, test)
    print(
        f"detector, {len(test):,} test pictures: {digits:.4f} of the digits found, {pictures:.4f} of the pictures right"
    )
    counted = [len(found) for found in find_components(to_grey(test.pixels))]
    right = (torch.tensor(counted) == test.counts).float().mean()
    print(f"components: {right:.4f} of the test pictures have as many as digits")


if __name__ == "__main__":
    try:
        typer.run(main)
    except GanvasError as error:
        sys.exit(f"Error: {error}")
