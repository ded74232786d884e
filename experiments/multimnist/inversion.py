"""Inversion of real images: errors, and how many counts survive, in W and W+, without and with a loss that keeps the count.

Doubinsky et al. invert with e4e, https://arxiv.org/abs/2102.02766, and plan to "adapt inversion so that it controls the
cardinality of real images better": the last sentence of https://cea.hal.science/cea-04852483.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.multimnist import encoders
from experiments.multimnist.context import CountContext
from experiments.multimnist.encoders import RealImages
from experiments.multimnist.labelled_codes import W_COUNTED, W_PLUS_COUNTED, W_PLUS_PIXELS, EncoderKind
from experiments.multimnist.section import ReportSection, SectionTable
from experiments.multimnist.trials import estimate_rate, fit_code_distribution
from ganvas.evaluation.pages import format_estimate
from ganvas.inversion.batch_optimization import BatchOptimizationConfig, optimize_batch
from ganvas.inversion.object_loss import ObjectLoss, extract_counter_features
from ganvas.inversion.quality import psnr
from ganvas.io.figures import draw_grid
from ganvas.types import Images, WPlus

NAME, TITLE = "inverted", "Real images, inverted"
SMALL_RUN_DIVISOR = 5
"""One held-out image in so many is optimised, which takes far longer than an encoder."""


@dataclass(frozen=True)
class InvertedImages:
    """Codes of the first ``n`` held-out images, and their pictures."""

    name: str
    ws: WPlus
    pictures: Images


def run(context: CountContext) -> ReportSection:
    """Train the encoders, invert held-out images, and store the codes of the training images for the other sections."""
    if context.folder is None:
        return encoders.missing_images_section(NAME, TITLE)
    train, test = encoders.read_real_images(context, "train"), encoders.read_real_images(context, "test")
    inverted = []
    for kind in encoders.ENCODER_KINDS:
        ws = encoders.invert_images(context, encoders.train_kind(context, kind, train), test.images, kind.space)
        inverted.append(InvertedImages(kind.name, ws, encoders.draw_codes(context, ws)))
    for kind in (W_PLUS_COUNTED, W_PLUS_PIXELS, W_COUNTED):
        encoders.inverted_codes(context, train, kind)
    pairs = zip(encoders.ENCODER_KINDS, inverted, strict=True)
    inverted += [optimise_inversions(context, test, kind, one) for kind, one in pairs if kind.keeps_count]
    rows = [measure_inversions(context, test, one) for one in inverted]
    head = ("encoder", "images", "mean squared error", "PSNR (dB)", "count survives", "beyond W")
    table = SectionTable(
        "Held-out test images",
        head,
        [(row["name"], str(row["n"]), f"{row['mse']:.4f}", f"{row['psnr']:.1f}", *row["cells"]) for row in rows],
        f"Pixels are in [-1, 1]; the mean image has {measure_mean_image(test):.4f}. The count survives where the counter"
        " finds as many objects in the reconstruction as the image has; of the images themselves it counts"
        f" {measure_counter(context, test):.3f} right. Where the count is kept, that counter is the one that"
        " was learned from. Beyond W: codes with a row outside the 99.9th percentile of sampled codes.",
    )
    return ReportSection(
        NAME,
        TITLE,
        "An encoder in the manner of e4e: one w, and in W+ an offset of each row, freed coarse to fine, small by a penalty"
        " and by a discriminator of codes; it learned from the images' pixels and the counter's features. Count kept: also"
        " from the counter's cross-entropy on the reconstruction. Pixels alone: from nothing of the counter's."
        f" Optimised: {BatchOptimizationConfig().steps} steps of Adam on the pixels and the counter's features after it.",
        (table,),
        {"inverted": draw_inversions(context, test, inverted)},
        {"rows": [{key: value for key, value in row.items() if key != "cells"} for row in rows]},
        {"inverted": "Held-out images and their inversions."},
    )


def optimise_inversions(
    context: CountContext, test: RealImages, kind: EncoderKind, one: InvertedImages
) -> InvertedImages:
    """Optimise the inversions of the first images."""
    n = max(len(test) // SMALL_RUN_DIVISOR, min(len(test), context.config.rows))
    context.log(f"Optimising {n} inversions in {kind.space.upper()} …")
    images = test.images[:n]
    likeness = ObjectLoss.fit_scales(extract_counter_features(context.network), test.images[:256])
    ws = optimize_batch(images, one.ws[:n], context.generator, likeness, kind.space)
    return InvertedImages(f"{one.name}, optimised", ws, encoders.draw_codes(context, ws))


@torch.no_grad()
def measure_inversions(context: CountContext, test: RealImages, one: InvertedImages) -> dict[str, Any]:
    """Return one row's numbers; ``cells``: those with intervals, as text."""
    images, column = test.images[: len(one.ws)], context.counter.column("count")
    counted = torch.cat([context.counter(part)[:, column] for part in one.pictures.split(encoders.BATCH_SIZE)])
    wanted = test.scores[: len(one.ws), column]
    survives = estimate_rate((counted.cpu() == wanted).float())
    inside = fit_code_distribution(context.generator, context.config.labels).contains(one.ws.cpu())
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
        "cells": (format_estimate(vars(survives), 3), f"{beyond.mean:.3f}"),
    }


def measure_mean_image(test: RealImages) -> float:
    """Return the mean squared error of the mean image."""
    images = test.images
    return float((images - images.mean(0)).square().mean())


def measure_counter(context: CountContext, test: RealImages) -> float:
    """Return the share of real images that the counter counts right."""
    column = context.counter.column("count")
    counted = torch.cat([context.counter(part)[:, column] for part in test.images.split(encoders.BATCH_SIZE)]).cpu()
    return float((counted == test.scores[:, column]).float().mean())


def draw_inversions(context: CountContext, test: RealImages, inverted: Sequence[InvertedImages]) -> Tensor:
    """Draw a row for each image: itself, then its inversions."""
    n = min(context.config.rows, *(len(one.ws) for one in inverted))
    columns = [
        encoders.enlarge_pictures(pictures[:n]) for pictures in (test.images, *(one.pictures for one in inverted))
    ]
    cells = [column[i] for i in range(n) for column in columns]
    titles = ["image", *(one.name.replace(", ", "\n") for one in inverted)]
    return draw_grid(cells, [""] * n, titles)
