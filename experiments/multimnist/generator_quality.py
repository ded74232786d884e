"""What a generator of MultiMNIST draws: how many digits, how surely counted, and its distance to real pictures.

    ganvas make-multimnist --mnist MNIST --size 64 --out m64
    python -m experiments.multimnist.generator_quality multimnist m64 [-n 2000] [--judged 5000]

Prints, for ``n`` samples (seeds from 2,000,000) untruncated and at psi 0.7: how many show 0, 1, … digits by the counter
that ships, and the share whose count it is sure of (p ≥ 0.9); the same of real test pictures. Then the Fréchet
distance in the counter's features between samples and training pictures, beside that between test and training pictures.
It is no FID: its scale is another.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ganvas.checkpoints.load import load_generator
from ganvas.data.multimnist_files import read_multimnist
from ganvas.fid import collect_features, compute_frechet_distance
from ganvas.generators.base import Generator, sample
from ganvas.scorers.count import MAX_COUNT, Counter, load
from ganvas.seeds import EVALUATION_SEED
from ganvas.types import Images

BATCH_SIZE = 64
SURE_PROBABILITY = 0.9


def draw_samples(generator: Generator, n: int, psi: float) -> list[Images]:
    """Draw ``n`` samples, in batches; labels of a conditional generator go round."""
    labels = None
    if k := generator.num_labels:
        labels = torch.eye(k).repeat(n // k + 1, 1)[:n]
    return [generator.synthesis(ws) for ws in sample(generator, n, psi, EVALUATION_SEED, labels).split(BATCH_SIZE)]


def select_real(pixels: Tensor, n: int) -> list[Images]:
    """Return ``n`` of the real pictures (all, height, width) uint8, in batches."""
    # At random: counts follow one another in a set's order.
    index = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))[:n]
    return [part[:, None].expand(-1, 3, -1, -1) / 127.5 - 1 for part in pixels[index].split(BATCH_SIZE)]


def count_pictures(counter: Counter, pictures: list[Images]) -> list[str]:
    """Return the share of pictures with each count, then the share whose count the counter is sure of."""
    scores = torch.cat([counter(part) for part in pictures])
    counts = scores[:, counter.column("count")].long().bincount(minlength=MAX_COUNT + 1)
    sure = (scores[:, counter.column("sure")].sigmoid() >= SURE_PROBABILITY).float().mean()
    return [*(f"{share:.3f}" for share in (counts / len(scores)).tolist()), f"{float(sure):.3f}"]


@torch.no_grad()
def main(
    generator_name: Annotated[str, typer.Argument(metavar="GENERATOR", help="A name or a file.")],
    folder: Annotated[Path, typer.Argument(help="A MultiMNIST folder.")],
    n: Annotated[int, typer.Option("-n", help="Samples to count.")] = 2000,
    judged: Annotated[int, typer.Option(help="Samples for the distance.")] = 5000,
) -> None:
    """Count and compare what a generator draws."""
    generator, counter, console = load_generator(generator_name), load("count"), Console()
    train, test = (read_multimnist(folder, part).pixels for part in ("train", "test"))
    table = Table("digits", *map(str, range(MAX_COUNT)), f"{MAX_COUNT}+", f"sure (p ≥ {SURE_PROBABILITY})")
    for psi in (1.0, 0.7):
        table.add_row(f"drawn, psi {psi:g}", *count_pictures(counter, draw_samples(generator, n, psi)))
    table.add_row("real, test", *count_pictures(counter, select_real(test, n)))
    console.print(table)
    reference = collect_features(select_real(train, judged), counter.compute_features)
    distance = compute_frechet_distance(
        reference, collect_features(draw_samples(generator, judged, 1.0), counter.compute_features)
    )
    floor = compute_frechet_distance(reference, collect_features(select_real(test, judged), counter.compute_features))
    console.print(f"Fréchet distance in the counter's features to {len(reference):,} training pictures: ", end="")
    console.print(f"{judged:,} drawn {distance:.2f}, test pictures {floor:.2f}")


if __name__ == "__main__":
    typer.run(main)
