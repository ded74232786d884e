"""How good the celeba40 scorer is: on held-out CelebA faces, on generated faces, and against a person's eye.

    python -m experiments.ffhq.scorer_quality CELEBA [--scorer FILE] [--faces 2000] [--sheet sheet.png]

Prints, per attribute, the area under the ROC curve on the test tenth and the calibration error of its probabilities;
the mean AUC within each Male × Young cell; on fresh generated faces (psi 1) how alike the logits are; and the AUC
against labels made by eye (experiments/ffhq/faces_by_eye.json). ``--sheet`` draws the 8 highest and 8 lowest faces of each
attribute, to be looked at.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
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

LABELS_BY_EYE = Path(__file__).with_name("faces_by_eye.json")
AGE = "Older than 45"
"""The label by eye that is compared with the reverse of Young."""
MIN_FACES = 5
"""Faces with an attribute, and without, that the AUC of a cell needs."""


def measure_auc(labels: Tensor, scores: Tensor) -> float:
    """Return the area under the ROC curve."""
    return float(roc_auc_score(labels.numpy(), scores.numpy()))


def calibration_error(labels: Tensor, logits: Tensor, bins: int = 10) -> float:
    """Return the expected calibration error over bins of equal count: mean |share of positives - mean probability|."""
    order = logits.argsort()
    groups = zip(labels[order].chunk(bins), torch.sigmoid(logits[order]).chunk(bins), strict=True)
    return float(np.mean([abs(float(y.mean() - p.mean())) for y, p in groups]))


@torch.no_grad()
def score_real(scorer: Celeba40, faces: FaceSet) -> Tensor:
    """Return the logits of real faces."""
    return torch.cat([scorer(part.float() / 127.5 - 1) for part in faces.pixels.split(256)])


@torch.no_grad()
def score_generated(scorer: Celeba40, seed: int, n: int) -> tuple[Tensor, Tensor]:
    """Return scores and small pictures of the seeds' faces at psi 1."""
    generator = ganvas.load_generator("ffhq", dtype="auto")
    scores, pictures = [], []
    for i in track(range(n), f"{n} faces", console=Console(stderr=True)):
        picture = downscale(generator.synthesis(ganvas.sample(generator, 1, psi=1, seed=seed + i)))
        scores.append(scorer(picture))
        pictures.append(to_bytes(downscale(picture, 128)))
    return torch.cat(scores), torch.cat(pictures)


def report_real(scorer: Celeba40, faces: FaceSet, console: Console) -> None:
    """Print AUC and calibration on held-out faces, and AUC within the cells of Male × Young."""
    logits, labels = score_real(scorer, faces), faces.labels
    table = Table("attribute", "AUC", "calibration error", title=f"{len(labels)} held-out faces")
    aucs = [measure_auc(labels[:, k], logits[:, k]) for k in range(len(ATTRIBUTES))]
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
        columns = ((counts >= MIN_FACES) & (cell.sum() - counts >= MIN_FACES)).nonzero()[:, 0].tolist()
        areas = [measure_auc(labels[cell][:, k], logits[cell][:, k]) for k in columns]
        mean = f"{np.mean(areas):.3f}" if areas else "too few faces"
        console.print(f"within {title} ({int(cell.sum())} faces, {len(areas)} attributes): mean AUC {mean}")


def report_generated(scores: Tensor, console: Console) -> None:
    """Print how correlated the logits of generated faces are."""
    correlation = torch.corrcoef(scores.T)
    k = len(ATTRIBUTES)
    mean = float((correlation.abs().sum() - k) / (k * (k - 1)))
    pair = float(correlation[ATTRIBUTES.index("Male"), ATTRIBUTES.index("Young")])
    console.print(f"{len(scores)} generated faces: mean off-diagonal |correlation| {mean:.3f}, Male-Young {pair:.2f}")


def report_by_eye(scorer: Celeba40, console: Console) -> None:
    """Print the AUC against labels that a person made."""
    by_eye = json.loads(LABELS_BY_EYE.read_text())
    scores, _ = score_generated(scorer, by_eye["seed"], by_eye["n"])
    for name, rows in by_eye["labels"].items():
        column = -scores[:, ATTRIBUTES.index("Young")] if name == AGE else scores[:, ATTRIBUTES.index(name)]
        clear = torch.ones(by_eye["n"], dtype=torch.bool)
        clear[rows["unclear"]] = False
        labels = torch.zeros(by_eye["n"])
        labels[rows["yes"]] = 1
        console.print(f"by eye, {name}: AUC {measure_auc(labels[clear], column[clear]):.3f} ({int(clear.sum())} faces)")


def draw_sheet(scores: Tensor, pictures: Tensor, out: Path) -> None:
    """Draw the faces with the highest and lowest scores of each attribute."""
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


def main(
    celeba: Annotated[str, typer.Argument(help="CelebA's folder, or a parquet file.")],
    scorer: Annotated[str | None, typer.Option(help="A scorer's file; by default the one that ships.")] = None,
    faces: Annotated[int, typer.Option(help="Generated faces to score; 0 for none.")] = 2000,
    sheet: Annotated[
        Path | None, typer.Option(help="Draw the 8 highest and lowest faces of each attribute here.")
    ] = None,
) -> None:
    """Measure a celeba40 scorer."""
    console = Console()
    network = read(scorer) if scorer else load("celeba40")
    real = read_faces(celeba, network.network.size)
    report_real(network, real.select(real.tenths == TEST_TENTH), console)
    if faces:
        scores, pictures = score_generated(network, EVALUATION_SEED, faces)
        report_generated(scores, console)
        if sheet:
            draw_sheet(scores, pictures, sheet)
        report_by_eye(network, console)


if __name__ == "__main__":
    typer.run(main)
