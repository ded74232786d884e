"""Draw the sheets of edits that the documentation shows.

    python -m experiments.ffhq.edit_sheets one-face out/one-face.png --editor ffhq/compact     # how it was
    python -m experiments.ffhq.edit_sheets one-face out/one-face.png --refine 4                # and is
    python -m experiments.ffhq.edit_sheets regions out/regions.png
    python -m experiments.ffhq.edit_sheets worn out/worn.png --refine 4
    python -m experiments.ffhq.edit_sheets glasses out/glasses.png    # 64 faces at +1 σ, to count sunglasses

"one-face": seed 0 under single edits, large ones, and several at once; an editor with Age is asked for Age where one without is
asked for Young. Each edit is drawn in its region by "ffhq/compact-2", and everywhere by others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from torch import Tensor

from experiments.ffhq.several import build_drawing
from ganvas import load_editor, load_generator, sample
from ganvas.control.refinement import refine_changes
from ganvas.editors.base import Editor
from ganvas.generators.base import Generator
from ganvas.io.figures import draw_grid
from ganvas.io.files import atomic_write
from ganvas.io.images import downscale, encode_png, to_bytes
from ganvas.recipe.refinement import load_label_scorer
from ganvas.scorers.base import Scorer

Edit = dict[str, float]
SIDE, CELL = 512, 192
GLASSES_SEED = 2_140_000
PEOPLE, WEARERS = (28, 75, 0, 79, 35, 37), (28, 75, 0, 79, 35, 37, 1)
REGIONAL: tuple[Edit, ...] = (
    {"Smiling": 1.5},
    {"Age": 1.2},
    {"Hair_Lightness": 1.5},
    {"Bangs": 1.5},
    {"Male": -1.2},
    {"Male": 1.2},
)
WORN: tuple[Edit, ...] = ({}, {"Eyeglasses": 1.5}, {"Sunglasses": 1.5}, {"Wearing_Hat": 1.5})
ONE_FACE: tuple[Edit, ...] = (
    *({}, {"Smiling": 2.0}, {"Young": -1.5}, {"Eyeglasses": 1.5}),
    *({"Male": 1.5}, {"Wearing_Hat": 2.0}, {"Bald": 2.0}, {"Blond_Hair": 2.0}),
    *({"Smiling": 4.0}, {"Young": -4.0}, {"Wearing_Lipstick": -3.0}, {"Mustache": 3.0}),
    {"Smiling": 1.5, "Eyeglasses": 1.5, "Young": -1.5},
    {"Smiling": 1.5, "Eyeglasses": 1.5, "Young": -1.5, "Bangs": 1.0},
    {"Smiling": 1.5, "Eyeglasses": 1.5, "Young": -1.5, "Bangs": 1.0, "Hair_Lightness": 1.0},
    {"Smiling": 1.5, "Eyeglasses": 1.5, "Young": -1.5, "Bangs": 1.0, "Hair_Lightness": 1.0, "Bushy_Eyebrows": 1.0},
)


@torch.no_grad()
def draw_edit(
    generator: Generator,
    editor: Editor,
    seed: int,
    edit: Edit,
    regional: bool,
    psi: float = 0.7,
    refine: tuple[Scorer, int] | None = None,
) -> Tensor:
    """Draw one picture, (CELL, CELL, 3), uint8; ``refine``: the scorer and number of corrections of the edit."""
    aged = {"Age" if name == "Young" and "Age" in editor.attributes else name: value for name, value in edit.items()}
    if "Age" in aged and "Young" in edit:
        aged["Age"] = -edit["Young"]
    asked = {name: value for name, value in aged.items() if name in editor.attributes}
    ws = sample(generator, 1, psi, seed)
    before = generator.synthesis(ws, resolution=SIDE)
    draw = build_drawing(generator, ws, before, asked if regional else ())
    if refine and asked:
        asked = refine_changes(editor, draw, refine[0], ws, asked, corrections=refine[1]).changes
    after = draw(editor.edit_quietly(ws, asked)) if asked else before
    return to_bytes(downscale(after, CELL))[0]


def format_edit(edit: Edit) -> str:
    """Format the title of a column."""
    return "\n".join(f"{name} {value:+g}" for name, value in edit.items()) or "as drawn"


def main(
    kind: Annotated[Literal["one-face", "regions", "worn", "glasses"], typer.Argument(help="Which sheet.")],
    out: Annotated[Path, typer.Argument(help="The picture (PNG).")],
    editor: Annotated[str, typer.Option(help="An editor that ships, or a file.")] = "ffhq/compact-2",
    refine: Annotated[int, typer.Option(help="Corrections of each edit, as `ganvas edit --refine` makes them.")] = 0,
) -> None:
    """Draw a sheet."""
    generator = load_generator("ffhq", dtype="auto")
    loaded = load_editor(editor, generator)
    regional = editor != "ffhq/compact"
    refining = (load_label_scorer(loaded), refine) if refine else None
    if kind == "one-face":
        pictures = [draw_edit(generator, loaded, 0, edit, regional, refine=refining) for edit in ONE_FACE]
        titles = [format_edit(edit) for edit in ONE_FACE[:8]], ["seed 0", "large; several"]
    elif kind == "regions":
        pictures = []
        for seed in PEOPLE:
            pictures.append(draw_edit(generator, loaded, seed, {}, False))
            pictures += [draw_edit(generator, loaded, seed, edit, kept) for edit in REGIONAL for kept in (False, True)]
        columns = [f"{format_edit(edit)}\n{kept}" for edit in REGIONAL for kept in ("everywhere", "in its region")]
        titles = ["as drawn", *columns], [str(seed) for seed in PEOPLE]
    elif kind == "worn":
        pictures = [
            draw_edit(generator, loaded, seed, edit, regional, refine=refining) for seed in WEARERS for edit in WORN
        ]
        titles = [format_edit(edit) for edit in WORN], [str(seed) for seed in WEARERS]
    else:
        pictures = [
            draw_edit(generator, loaded, GLASSES_SEED + k, {"Eyeglasses": 1.0}, regional, 1.0, refining)
            for k in range(64)
        ]
        titles = [""] * 8, [str(8 * row) for row in range(8)]
    with atomic_write(out) as file:
        file.write_bytes(encode_png(draw_grid(pictures, titles[1], titles[0])))


if __name__ == "__main__":
    typer.run(main)
