"""Labelled codes that several sections learn from: sampled ones, and real images inverted, which one section makes for others."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ganvas.bench.counts.stage import Stage
from ganvas.bench.report import load_usable
from ganvas.dataset import LatentDataset, Source, make_dataset
from ganvas.errors import GanvasError
from ganvas.files import load_tensors, save_tensors
from ganvas.generator import Generator
from ganvas.labelling import label
from ganvas.scorer import Scorer
from ganvas.seeds import LABEL_SEED
from ganvas.types import Scores, WPlus

INVERTED = "inverted.safetensors"


def sampled(generator: Generator, counter: Scorer, n: int, folder: Path) -> LatentDataset:
    """``n`` sampled codes with what the counter says of their pictures; kept in ``folder``, and gone on with there.

    Attributes that are the same everywhere are left out.
    """
    try:
        return label(generator, counter, n, seed=LABEL_SEED, out=folder, progress=True)
    except GanvasError:
        data = load_usable(folder, generator, counter)
        if len(data) != n or data.scorer != f"{counter.name}:{counter.fingerprint}":
            raise
        return data


def keep_inverted(stage: Stage, codes: WPlus, scores: Scores) -> None:
    """Keep the codes in W+ of real training images with the *images'* own labels, (n, counter's attributes), for others.

    A column that isn't known of real images (``sure``, ``stroke``) holds what the counter says of the image.
    """
    save_tensors(stage.place(INVERTED), {"codes": codes, "scores": scores}, {"about": stage.about})


def inverted(stage: Stage) -> LatentDataset | None:
    """Labelled inverted codes, in W+; None where no section has made them."""
    try:
        tensors, about = load_tensors(stage.place(INVERTED))
    except GanvasError:
        return None
    if about.get("about") != stage.about or not _fit(tensors, stage):
        return None
    counter, scores = stage.counter, tensors["scores"]
    varied = [k for k in range(scores.shape[1]) if scores[:, k].ne(scores[0, k]).any()]
    names, kinds = (tuple(value[k] for k in varied) for value in (counter.attributes, counter.kinds))
    source, scorer = Source(None), f"{counter.name}:{counter.fingerprint}"
    return make_dataset(tensors["codes"], scores[:, varied], names, kinds, source, stage.generator.fingerprint, scorer)


def _fit(tensors: dict[str, Tensor], stage: Stage) -> bool:
    if set(tensors) != {"codes", "scores"}:
        return False
    n, generator = len(tensors["codes"]), stage.generator
    shapes = ((n, generator.num_ws, generator.w_dim), (n, len(stage.counter.attributes)))
    return n > 0 and (tensors["codes"].shape, tensors["scores"].shape) == shapes
