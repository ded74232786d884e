"""Inversion of real images: how near, how many counts survive, in W and W+, without and with a loss that keeps the count.

Doubinsky et al. invert with e4e, https://arxiv.org/abs/2102.02766, and plan to "adapt inversion so that it controls the
cardinality of real images better": the last sentence of https://cea.hal.science/cea-04852483.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.multimnist import encoders
from experiments.multimnist.context import CountContext
from experiments.multimnist.encoders import RealImages
from experiments.multimnist.labelled_codes import COUNTED, PIXELS, SAME, EncoderKind
from experiments.multimnist.section import ReportSection, SectionTable
from experiments.multimnist.trials import estimate_rate, fit_code_distribution
from ganvas.evaluation.tables import format_estimate
from ganvas.inversion.batch_optimization import BatchOptimizationConfig, optimize_batch
from ganvas.inversion.object_loss import ObjectLoss, counter_features
from ganvas.inversion.quality import psnr
from ganvas.io.figures import draw_grid
from ganvas.types import Images, WPlus

NAME, TITLE = "inverted", "Real images, inverted"
SMALL_RUN_DIVISOR = 5
"""Optimisation looks at one of so many held-out images: it takes forty times as long."""


@dataclass(frozen=True)
class InvertedImages:
    """Codes of the first ``n`` held-out images, and their pictures."""

    name: str
    ws: WPlus
    pictures: Images


def run(stage: CountContext) -> ReportSection:
    """Train the encoders, invert held-out images, and keep the codes of the training images for the other sections."""
    if stage.folder is None:
        return encoders.require_real_images(NAME, TITLE)
    train, test = encoders.read_real_images(stage, "train"), encoders.read_real_images(stage, "test")
    found = []
    for kind in encoders.KINDS:
        ws = encoders.invert_images(stage, encoders.train_kind(stage, kind, train), test.images, kind.space)
        found.append(InvertedImages(kind.name, ws, encoders.draw_codes(stage, ws)))
    for kind in (COUNTED, PIXELS, SAME):
        encoders.inverted_codes(stage, train, kind)
    better = [_polished(stage, test, kind, one) for kind, one in zip(encoders.KINDS, found, strict=True) if kind.keeps]
    rows = [_measured(stage, test, one) for one in (*found, *better)]
    head = ("encoder", "images", "mean squared error", "PSNR (dB)", "count survives", "beyond W")
    table = SectionTable(
        "Held-out test images",
        head,
        [(row["name"], str(row["n"]), f"{row['mse']:.4f}", f"{row['psnr']:.1f}", *row["told"]) for row in rows],
        f"Pixels are in [-1, 1]; the mean image has {_blank(test):.4f}. The count survives where the counter finds as many"
        f" objects in the reconstruction as the image has; of the images themselves it counts {_sight(stage, test)} right."
        " Where the count is kept, that counter is the one that was learned from. Beyond W: codes with a row outside the 99.9th"
        " percentile of sampled codes.",
    )
    return ReportSection(
        NAME,
        TITLE,
        "An encoder in the manner of e4e: one w, and in W+ an offset of each row, freed coarse to fine, small by a penalty"
        " and by a discriminator of codes; it learned from the images' pixels and the counter's features. Count kept: also"
        " from the counter's cross-entropy on the reconstruction. Pixels alone: from nothing of the counter's."
        f" Optimised: {BatchOptimizationConfig().steps} steps of Adam on the pixels and the counter's features after it.",
        (table,),
        {"inverted": _strip(stage, test, (*found, *better))},
        {"rows": [{key: value for key, value in row.items() if key != "told"} for row in rows]},
        {"inverted": "Held-out images and their inversions."},
    )


def _polished(stage: CountContext, test: RealImages, kind: EncoderKind, one: InvertedImages) -> InvertedImages:
    """The inversions of the first images, optimised."""
    n = max(len(test) // SMALL_RUN_DIVISOR, min(len(test), stage.size.rows))
    stage.watch(f"Optimising {n} inversions in {kind.space.upper()} …")
    images = test.images[:n]
    likeness = ObjectLoss.fit_scales(counter_features(stage.network), test.images[:256])
    ws = optimize_batch(images, one.ws[:n], stage.generator, likeness, kind.space)
    return InvertedImages(f"{one.name}, optimised", ws, encoders.draw_codes(stage, ws))


@torch.no_grad()
def _measured(stage: CountContext, test: RealImages, one: InvertedImages) -> dict[str, Any]:
    """One row's numbers; ``told``: those with intervals, as cells."""
    images, column = test.images[: len(one.ws)], stage.counter.column("count")
    counted = torch.cat([stage.counter(part)[:, column] for part in one.pictures.split(encoders.BATCH)])
    wanted = test.scores[: len(one.ws), column]
    survives = estimate_rate((counted.cpu() == wanted).float())
    inside = fit_code_distribution(stage.generator, stage.size.labels).contains(one.ws.cpu())
    beyond = estimate_rate((~inside).float())
    by_count = {int(c): float((counted.cpu() == c)[wanted == c].float().mean()) for c in wanted.unique()}
    return {
        "name": one.name,
        "n": len(one.ws),
        "mse": float((one.pictures - images).square().mean()),
        "psnr": float(psnr(one.pictures, images).mean()),
        "survives": survives,
        "survives_by_count": by_count,
        "beyond": beyond,
        "told": (format_estimate(vars(survives), 3), f"{beyond.mean:.3f}"),
    }


def _blank(test: RealImages) -> float:
    images = test.images
    return float((images - images.mean(0)).square().mean())


def _sight(stage: CountContext, test: RealImages) -> str:
    """The share of real images that the counter counts right."""
    column = stage.counter.column("count")
    counted = torch.cat([stage.counter(part)[:, column] for part in test.images.split(encoders.BATCH)]).cpu()
    return f"{float((counted == test.scores[:, column]).float().mean()):.3f}"


def _strip(stage: CountContext, test: RealImages, found: tuple[InvertedImages, ...]) -> Tensor:
    """A row an image: itself, then each way's picture of it."""
    n = min(stage.size.rows, *(len(one.ws) for one in found))
    columns = [encoders.enlarge_pictures(pictures[:n]) for pictures in (test.images, *(one.pictures for one in found))]
    cells = [column[i] for i in range(n) for column in columns]
    titles = ["image", *(one.name.replace(", ", "\n") for one in found)]
    return draw_grid(cells, [""] * n, titles)
