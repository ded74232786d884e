"""Build the editor of counts that keeps other digits, from what ships.

python -m experiments.multimnist.build_composed --out composed.safetensors
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ganvas.checkpoints.load import load_generator
from ganvas.data.label_files import load_labels
from ganvas.editors import composed
from ganvas.editors.base import save_editor
from ganvas.errors import GanvasError
from ganvas.progress import show_count
from ganvas.scorers import load_scorer


def main(
    out: Annotated[Path, typer.Option(help="The editor (safetensors).")],
    labels: Annotated[Path, typer.Option(help="Labels by the counter.")] = Path(
        "src/ganvas/assets/labels/multimnist-count.safetensors"
    ),
    generator: Annotated[str, typer.Option(help="A name or a file.")] = "multimnist",
    samples: Annotated[int, typer.Option(help="Samples that the editor stores.")] = 40_000,
) -> None:
    """Build the editor."""
    network = load_generator(generator)
    with show_count("Cutting samples into objects") as progress:
        editor = composed.build(load_labels(labels, network), network, load_scorer("count"), samples, progress)
    save_editor(editor, out, half=True)
    print(out)


if __name__ == "__main__":
    try:
        typer.run(main)
    except GanvasError as error:
        sys.exit(f"Error: {error}")
