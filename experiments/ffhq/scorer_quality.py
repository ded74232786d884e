"""How good the celeba40 scorer is: on held-out CelebA faces, on generated faces, and against a person's eye.

    python -m experiments.ffhq.scorer_quality CELEBA [--scorer FILE] [--faces 2000] [--sheet sheet.png]

Prints, per attribute, the area under the ROC curve on the test tenth and the calibration error of its probabilities;
the mean AUC within each Male × Young cell; on fresh generated faces (psi 1) how alike the logits are; and the AUC
against labels made by eye (experiments/ffhq/faces_by_eye.json). ``--sheet`` draws the 8 highest and 8 lowest faces of each
attribute, to be looked at.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.metrics import roc_auc_score
from torch import Tensor

import ganvas
from ganvas.io.images import downscale, to_bytes
from ganvas.scorers.celeba40 import ATTRIBUTES, Celeba40, load, read
from ganvas.seeds import EVALUATION_SEED
from ganvas.training.celeba import TEST_TENTH, FaceSet, read_faces

EYE = Path(__file__).with_name("faces_by_eye.json")
AGE = "Older than 45"
FEWEST = 5
"""Faces of each kind below which a cell's AUC says nothing."""


def auc(labels: Tensor, scores: Tensor) -> float:
    return float(roc_auc_score(labels.numpy(), scores.numpy()))


def calibration_error(labels: Tensor, logits: Tensor, bins: int = 10) -> float:
    """The expected calibration error over bins of equal count: mean |share of positives - mean probability|."""
    order = logits.argsort()
    groups = zip(labels[order].chunk(bins), torch.sigmoid(logits[order]).chunk(bins), strict=True)
    return float(np.mean([abs(float(y.mean() - p.mean())) for y, p in groups]))


@torch.no_grad()
def score_real(scorer: Celeba40, faces: FaceSet) -> Tensor:
    return torch.cat([scorer(part.float() / 127.5 - 1) for part in faces.pixels.split(256)])


@torch.no_grad()
def score_generated(scorer: Celeba40, seed: int, n: int) -> tuple[Tensor, Tensor]:
    """Scores and small pictures of the seeds' faces at psi 1."""
    generator = ganvas.load_generator("ffhq", dtype=torch.bfloat16)
    scores, pictures = [], []
    for i in track(range(n), f"{n} faces", console=Console(stderr=True)):
        picture = downscale(generator.synthesis(ganvas.sample(generator, 1, psi=1, seed=seed + i)))
        scores.append(scorer(picture))
        pictures.append(to_bytes(downscale(picture, 128)))
    return torch.cat(scores), torch.cat(pictures)


def report_real(scorer: Celeba40, faces: FaceSet, console: Console) -> None:
    logits, labels = score_real(scorer, faces), faces.labels
    table = Table("attribute", "AUC", "calibration error", title=f"{len(labels)} held-out faces")
    aucs = [auc(labels[:, k], logits[:, k]) for k in range(len(ATTRIBUTES))]
    errors = [calibration_error(labels[:, k], logits[:, k]) for k in range(len(ATTRIBUTES))]
    for name, area, error in zip(ATTRIBUTES, aucs, errors, strict=True):
        table.add_row(name, f"{area:.3f}", f"{error:.3f}")
    table.add_row("mean", f"{np.mean(aucs):.4f}", f"{np.mean(errors):.4f}")
    console.print(table)
    male, young = (labels[:, ATTRIBUTES.index(name)] > 0.5 for name in ("Male", "Young"))
    for title, cell in {
        "older women": ~male & ~young,
        "young women": ~male & young,
        "older men": male & ~young,
        "young men": male & young,
    }.items():
        counts = labels[cell].sum(0)
        enough = ((counts >= FEWEST) & (cell.sum() - counts >= FEWEST)).nonzero()[:, 0].tolist()
        areas = [auc(labels[cell][:, k], logits[cell][:, k]) for k in enough]
        mean = f"{np.mean(areas):.3f}" if areas else "too few faces"
        console.print(f"within {title} ({int(cell.sum())} faces, {len(areas)} attributes): mean AUC {mean}")


def report_generated(scores: Tensor, console: Console) -> None:
    correlation = torch.corrcoef(scores.T)
    k = len(ATTRIBUTES)
    mean = float((correlation.abs().sum() - k) / (k * (k - 1)))
    pair = float(correlation[ATTRIBUTES.index("Male"), ATTRIBUTES.index("Young")])
    console.print(f"{len(scores)} generated faces: mean off-diagonal |correlation| {mean:.3f}, Male-Young {pair:.2f}")


def report_eye(scorer: Celeba40, console: Console) -> None:
    eye = json.loads(EYE.read_text())
    scores, _ = score_generated(scorer, eye["seed"], eye["n"])
    for name, found in eye["labels"].items():
        column = -scores[:, ATTRIBUTES.index("Young")] if name == AGE else scores[:, ATTRIBUTES.index(name)]
        clear = torch.ones(eye["n"], dtype=torch.bool)
        clear[found["unclear"]] = False
        labels = torch.zeros(eye["n"])
        labels[found["yes"]] = 1
        console.print(f"by eye, {name}: AUC {auc(labels[clear], column[clear]):.3f} ({int(clear.sum())} faces)")


def draw_sheet(scores: Tensor, pictures: Tensor, out: Path) -> None:
    from PIL import Image, ImageDraw

    side, rows = pictures.shape[1], []
    for k in range(len(ATTRIBUTES)):
        order = scores[:, k].argsort(descending=True)
        rows.append(torch.cat(tuple(pictures[torch.cat((order[:8], order[-8:]))]), 1))
    left = 150
    sheet = Image.new("RGB", (left + 16 * side, len(rows) * side), "white")
    draw = ImageDraw.Draw(sheet)
    for k, row in enumerate(rows):
        sheet.paste(Image.fromarray(row.numpy()), (left, k * side))
        draw.text((4, k * side + side // 2), ATTRIBUTES[k], fill="black")
    sheet.save(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("celeba", help="CelebA's folder, or a parquet file")
    parser.add_argument("--scorer", help="a scorer's file; by default the one that ships")
    parser.add_argument("--faces", type=int, default=2000, help="generated faces to score; 0 for none")
    parser.add_argument("--sheet", type=Path, help="draw the 8 highest and lowest faces of each attribute here")
    options = parser.parse_args()
    console = Console()
    scorer = read(options.scorer) if options.scorer else load("celeba40")
    faces = read_faces(options.celeba, scorer.network.size)
    report_real(scorer, faces.select(faces.tenths == TEST_TENTH), console)
    if options.faces:
        scores, pictures = score_generated(scorer, EVALUATION_SEED, options.faces)
        report_generated(scores, console)
        if options.sheet:
            draw_sheet(scores, pictures, options.sheet)
        report_eye(scorer, console)


if __name__ == "__main__":
    main()
