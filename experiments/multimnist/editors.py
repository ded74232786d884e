"""The editors of counts that several sections use, all of the method "cardinality" (Doubinsky et al.; see its module).

The paper's H, a linear map from a code to the move that adds one object, is fitted in W and in W+, guided by a classifier of
counts with cross-entropy ("ce") or a regression with squared error ("mse"). The recipes "best" and "ensemble" are ours.
"""

from __future__ import annotations

from typing import Any, Literal

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


def get_training_steps(context: CountContext) -> dict[str, int]:
    """Return the steps that H and its classifier train for: as many in W+ as in W."""
    return {"steps": context.config.steps, "classifier_steps": context.config.classifier_steps}


def choose_training_codes(
    context: CountContext, space: str, inverted: bool | None = None
) -> tuple[LatentDataset, bool]:
    """Return what the paper's H learns from, and whether these are codes of inverted images.

    ``inverted``: whether they should be, as in the paper: in W+, and not in W. Where no images were inverted yet, they are
    sampled codes.
    """
    inverted = space == "w+" if inverted is None else inverted
    codes = load_inverted_codes(context, W_PLUS_COUNTED if space == "w+" else W_COUNTED) if inverted else None
    return (context.labels, False) if codes is None else (codes, True)


def mix_training_codes(context: CountContext) -> LatentDataset:
    """Return codes of inverted images in W+ and more of sampled ones, whose rows are equal; these alone without the former."""
    (real, is_inverted), drawn = choose_training_codes(context, "w+"), context.labels
    if not is_inverted:
        return drawn
    drawn = drawn.subset(torch.arange(min(len(drawn), MAX_SAMPLED_PER_INVERTED * len(real))))
    names = tuple(name for name in drawn.attributes if name in real.attributes)
    real, drawn = real.select(names), drawn.select(names)
    codes = torch.cat((real.codes, drawn.ws(slice(None), real.codes.shape[1])))
    scores = torch.cat((real.scores, drawn.scores))
    return make_dataset(codes, scores, names, drawn.kinds, Source(None), drawn.generator, drawn.scorer)


def fit_paper(context: CountContext, space: str, loss: Literal["ce", "mse"], inverted: bool | None = None) -> Editor:
    """Fit the paper's H; ``inverted`` in W: from the images that W+ learns from, by as large a classifier."""
    inverted = space == "w+" if inverted is None else inverted
    options: dict[str, Any] = {"recipe": "paper", "space": space, "loss": loss, "attributes": COUNT}
    options |= get_training_steps(context)
    if inverted:
        options["hidden"] = list(context.config.hidden)
    name = f"paper-{space.replace('+', '-plus')}-{loss}"
    return fit_or_load(context, name, choose_training_codes(context, space, inverted)[0], "cardinality", options)


def fit_separate_add_remove(context: CountContext) -> Editor:
    """Fit two of the paper's H, one that adds and one that removes, along leading components, by a smoother classifier."""
    options = {"recipe": "paper", "space": "w", "loss": "ce", "attributes": COUNT} | get_training_steps(context)
    return fit_or_load(
        context, "two", context.labels, "cardinality", options | {"signs": 2, "pca": 64, **REGULARIZATION}
    )


def get_best_options(context: CountContext) -> dict[str, Any]:
    """Return the options of the recipe "best"."""
    return {
        "recipe": "best",
        "classifiers": context.config.classifiers,
        "classifier_steps": 2 * context.config.classifier_steps,
    }


def fit_best(context: CountContext) -> Editor:
    """Fit the recipe "best" on the counts of all classes at once: a classifier that learns these, too, errs less on the sum."""
    return fit_or_load(context, "best", context.labels, "cardinality", get_best_options(context))


def fit_ensemble(context: CountContext) -> Editor:
    """Fit the recipe "ensemble": one H for all codes."""
    options = {"recipe": "ensemble", "classifiers": context.config.classifiers} | get_training_steps(context)
    return fit_or_load(context, "ensemble", context.labels, "cardinality", options | {"attributes": COUNT})
