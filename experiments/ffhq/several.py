"""Whether several attributes change at once as asked: two, three and four of ATTRIBUTES by 1 to 1.5 σ each, up or down.

    python -m experiments.ffhq.several ffhq/compact-2 -n 48 [--refine 4]

A change goes the other way where it would lead beyond MAX_READING, out of the scores that faces have: nobody who has no hat can
lose it. It is as asked where the scorer reads it within 0.5 σ of what was asked, in the editor's standard deviations. Pictures
are those of an intermediate block, of 512 pixels; edits are kept to their regions, and refined by --refine, as `ganvas edit`
does. The scorer is the one that labelled, and that refines: it is no independent judge, and the output says so.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Annotated

import torch
import typer
from torch import Tensor

from ganvas import load_editor, load_generator, load_scorer, sample
from ganvas.control.refinement import MAX_READING, refine_changes
from ganvas.editors.base import Editor
from ganvas.generators.base import Generator
from ganvas.generators.regions import blend_edit, find_edited_parts, find_regions
from ganvas.io.images import downscale

SEED, SIDE = 2_130_000, 512
ATTRIBUTES = (
    *("Smiling", "Eyeglasses", "Male", "Age", "Hair_Lightness", "Long_Hair"),
    *("Bangs", "Heavy_Makeup", "No_Beard", "Skin_Lightness", "Weight", "Wearing_Hat"),
)
TOLERANCE = 0.5


def main(
    editors: Annotated[list[str], typer.Argument(help="Editors that ship, or files.")],
    n: Annotated[int, typer.Option("-n", help="Faces for each number of attributes.")] = 48,
    scorer: Annotated[str, typer.Option(help="The scorer that reads changes.")] = "face_attributes",
    refine: Annotated[int, typer.Option(help="Corrections of each edit.")] = 0,
) -> None:
    """Print the shares of changes that are as asked."""
    generator, reader = load_generator("ffhq", dtype="auto"), load_scorer(scorer)
    print(f"Read by {scorer}, which may have labelled and refined what it reads.")
    for path in editors:
        editor = load_editor(path, generator)
        columns = [reader.column(name) for name in editor.attributes]
        names = [name for name in ATTRIBUTES if name in editor.attributes]

        def read(picture: Tensor, editor: Editor = editor, columns: list[int] = columns) -> dict[str, float]:
            scores = editor.gaussianize(reader(downscale(picture))[:, columns])[0].tolist()
            return dict(zip(editor.attributes, scores, strict=True))

        for count in (2, 3, 4):
            drawn, right, direction = random.Random(count), 0, 0
            for code in sample(generator, n, 1.0, SEED + 1000 * count).split(1):
                with torch.no_grad():
                    before = generator.synthesis(code, resolution=SIDE)
                    old, asked = read(before), {}
                    for name in drawn.sample(names, count):
                        change = drawn.choice((-1, 1)) * drawn.uniform(1.0, 1.5)
                        asked[name] = -change if abs(old[name] + change) > max(MAX_READING, abs(old[name])) else change
                    draw = build_drawing(generator, code, before, asked)
                    changes = refine_changes(editor, draw, reader, code, asked, corrections=refine).changes
                    new = read(draw(editor.edit_quietly(code, changes)))
                right += sum(abs(new[name] - old[name] - change) <= TOLERANCE for name, change in asked.items())
                direction += sum((new[name] - old[name]) * change > 0 for name, change in asked.items())
            print(
                f"{path}, {count} at once: {right / n / count:.3f} as asked, {direction / n / count:.3f} the right way"
            )


def build_drawing(
    generator: Generator, unedited: Tensor, before: Tensor, asked: Iterable[str]
) -> Callable[[Tensor], Tensor]:
    """Return what draws the early picture of an edited code, kept to the regions of what was asked.

    ``before``: the picture of the code ``unedited``, (1, 3, SIDE, SIDE).
    """
    kept = find_regions("ffhq", asked)

    def draw(code: Tensor) -> Tensor:
        after = generator.synthesis(code, resolution=SIDE)
        return blend_edit(before, after, kept, find_edited_parts(generator, kept, unedited, code)) if kept else after

    return draw


if __name__ == "__main__":
    typer.run(main)
