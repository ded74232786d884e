"""How good the counter is on MultiMNIST pictures that it never saw.

    ganvas make-multimnist --mnist MNIST --size 64 --out m64; ganvas make-multimnist --mnist MNIST --size 128 --out m128
    python -m experiments.multimnist.counter_quality m64 m128 [--scorer FILE]

Prints, for the test part of each set: the share of pictures whose count is right, for each count; the share of numbers
of a class that are right, of classes that are in a picture or were counted in it; the share of digits found, by class; and
how sure it is and whether rightly: the calibration error of p(sure) on pictures made hard (faint, cut, noisy), too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ganvas.data.multimnist_files import MultiMnist, read_multimnist
from ganvas.scorers.count import MAX_COUNT, Counter, load, read
from ganvas.training.counter import draw_augmented, measure_counter, read_digit_images


def score_pictures(counter: Counter, data: MultiMnist) -> Tensor:
    """Return the counter's scores, (n, attributes)."""
    return torch.cat([counter(part[:, None].expand(-1, 3, -1, -1) / 127.5 - 1) for part in data.pixels.split(256)])


def calibration_error(right: Tensor, probabilities: Tensor, bins: int = 10) -> float:
    """Return the mean |share right - mean probability| over bins of equal count."""
    order = probabilities.argsort()
    groups = zip(right[order].float().chunk(bins), probabilities[order].chunk(bins), strict=True)
    return float(torch.stack([(y.mean() - p.mean()).abs() for y, p in groups]).mean())


@torch.no_grad()
def measure_augmented(counter: Counter, data: MultiMnist, n: int = 4000) -> tuple[float, float]:
    """Return the share of right counts, and the calibration error, on test pictures augmented as in training."""
    random = torch.Generator().manual_seed(0)
    x, targets = draw_augmented(read_digit_images(data), n, random)
    present = torch.rand(n, generator=random) < targets.chance
    scores = counter((2 * x - 1).expand(-1, 3, -1, -1))
    right = scores[:, 0] == (targets.count + present).clamp(max=MAX_COUNT)
    return float(right.float().mean()), calibration_error(right, scores[:, 11].sigmoid())


@torch.no_grad()
def main(
    folders: Annotated[list[Path], typer.Argument(help="MultiMNIST folders.")],
    scorer: Annotated[Path | None, typer.Option(help="A counter's file; by default the one that ships.")] = None,
) -> None:
    """Measure a counter on held-out pictures."""
    counter, console = read(scorer) if scorer else load("count"), Console()
    for folder in folders:
        data = read_multimnist(folder, "test")
        scores, measures = score_pictures(counter, data), measure_counter(counter, data)
        line = ", ".join(f"{key} {value:.4f}" for key, value in measures.items())
        console.print(f"[bold]{folder.name}[/bold]: {line}")
        table = Table("digits", "pictures", "count right")
        for count in data.counts.unique().tolist():
            right = scores[data.counts == count, 0] == count
            table.add_row(str(count), str(len(right)), f"{float(right.float().mean()):.4f}")
        console.print(table)
        by_class = (torch.minimum(scores[:, 1:11], data.per_class).sum(0) / data.per_class.sum(0)).tolist()
        console.print("digits found, by class: " + ", ".join(f"{k}: {share:.3f}" for k, share in enumerate(by_class)))
        share, error = measure_augmented(counter, data)
        console.print(f"made hard: count right {share:.4f}, calibration error of p(sure) {error:.4f}\n")


if __name__ == "__main__":
    typer.run(main)
