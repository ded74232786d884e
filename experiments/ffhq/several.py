"""Whether several attributes change at once as asked: two, three and four of TWELVE by 1 to 1.5 σ each, up or down.

    python -m experiments.ffhq.several ffhq/compact -n 48

A change is as asked where the scorer reads it within 0.5 σ of what was asked, in the editor's standard deviations. Pictures are
early ones of 512 pixels; edits are kept to their regions, as `ganvas edit` does.
"""

from __future__ import annotations

import random
from typing import Annotated

import torch
import typer

from ganvas import load_editor, load_generator, load_scorer, sample
from ganvas.generators.regions import blend_pictures, build_mask, find_regions
from ganvas.io.images import downscale

SEED, SIDE = 2_130_000, 512
TWELVE = (
    *("Smiling", "Eyeglasses", "Male", "Age", "Hair_Lightness", "Long_Hair"),
    *("Bangs", "Heavy_Makeup", "No_Beard", "Skin_Lightness", "Weight", "Wearing_Hat"),
)
TOLERANCE = 0.5


def main(
    editors: Annotated[list[str], typer.Argument(help="Editors that ship, or files.")],
    n: Annotated[int, typer.Option("-n", help="Faces for each number of attributes.")] = 48,
    scorer: Annotated[str, typer.Option(help="The scorer that reads changes.")] = "face_attributes",
) -> None:
    """Print the shares of changes that are as asked."""
    generator, judge = load_generator("ffhq", dtype=torch.bfloat16), load_scorer(scorer)
    for path in editors:
        editor = load_editor(path, generator)
        columns = [judge.column(name) for name in editor.attributes]
        names = [name for name in TWELVE if name in editor.attributes]
        for count in (2, 3, 4):
            drawn, right, direction = random.Random(count), 0, 0
            for code in sample(generator, n, 1.0, SEED + 1000 * count).split(1):
                asked = {name: drawn.choice((-1, 1)) * drawn.uniform(1.0, 1.5) for name in drawn.sample(names, count)}
                with torch.no_grad():
                    before = generator.synthesis(code, resolution=SIDE)
                    after = generator.synthesis(editor.edit_quietly(code, asked), resolution=SIDE)
                    if kept := find_regions("ffhq", asked):
                        after = blend_pictures(before, after, build_mask(kept, SIDE, SIDE))
                    old, new = (editor.gaussianize(judge(downscale(each))[:, columns])[0] for each in (before, after))
                for name, change in asked.items():
                    read = float((new - old)[editor.attributes.index(name)])
                    right += abs(read - change) <= TOLERANCE
                    direction += read * change > 0
            print(
                f"{path}, {count} at once: {right / n / count:.3f} as asked, {direction / n / count:.3f} the right way"
            )


if __name__ == "__main__":
    typer.run(main)
