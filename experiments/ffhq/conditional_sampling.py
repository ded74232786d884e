"""Whether faces drawn by conditions meet them, and how much they still differ: the shipped editor and scorer of ffhq.

    python -m experiments.ffhq.conditional_sampling OUT [-n 256]

Draws n faces for each of Eyeglasses, Male, Smiling and Young, above and below p = 0.5, at psi 1, scores them, and prints the
share that meets its condition beside the base rate, and how much the free dimensions still vary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

import ganvas
from ganvas.editors.compact import CompactEditor
from ganvas.evaluation.conditional_sampling import markdown, run_conditional
from ganvas.evaluation.success import SuccessProtocol


def main(
    out: Annotated[Path, typer.Argument(help="The folder for conditional.json and conditional.md.")],
    n: Annotated[int, typer.Option("-n", help="Faces a condition.")] = 256,
) -> None:
    """Measure conditional sampling with what ships for ffhq."""
    generator = ganvas.load_generator("ffhq", dtype=torch.bfloat16)
    editor, scorer = ganvas.load_editor("ffhq/compact"), ganvas.load_scorer("celeba40")
    if not isinstance(editor, CompactEditor):
        raise TypeError("ffhq/compact is no compact editor.")
    print(markdown(run_conditional(generator, scorer, editor, out, protocol=SuccessProtocol(n=n))))


if __name__ == "__main__":
    typer.run(main)
