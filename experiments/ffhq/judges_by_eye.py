"""How good judges and scorers are on faces that were labelled by eye: AUC, with the number of faces.

    python -m experiments.ffhq.judges_by_eye --scorer celeba40_reading --scorer omi_reading

200 faces for glasses, smile, gender, hat and age (``faces_by_eye.json``), 398 for glasses alone (``glasses_by_eye.json``).
"""

from __future__ import annotations

import json
from typing import Annotated

import torch
import typer
from torch import Tensor

from experiments.ffhq.face_attributes import BY_EYE, draw_faces, measure_auc, read_glasses
from ganvas import load_scorer
from ganvas.scorers.base import Scorer

OLD = "Older than 45"
NAMES = {"Eyeglasses": (("Eyeglasses", 1),), "Smiling": (("Smiling", 1), ("Happy", 1)), "Male": (("Male", 1),)}
NAMES |= {"Wearing_Hat": (("Wearing_Hat", 1),), OLD: (("Age", 1), ("Young", -1))}
"""Label by eye -> attributes that read it, and their sign."""


@torch.no_grad()
def score_faces(scorers: list[Scorer], seeds: list[int]) -> list[Tensor]:
    """Score the faces of seeds by several scorers."""
    rows = [[scorer(picture) for scorer in scorers] for picture in draw_faces(seeds)]
    return [torch.cat(part) for part in zip(*rows, strict=True)]


def find_scores(scorer: Scorer, scores: Tensor, label: str) -> tuple[str, Tensor] | None:
    """Return the name and the scores of the attribute that reads a label, None where the scorer has none."""
    for name, sign in NAMES[label]:
        if name in scorer.attributes:
            return name, sign * scores[:, scorer.column(name)]
    return None


def main(scorer: Annotated[list[str], typer.Option(help="The scorers to measure.")]) -> None:
    """Print the AUC of scorers on faces labelled by eye."""
    scorers, table = [load_scorer(name) for name in scorer], json.loads(BY_EYE.read_text())
    for one, scores in zip(scorers, score_faces(scorers, [table["seed"] + i for i in range(table["n"])]), strict=True):
        for label, rows in table["labels"].items():
            clear, labels = torch.ones(table["n"], dtype=torch.bool), torch.zeros(table["n"])
            clear[rows["unclear"]], labels[rows["yes"]] = False, 1
            if found := find_scores(one, scores, label):
                area = measure_auc(labels[clear], found[1][clear])
                print(f"{one.name}: {label}, by {found[0]}: AUC {area:.3f} ({int(clear.sum())})")
    seeds, kinds = read_glasses()
    for one, scores in zip(scorers, score_faces(scorers, seeds), strict=True):
        if found := find_scores(one, scores, "Eyeglasses"):
            area = measure_auc((kinds >= 0).double(), found[1])
            print(f"{one.name}: glasses, clear or dark, against none, by {found[0]}: AUC {area:.3f} ({len(seeds)})")


if __name__ == "__main__":
    typer.run(main)
