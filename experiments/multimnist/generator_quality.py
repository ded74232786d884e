"""What a generator of MultiMNIST draws: how many digits, how surely told, how near to real pictures.

    ganvas make-multimnist --mnist MNIST --size 64 --out m64
    python -m experiments.multimnist.generator_quality multimnist m64 [-n 2000] [--judged 5000]

Prints, for ``n`` samples (seeds from 2,000,000) untruncated and at psi 0.7: how many show 0, 1, … digits by the counter
that ships, and the share whose count it is sure of (p ≥ 0.9); the same of real test pictures. Then the Fréchet
distance in the counter's features between samples and training pictures, beside that between test and training pictures.
It is no FID: its scale is another.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ganvas.checkpoints.load import load_generator
from ganvas.data.multimnist_files import read_multimnist
from ganvas.fid import collect_features, fid
from ganvas.generators.base import Generator, sample
from ganvas.scorers.count import MAX_COUNT, Counter, load
from ganvas.seeds import EVALUATION_SEED
from ganvas.types import Images

BATCH, SURE = 64, 0.9


def drawn(generator: Generator, n: int, psi: float) -> list[Images]:
    labels = None
    if k := generator.num_labels:
        labels = torch.eye(k).repeat(n // k + 1, 1)[:n]
    return [generator.synthesis(ws) for ws in sample(generator, n, psi, EVALUATION_SEED, labels).split(BATCH)]


def real(pixels: Tensor, n: int) -> list[Images]:
    # At random: counts follow one another in a set's order.
    index = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))[:n]
    return [part[:, None].expand(-1, 3, -1, -1) / 127.5 - 1 for part in pixels[index].split(BATCH)]


def row(counter: Counter, pictures: list[Images]) -> list[str]:
    scores = torch.cat([counter(part) for part in pictures])
    counts = scores[:, counter.column("count")].long().bincount(minlength=MAX_COUNT + 1)
    sure = (scores[:, counter.column("sure")].sigmoid() >= SURE).float().mean()
    return [*(f"{share:.3f}" for share in (counts / len(scores)).tolist()), f"{float(sure):.3f}"]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generator", help="a name or a file")
    parser.add_argument("folder", type=Path)
    parser.add_argument("-n", type=int, default=2000)
    parser.add_argument("--judged", type=int, default=5000)
    told = parser.parse_args()
    generator, counter, console = load_generator(told.generator), load("count"), Console()
    train, test = (read_multimnist(told.folder, part).pixels for part in ("train", "test"))
    table = Table("digits", *map(str, range(MAX_COUNT)), f"{MAX_COUNT}+", f"sure (p ≥ {SURE})")
    for psi in (1.0, 0.7):
        table.add_row(f"drawn, psi {psi:g}", *row(counter, drawn(generator, told.n, psi)))
    table.add_row("real, test", *row(counter, real(test, told.n)))
    console.print(table)
    there = collect_features(real(train, told.judged), counter.features)
    ours = fid(there, collect_features(drawn(generator, told.judged, 1.0), counter.features))
    floor = fid(there, collect_features(real(test, told.judged), counter.features))
    console.print(f"Fréchet distance in the counter's features to {len(there):,} training pictures: ", end="")
    console.print(f"{told.judged:,} drawn {ours:.2f}, test pictures {floor:.2f}")


if __name__ == "__main__":
    main()
