"""Labelled codes that several sections learn from: sampled codes, and inverted real images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from experiments.multimnist.context import CountContext
from ganvas.data.dataset import LatentDataset, Source, make_dataset
from ganvas.data.label import label
from ganvas.data.label_files import find_shipped_labels
from ganvas.errors import GanvasError
from ganvas.evaluation.report import load_usable
from ganvas.generators.base import Generator
from ganvas.io.files import load_tensors, save_tensors
from ganvas.progress import show_count
from ganvas.scorers.base import Scorer
from ganvas.seeds import LABEL_SEED
from ganvas.types import Scores, WPlus


@dataclass(frozen=True)
class EncoderKind:
    """An encoder of real images: its space, and the terms of its loss beside the images' pixels.

    ``sees_features``: the distance of the counter's features. ``keeps_count``: the cross-entropy of its count. Without both the
    encoder never saw a count.
    """

    space: Literal["w", "w+"]
    keeps_count: bool
    sees_features: bool = True

    @property
    def name(self) -> str:
        """The name in tables and pictures."""
        ending = ", count kept" if self.keeps_count else "" if self.sees_features else ", pixels alone"
        return f"{self.space.upper()}{ending}"

    @property
    def file_name(self) -> str:
        """The file under the context's ``work`` with the codes of training images."""
        return f"inverted-{self.name.lower().replace('+', '-plus').replace(', ', '-').replace(' ', '-')}.safetensors"


W_PLUS_COUNTED, W_COUNTED = EncoderKind("w+", True), EncoderKind("w", True)
"""The encoders whose codes the paper's H and ours learn from in W+, and in W from the same images."""
W_PLUS_PIXELS = EncoderKind("w+", False, sees_features=False)
"""The encoder that never saw a count."""


def label_samples(generator: Generator, counter: Scorer, n: int, folder: Path) -> LatentDataset:
    """Return ``n`` sampled codes with the counter's scores of their pictures: those that ship, if there are as many.

    Otherwise they are labelled in ``folder``, where a stopped run goes on. Attributes that are the same everywhere are left out.
    """
    try:
        data = load_usable(find_shipped_labels(generator.name, counter.name), generator, counter)
        if len(data) >= n and (data.scorer, data.source.seed) == (f"{counter.name}:{counter.fingerprint}", LABEL_SEED):
            return data.subset(torch.arange(n))
    except GanvasError:
        pass  # none ship, or of another generator
    try:
        with show_count("Faces") as progress:
            return label(generator, counter, n, seed=LABEL_SEED, out=folder, progress=progress)
    except GanvasError:
        data = load_usable(folder, generator, counter)
        if len(data) != n or data.scorer != f"{counter.name}:{counter.fingerprint}":
            raise
        return data


def save_inverted_codes(
    context: CountContext, codes: WPlus, scores: Scores, kind: EncoderKind = W_PLUS_COUNTED
) -> None:
    """Store the codes of real training images with the *images'* own labels, (n, counter's attributes).

    A column that isn't known of real images (``sure``, ``stroke``) holds what the counter says of the image.
    """
    save_tensors(context.work_path(kind.file_name), {"codes": codes, "scores": scores}, {"about": context.provenance})


def load_inverted_codes(context: CountContext, kind: EncoderKind = W_PLUS_COUNTED) -> LatentDataset | None:
    """Return labelled inverted codes, in the encoder's space; None where no section has stored them."""
    try:
        tensors, about = load_tensors(context.work_path(kind.file_name))
    except GanvasError:
        return None
    if about.get("about") != context.provenance or not has_valid_shapes(tensors, context):
        return None
    counter, scores = context.counter, tensors["scores"]
    varied = [k for k in range(scores.shape[1]) if scores[:, k].ne(scores[0, k]).any()]
    names, kinds = (tuple(value[k] for k in varied) for value in (counter.attributes, counter.kinds))
    source, scorer = Source(None), f"{counter.name}:{counter.fingerprint}"
    codes = tensors["codes"] if kind.space == "w+" else tensors["codes"][:, 0].contiguous()
    return make_dataset(codes, scores[:, varied], names, kinds, source, context.generator.fingerprint, scorer)


def has_valid_shapes(tensors: dict[str, Tensor], context: CountContext) -> bool:
    """Return whether stored codes and scores fit the generator and the counter."""
    if set(tensors) != {"codes", "scores"}:
        return False
    n, generator = len(tensors["codes"]), context.generator
    shapes = ((n, generator.num_ws, generator.w_dim), (n, len(context.counter.attributes)))
    return n > 0 and (tensors["codes"].shape, tensors["scores"].shape) == shapes
