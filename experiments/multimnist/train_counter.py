"""Train the scorer that counts digits, on sets that ``ganvas make-multimnist`` made.

    python -m experiments.multimnist.train_counter m64 m128 --out count.safetensors

Prints what is measured on the test part of each set. Started again after a stop, it goes on.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ganvas.cli.options import Dtype, Seed
from ganvas.errors import GanvasError
from ganvas.generators import choose_dtype
from ganvas.progress import show_count
from ganvas.recipe.files import check_output
from ganvas.training import counter


def main(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Sets that `ganvas make-multimnist` made.")],
    out: Annotated[Path, typer.Option(help="The counter (safetensors); a checkpoint lies beside it while it trains.")],
    steps: Annotated[int, typer.Option(help="Batches of 128 pictures.")] = 1400,
    dtype: Dtype = "float32",
    seed: Seed = 0,
) -> None:
    """Train the scorer that counts digits; started again after a stop, it goes on."""
    check_output(out, (".safetensors",))
    config = counter.CounterConfig(steps=steps, dtype=choose_dtype(dtype, "cpu"), seed=seed)
    with show_count("Training") as progress:
        measured = counter.train_counter(folders, out, config, progress)
    for name, values in measured.items():
        print(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in values.items()))
    print(out)


if __name__ == "__main__":
    try:
        typer.run(main)
    except GanvasError as error:
        sys.exit(f"Error: {error}")
