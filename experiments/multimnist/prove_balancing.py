"""The proof of balancing (``balancing``) with the editor that keeps the other digits, and its inversion.

    ganvas make-multimnist --mnist MNIST --size 64 --out m64
    python -m experiments.multimnist.prove_balancing m64 --out DIR

Prints how often counters are right that learned from pictures of which one in twenty has four digits: with nothing added, with
oversampling, with drawn fours, and with threes that ``multimnist/composed`` inverted and gave one digit more. Writes what was
added into DIR; a stopped run goes on there.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from experiments.multimnist.balancing import PICTURES, RARE_DIVISOR, measure_balancing
from experiments.multimnist.config import FULL
from experiments.multimnist.context import CountContext
from experiments.multimnist.keeping import LABELS
from experiments.multimnist.section import encode_picture
from ganvas import editors
from ganvas.balance.real import load_inverter
from ganvas.checkpoints.load import load_generator
from ganvas.data.label_files import load_labels
from ganvas.errors import GanvasError
from ganvas.io.files import atomic_write
from ganvas.scorers import load_scorer


def main(
    folder: Annotated[Path, typer.Argument(help="A MultiMNIST folder, 64×64.")],
    out: Annotated[Path, typer.Option(help="The folder of what is made; a stopped run goes on there.")],
    n: Annotated[
        int, typer.Option("-n", min=2 * RARE_DIVISOR, max=PICTURES, help="Real pictures that counters learn from.")
    ] = PICTURES,
) -> None:
    """Balance with edited pictures that keep their digits, and train counters."""
    generator = load_generator("multimnist")
    editor = editors.load_editor("multimnist/composed", generator)
    labels = load_labels(LABELS, generator)
    # Of a report's images a quarter is what counters learn from.
    config, counter = replace(FULL, images=4 * n), load_scorer("count")
    context = CountContext(generator, counter, labels, folder, out, config, log=lambda line: print(line, flush=True))
    section = measure_balancing(context, editor, load_inverter(generator, editor=editor))
    for table in section.tables:
        print(f"\n{table.title}")
        for row in (table.head, *table.rows):
            print("  " + " | ".join(row))
    for name, picture in section.pictures.items():
        with atomic_write(out / f"{name}.png") as file:
            file.write_bytes(encode_picture(picture))


if __name__ == "__main__":
    try:
        typer.run(main)
    except GanvasError as error:
        sys.exit(f"Error: {error}")
