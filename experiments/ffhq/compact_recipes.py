"""The compact editor's recipes, compared: held-out losses (3) to (5), how well codes follow attributes, and time.

    python -m experiments.ffhq.compact_recipes LABELS                      # the paper's whole schedule too: up to half an hour
    python -m experiments.ffhq.compact_recipes LABELS --steps 2000         # no recipe takes more than 2,000 steps

LABELS is a label folder or a label pack. "82,000 steps": what the paper's 150 epochs of 140,000 codes would take at the
median step's time, on whatever else the machine does meanwhile. "length" and "others": what a change of 1 does, means over
attributes of the Mahalanobis length and of the mean |change| of the other readings.
"""

from __future__ import annotations

import argparse
import statistics
import time
from itertools import pairwise
from pathlib import Path

import torch

from ganvas import load_generator
from ganvas.data.dataset import LatentDataset
from ganvas.data.label_files import load_labels
from ganvas.editors import compact
from ganvas.generators.base import Generator

PAPER_STEPS = 150 * (140_000 // 256)


def measure_recipe(recipe: str, data: LatentDataset, generator: Generator, steps: int | None, seed: int) -> list[str]:
    """Fit a recipe, and return its row: what the editor reports, and the time that its training took."""
    ticks: list[float] = []

    def progress(step: int, total: int | None) -> None:
        ticks.append(time.perf_counter())
        if step % 1000 == 0:
            print(f"  {recipe}: step {step} of {total}, {ticks[-1] - start:.0f} s", flush=True)

    start = time.perf_counter()
    editor = compact.fit(data, generator, recipe=recipe, steps=steps, seed=seed, progress=progress)
    whole = time.perf_counter() - start
    step = statistics.median(b - a for a, b in pairwise(ticks))
    options, report = editor.options, editor.report
    length, others = (statistics.mean(report[name].values()) for name in ("length", "others"))
    return [
        recipe,
        "none" if options["hold"] is None else f"{options['hold']:g}",
        f"{options['depth']}×{options['width']}",
        f"{len(ticks)}×{options['batch']}",
        f"{whole:.0f}",
        f"{1000 * step:.1f}",
        f"{step * PAPER_STEPS / 60:.0f}" if recipe == "paper" else "",
        f"{report['l_recons']:.4f}",
        f"{report['reconstructed']:.4f}",
        f"{report['l_attr']:.3f}",
        f"{report['l_corr']:.2f}",
        f"{report['mean_correlation']:.3f}",
        f"{report['codes_off_diagonal']:.3f}",
        f"{report['labels_off_diagonal']:.3f}",
        f"{length:.2f}",
        f"{others:.3f}",
        str(len(report["unresponsive"])),
    ]


TITLES = (
    "recipe",
    "hold",
    "layers",
    "steps",
    "seconds",
    "ms a step",
    "82,000 steps, min",
    "L_recons",
    "reconstructed",
    "L_attr",
    "L_corr",
    "mean corr(c, a)",
    "codes' |corr|",
    "labels' |corr|",
    "length",
    "others",
    "no response",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--generator", default="ffhq")
    parser.add_argument("--recipes", default="fast,paper")
    parser.add_argument("--steps", type=int, help="at most so many, for each recipe")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    generator = load_generator(args.generator)
    data = load_labels(args.labels, generator)
    print(f"{len(data)} codes, {len(data.attributes)} attributes, {args.threads} threads", flush=True)
    rows = [measure_recipe(recipe, data, generator, args.steps, args.seed) for recipe in args.recipes.split(",")]
    for title, *values in zip(TITLES, *rows, strict=True):
        print(f"{title:18}" + "".join(f"{value:>14}" for value in values))


if __name__ == "__main__":
    main()
