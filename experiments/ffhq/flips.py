"""How often an edit of one attribute turns somebody into somebody else: another gender, another skin, glasses on or off.

    python -m experiments.ffhq.flips ffhq/compact -n 32 [--no-regions] [--refine 3]

Every attribute of the editor is changed by 1.5 σ, those of AGAINST downwards. Gender and glasses flip where the probability that
celeba40_reading reads goes from below 0.3 to above 0.7 or back; gender and skin flip, too, where omi_reading's score changes by
more than 1 standard deviation of fresh faces. Edits that name what flips, or that entail it, are left out. Neither judge shares
a network with the labels' scorer. Pictures are early ones of 512 pixels; edits are kept to their regions, as `ganvas edit` does.
"""

from __future__ import annotations

from typing import Annotated

import torch
import typer
from torch import Tensor

from experiments.ffhq.several import build_drawing
from experiments.ffhq.side_effects import Judges, Readings, load_judges
from ganvas import load_editor, load_generator, sample
from ganvas.control.refinement import refine_changes
from ganvas.generators.regions import find_regions
from ganvas.recipe.refinement import load_label_scorer

SEED = 2_120_000
STRENGTH = 1.5
LOW, HIGH = 0.3, 0.7
"""The probabilities between which nothing is said."""
AGAINST = ("No_Beard", "Young")
"""Attributes whose opposite people ask for."""
ENTAILING = {
    "Male": (
        "5_o_Clock_Shadow",
        "Goatee",
        "Mustache",
        "No_Beard",
        "Sideburns",
        "Heavy_Makeup",
        "Wearing_Lipstick",
        "Male",
    ),
    "Eyeglasses": ("Eyeglasses", "Sunglasses"),
    "Skin_Lightness": ("Pale_Skin", "Skin_Lightness"),
}
"""What may flip -> the attributes whose edits are expected to change it."""


def find_flips(judges: Judges, before: Readings, after: Readings, name: str) -> Tensor:
    """Return which faces flip in ``name``, (n,)."""
    flips = torch.zeros(len(before.faces), dtype=torch.bool)
    scorer = judges.scorers["celeba40_reading"]
    if name in scorer.attributes:
        column = scorer.column(name)
        old, new = (each.scores["celeba40_reading"][:, column].sigmoid() for each in (before, after))
        flips |= ((old < LOW) & (new > HIGH)) | ((old > HIGH) & (new < LOW))
    scorer = judges.scorers["omi_reading"]
    if name in scorer.attributes:
        flips |= judges.measure_change("omi_reading", before, after)[:, scorer.column(name)].abs() > 1
    return flips


def main(
    editors: Annotated[list[str], typer.Argument(help="Editors that ship, or files.")],
    n: Annotated[int, typer.Option("-n", help="Faces.")] = 32,
    regions: Annotated[bool, typer.Option(help="Keep edits to the regions of their attributes.")] = True,
    refine: Annotated[int, typer.Option(help="Corrections of each edit, as `ganvas edit --refine` makes them.")] = 0,
) -> None:
    """Print the share of flips of each edit, and of all."""
    generator = load_generator("ffhq", dtype="auto")
    judges, ws = load_judges(generator), sample(generator, n, 1.0, SEED)
    before = judges.read(ws)
    for path in editors:
        editor, rows = load_editor(path, generator), []
        scorer = load_label_scorer(editor) if refine else None
        for attribute in editor.attributes:
            change = -STRENGTH if attribute in AGAINST else STRENGTH
            edited = []
            for i, code in enumerate(ws.split(1)):
                changes = {attribute: change}
                if scorer is not None:
                    draw = build_drawing(generator, code, before.pictures[i : i + 1], [attribute] if regions else ())
                    changes = refine_changes(editor, draw, scorer, code, changes, corrections=refine).changes
                edited.append(editor.edit_quietly(code, changes))
            kept = find_regions("ffhq", [attribute]) if regions else ()
            after = judges.read(torch.cat(edited), ws, before.pictures, kept)
            flips = {
                name: float(find_flips(judges, before, after, name).float().mean())
                for name, expected in ENTAILING.items()
                if attribute not in expected
            }
            rows.append(sum(flips.values()) / len(flips))
            worst = ", ".join(f"{name} {share:.3f}" for name, share in flips.items())
            print(f"{path} {attribute} {change:+g}: {worst}", flush=True)
        print(f"{path}: {sum(rows) / len(rows):.4f} of all; worst edit {max(rows):.3f}")


if __name__ == "__main__":
    typer.run(main)
