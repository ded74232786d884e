"""The editors of counts that several sections use: the paper's, in both spaces and with both losses, and the best of ours."""

from __future__ import annotations

from typing import Any

import torch

from experiments.multimnist.context import CountContext
from experiments.multimnist.fits import fit_or_load
from experiments.multimnist.labelled_codes import W_COUNTED, W_PLUS_COUNTED, load_inverted_codes
from ganvas.data.dataset import LatentDataset, Source, make_dataset
from ganvas.editors.base import Editor

COUNT = ["count"]
REGULARIZATION = {"dropout": 0.2, "noise": 0.1}
"""Options that keep a latent classifier smooth."""
MAX_SAMPLED_PER_INVERTED = 3
"""The largest ratio of sampled to inverted codes, where an editor learns from both."""


def training_steps(context: CountContext) -> dict[str, int]:
    """Return the steps that H and its classifier train for: as many in W+ as in W."""
    return {"steps": context.config.steps, "classifier_steps": context.config.classifier_steps}


def paper_training_codes(context: CountContext, space: str, images: bool | None = None) -> LatentDataset:
    """Return what the paper learns from: sampled codes in W, inverted ``images`` in W+, and sampled ones without images."""
    images = space == "w+" if images is None else images
    real = load_inverted_codes(context, W_PLUS_COUNTED if space == "w+" else W_COUNTED) if images else None
    return context.labels if real is None else real


def mixed_training_codes(context: CountContext) -> LatentDataset:
    """Return what ours learns from in W+: inverted codes, and more of sampled ones, whose rows are equal."""
    real, drawn = paper_training_codes(context, "w+"), context.labels
    if real is drawn:
        return drawn
    drawn = drawn.subset(torch.arange(min(len(drawn), MAX_SAMPLED_PER_INVERTED * len(real))))
    names = tuple(name for name in drawn.attributes if name in real.attributes)
    real, drawn = real.select(names), drawn.select(names)
    codes = torch.cat((real.codes, drawn.ws(slice(None), real.codes.shape[1])))
    scores = torch.cat((real.scores, drawn.scores))
    return make_dataset(codes, scores, names, drawn.kinds, Source(None), drawn.generator, drawn.scorer)


def fit_paper(context: CountContext, space: str, loss: str, images: bool | None = None) -> Editor:
    """Fit the paper's H; with ``images`` in W it learns from the images that W+ learns from, by as large a classifier."""
    images = space == "w+" if images is None else images
    options: dict[str, Any] = {"recipe": "paper", "space": space, "loss": loss, "attributes": COUNT} | training_steps(
        context
    )
    if images:
        options["hidden"] = list(context.config.hidden)
    name = f"paper-{space.replace('+', '-plus')}-{loss}"
    return fit_or_load(context, name, paper_training_codes(context, space, images), "cardinality", options)


def fit_two_directions(context: CountContext) -> Editor:
    """Fit two of the paper's H, one that adds and one that removes, along leading components, by a smoother classifier."""
    options = {"recipe": "paper", "space": "w", "loss": "ce", "attributes": COUNT} | training_steps(context)
    return fit_or_load(
        context, "two", context.labels, "cardinality", options | {"signs": 2, "pca": 64, **REGULARIZATION}
    )


def best_options(context: CountContext) -> dict[str, Any]:
    """Return the options of the recipe "best"."""
    return {
        "recipe": "best",
        "classifiers": context.config.classifiers,
        "classifier_steps": 2 * context.config.classifier_steps,
    }


def fit_best(context: CountContext) -> Editor:
    """Fit the recipe "best" on all counts at once: classifiers that tell digits apart count them better, too."""
    return fit_or_load(context, "best", context.labels, "cardinality", best_options(context))


def fit_ensemble(context: CountContext) -> Editor:
    """Fit the recipe "ensemble": one H for all codes."""
    options = {"recipe": "ensemble", "classifiers": context.config.classifiers} | training_steps(context)
    return fit_or_load(context, "ensemble", context.labels, "cardinality", options | {"attributes": COUNT})
