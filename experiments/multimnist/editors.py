"""The editors of counts that several sections use: the paper's, in both spaces and with both losses, and the best of ours."""

from __future__ import annotations

from typing import Any

import torch

from experiments.multimnist.context import CountContext
from experiments.multimnist.fits import fit_or_load
from experiments.multimnist.labelled_codes import COUNTED, SAME, load_inverted
from ganvas.data.dataset import LatentDataset, Source, make_dataset
from ganvas.editors.base import Editor

COUNT = ["count"]
SMOOTH = {"dropout": 0.2, "noise": 0.1}
"""What keeps a classifier smooth."""
MIXED = 3
"""Sampled codes to an inverted one, at most, where both are learned from."""


def steps(stage: CountContext) -> dict[str, int]:
    """How long H and its classifier learn: as long in W+ as in W."""
    return {"steps": stage.size.steps, "knowledge": stage.size.knowledge}


def paper_training_codes(stage: CountContext, space: str, images: bool | None = None) -> LatentDataset:
    """What the paper learns from: sampled codes in W, inverted ``images`` in W+; sampled ones where no images are there."""
    images = space == "w+" if images is None else images
    real = load_inverted(stage, COUNTED if space == "w+" else SAME) if images else None
    return stage.labels if real is None else real


def mixed_training_codes(stage: CountContext) -> LatentDataset:
    """What ours learns from in W+: inverted codes, and at least as many sampled ones, whose rows are equal."""
    real, drawn = paper_training_codes(stage, "w+"), stage.labels
    if real is drawn:
        return drawn
    drawn = drawn.subset(torch.arange(min(len(drawn), MIXED * len(real))))
    names = tuple(name for name in drawn.attributes if name in real.attributes)
    real, drawn = real.select(names), drawn.select(names)
    codes = torch.cat((real.codes, drawn.ws(slice(None), real.codes.shape[1])))
    scores = torch.cat((real.scores, drawn.scores))
    return make_dataset(codes, scores, names, drawn.kinds, Source(None), drawn.generator, drawn.scorer)


def fit_paper(stage: CountContext, space: str, loss: str, images: bool | None = None) -> Editor:
    """The paper's H; with ``images`` in W it learns from the images that W+ learns from, by as large a classifier."""
    images = space == "w+" if images is None else images
    options: dict[str, Any] = {"recipe": "paper", "space": space, "loss": loss, "attributes": COUNT} | steps(stage)
    if images:
        options["hidden"] = list(stage.size.hidden)
    name = f"paper-{space.replace('+', '-plus')}-{loss}"
    return fit_or_load(stage, name, paper_training_codes(stage, space, images), "cardinality", options)


def fit_two_directions(stage: CountContext) -> Editor:
    """The paper's H, but one that adds and another that removes, along leading components, taught by a smoother classifier."""
    options = {"recipe": "paper", "space": "w", "loss": "ce", "attributes": COUNT} | steps(stage)
    return fit_or_load(stage, "two", stage.labels, "cardinality", options | {"signs": 2, "pca": 64, **SMOOTH})


def our_options(stage: CountContext) -> dict[str, Any]:
    """The options of the best of ours."""
    return {"recipe": "best", "classifiers": stage.size.classifiers, "knowledge": 2 * stage.size.knowledge}


def fit_best(stage: CountContext) -> Editor:
    """The best of ours. It learns all counts at once: who has to tell digits apart counts them better, too."""
    return fit_or_load(stage, "best", stage.labels, "cardinality", our_options(stage))


def fit_ensemble(stage: CountContext) -> Editor:
    """Ours with an H for all codes."""
    options = {"recipe": "ensemble", "classifiers": stage.size.classifiers} | steps(stage)
    return fit_or_load(stage, "ensemble", stage.labels, "cardinality", options | {"attributes": COUNT})
