"""Check that gradients predict what a small move does to a score, on fresh faces.

    python -m experiments.ffhq.gradient_check GRADIENTS --attributes Smiling,Age -n 100

GRADIENTS: ``gradients.safetensors`` that `ganvas label --gradients` wrote. Each face's code moves by a step along its own
gradient, in all rows, and along the mean of the file. Printed: the mean change that was predicted, that of the score, and their
ratio.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from ganvas import load_generator, load_scorer, sample
from ganvas.data.gradients import WhitenedBasis, group_rows, load_summary
from ganvas.generators.base import Generator
from ganvas.io.images import downscale
from ganvas.scorers.base import Scorer

SEED = 3_200_000


def compute_own_gradient(
    generator: Generator, scorer: Scorer, code: Tensor, column: int, basis: WhitenedBasis, size: int
) -> tuple[float, Tensor]:
    """Return the score of a code and its gradient in whitened components, summed over all rows."""
    leaf = code.clone().requires_grad_()
    score = scorer(downscale(generator.synthesis(leaf, resolution=size), size))[0, column]
    (gradient,) = torch.autograd.grad(score, leaf)
    return float(score.detach()), gradient[0].sum(0) @ basis.directions.T


@torch.no_grad()
def score_code(generator: Generator, scorer: Scorer, code: Tensor, column: int, size: int) -> float:
    """Return one score of a code."""
    return float(scorer(downscale(generator.synthesis(code, resolution=size), size))[0, column])


def main(
    gradients: Annotated[Path, typer.Argument(help="gradients.safetensors.")],
    attributes: Annotated[str, typer.Option(help="The attributes to check.")] = "Smiling,Age,Male,Eyeglasses",
    n: Annotated[int, typer.Option("-n", help="Fresh faces.")] = 100,
    step: Annotated[float, typer.Option(help="Length of the step in whitened components.")] = 0.1,
    size: Annotated[int, typer.Option(help="Side of the pictures that are scored.")] = 256,
) -> None:
    """Print predicted and measured changes."""
    generator, scorer = load_generator("ffhq"), load_scorer("face_attributes")
    summary = load_summary(gradients, generator)
    basis, groups = summary.basis, group_rows(generator)
    for name in attributes.split(","):
        column = scorer.column(name)
        shared = summary.mean[list(summary.attributes).index(name)]
        sums = torch.zeros(2, 2)
        for code in sample(generator, n, 1.0, SEED).split(1):
            score, own = compute_own_gradient(generator, scorer, code, column, basis, size)
            move = step * own / own.norm() @ basis.directions
            sums[0] += torch.tensor(
                [step * float(own.norm()), score_code(generator, scorer, code + move, column, size) - score]
            )
            moved = code.clone()
            length = shared.norm()
            for rows, part in zip(groups, shared, strict=True):
                moved[:, rows] += step * part / length @ basis.directions
            sums[1] += torch.tensor([step * float(length), score_code(generator, scorer, moved, column, size) - score])
        for title, (predicted, measured) in zip(("own gradient", "shared mean"), (sums / n).tolist(), strict=True):
            print(
                f"{name}, {title}: predicted {predicted:+.4f}, measured {measured:+.4f}, ratio {measured / predicted:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    typer.run(main)
