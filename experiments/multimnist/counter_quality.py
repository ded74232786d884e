"""How good the counter is on MultiMNIST pictures that it never saw.

    ganvas make-multimnist --mnist MNIST --size 64 --out m64; ganvas make-multimnist --mnist MNIST --size 128 --out m128
    python -m experiments.multimnist.counter_quality m64 m128 [--scorer FILE]

Prints, for the test part of each set: the share of pictures whose count is right, for each count; the share of numbers
of a class that are right, of classes that are in a picture or were counted in it; the share of digits found, by class; and
how sure it is and whether rightly: the calibration error of p(sure) on pictures made hard (faint, cut, noisy), too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ganvas.data.multimnist_files import MultiMnist, read_multimnist
from ganvas.scorers.count import MAX_COUNT, Counter, load, read
from ganvas.training.counter import measure_counter, read_digit_images
from ganvas.training.digit_images import draw_augmented


def scores_of(counter: Counter, data: MultiMnist) -> Tensor:
    return torch.cat([counter(part[:, None].expand(-1, 3, -1, -1) / 127.5 - 1) for part in data.pixels.split(256)])


def calibration_error(right: Tensor, sure: Tensor, bins: int = 10) -> float:
    """Mean |share right - mean probability| over bins of equal count."""
    order = sure.argsort()
    groups = zip(right[order].float().chunk(bins), sure[order].chunk(bins), strict=True)
    return float(torch.stack([(y.mean() - p.mean()).abs() for y, p in groups]).mean())


@torch.no_grad()
def hard(counter: Counter, data: MultiMnist, n: int = 4000) -> tuple[float, float]:
    """The share of right counts, and the calibration error, on test pictures changed as the training changes them."""
    random = torch.Generator().manual_seed(0)
    x, targets = draw_augmented(read_digit_images(data), n, random)
    there = torch.rand(n, generator=random) < targets.chance
    scores = counter((2 * x - 1).expand(-1, 3, -1, -1))
    right = scores[:, 0] == (targets.count + there).clamp(max=MAX_COUNT)
    return float(right.float().mean()), calibration_error(right, scores[:, 11].sigmoid())


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--scorer", type=Path)
    told = parser.parse_args()
    counter, console = read(told.scorer) if told.scorer else load("count"), Console()
    for folder in told.folders:
        data = read_multimnist(folder, "test")
        scores, found = scores_of(counter, data), measure_counter(counter, data)
        console.print(f"[bold]{folder.name}[/bold]: " + ", ".join(f"{key} {value:.4f}" for key, value in found.items()))
        table = Table("digits", "pictures", "count right")
        for count in data.counts.unique().tolist():
            right = scores[data.counts == count, 0] == count
            table.add_row(str(count), str(len(right)), f"{float(right.float().mean()):.4f}")
        console.print(table)
        seen, there = scores[:, 1:11], data.per_class
        by_class = (torch.minimum(seen, there).sum(0) / there.sum(0)).tolist()
        console.print("digits found, by class: " + ", ".join(f"{k}: {share:.3f}" for k, share in enumerate(by_class)))
        share, error = hard(counter, data)
        console.print(f"made hard: count right {share:.4f}, calibration error of p(sure) {error:.4f}\n")


if __name__ == "__main__":
    main()
