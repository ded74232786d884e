"""Store an editor's matrices in float16, as the editor that ships.

python -m experiments.ffhq.store_half compact-float32.safetensors compact.safetensors
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import ganvas
from ganvas.editors.base import save_editor


def main(
    editor: Annotated[Path, typer.Argument(help="An editor's file.")],
    out: Annotated[Path, typer.Argument(help="The file to write.")],
) -> None:
    """Write an editor again, at about half the size."""
    save_editor(ganvas.load_editor(editor), out, half=True)


if __name__ == "__main__":
    typer.run(main)
