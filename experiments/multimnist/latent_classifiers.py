"""Table 1b: how well classifiers read the count off codes, in W and in W+, learned by a mean squared error or a cross-entropy.

Doubinsky et al., RFIAP 2022, https://cea.hal.science/cea-04852483: in W codes are sampled and labelled through their
pictures; in W+ they are those of real images, inverted, with the images' own counts. Ours: the same images in W, and in W+
by an encoder that never saw counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from experiments.multimnist import editors, encoders
from experiments.multimnist.context import CountContext
from experiments.multimnist.labelled_codes import W_COUNTED, W_PLUS_COUNTED, W_PLUS_PIXELS, EncoderKind
from experiments.multimnist.section import ReportSection, SectionTable
from ganvas.data.dataset import LatentDataset
from ganvas.editors._cardinality_networks import (
    HIDDEN,
    CountClassifierConfig,
    CountRanges,
    find_ranges,
    fit_count_classifier,
    measure_count_accuracy,
)
from ganvas.evaluation.papers import COUNT_CLASSIFIERS

NAME, TITLE = "classifiers", "Classifiers of codes (table 1b)"
SAMPLED = "W, sampled"
HELD_OUT_SHARE = 0.2
"""The share of sampled codes that is held out."""


@dataclass(frozen=True)
class CountedCodes:
    """Vectors (n, numbers) and their counts (n, 1), learned from and held out."""

    name: str
    space: str
    source: str
    hidden: tuple[int, ...]
    train: Tensor
    train_counts: Tensor
    test: Tensor
    test_counts: Tensor

    @property
    def count_ranges(self) -> CountRanges:
        """The counts in the training codes."""
        return find_ranges(self.train_counts, ("count",))


LOSSES: tuple[Literal["mse", "ce"], ...] = ("mse", "ce")


def run(context: CountContext) -> ReportSection:
    """Train classifiers of all codes with both losses; of inverted ones only where there are real images."""
    kinds = (W_PLUS_COUNTED, W_PLUS_PIXELS, W_COUNTED) if context.folder is not None else ()
    codes = [*(counted_inversions(context, kind) for kind in kinds), counted_samples(context)]
    rows = [measure_classifier(context, one, loss) for one in codes for loss in LOSSES]
    cells = []
    for row in rows:
        same = row["name"] in (W_PLUS_COUNTED.name, W_PLUS_PIXELS.name, SAMPLED)
        paper = COUNT_CLASSIFIERS[row["space"], row["loss"]] if same else ()
        layers = f"[{', '.join(map(str, row['layers']))}]"
        shares = [f"{share:.1%}" for share in (row["train"], row["test"], *paper)]
        cells.append((row["name"], layers, row["loss"].upper(), *shares, *("-",) * (4 - len(shares))))
    head = ("codes", "layers", "loss", "train", "test", "paper's train", "paper's test")
    note = " ".join(f"{one.name}: {one.source}." for one in codes)
    table = SectionTable("Share of codes whose count is right", head, cells, note)
    steps = context.config.classifier_steps
    intro = (
        f"A fully connected network reads the number of objects off a code, after {steps:,} steps in either"
        f" space. {encoders.describe_training_bias(context)}"
    )
    return ReportSection(NAME, TITLE, intro, (table,), data={"rows": rows})


def counted_samples(context: CountContext) -> CountedCodes:
    """Return sampled codes of W with the counter's counts of their pictures."""
    data = context.labels
    counts, cut = select_counts(data), len(data) - max(int(HELD_OUT_SHARE * len(data)), 1)
    source = f"{cut:,} codes labelled through their pictures, and {len(data) - cut:,} held out"
    return CountedCodes(SAMPLED, "w", source, HIDDEN["w"], data.w[:cut], counts[:cut], data.w[cut:], counts[cut:])


def counted_inversions(context: CountContext, kind: EncoderKind) -> CountedCodes:
    """Return codes of real images: training images to learn from, and test images, held out."""
    data, test = encoders.inverted_codes(context, kind=kind), encoders.read_real_images(context, "test")
    ws = encoders.invert_images(context, encoders.train_kind(context, kind), test.images, kind.space)
    counts = test.scores[:, [context.counter.column("count")]].long()
    source = f"{len(data):,} training images and {len(test):,} test images, inverted"
    held_out = ws.flatten(1) if kind.space == "w+" else ws[:, 0]
    return CountedCodes(
        kind.name,
        kind.space,
        source,
        context.config.hidden,
        data.codes.flatten(1),
        select_counts(data),
        held_out,
        counts,
    )


def select_counts(data: LatentDataset) -> Tensor:
    """Return the counts of labelled codes, (n, 1)."""
    return data.scores[:, [data.attributes.index("count")]].long()


def measure_classifier(context: CountContext, codes: CountedCodes, loss: Literal["ce", "mse"]) -> dict[str, Any]:
    """Train a classifier, and return the shares of training and held-out codes that it gets right."""
    config = CountClassifierConfig(loss, codes.hidden, editors.get_training_steps(context)["classifier_steps"])
    context.log(f"Learning a classifier of {codes.name} by {loss} …")
    with torch.enable_grad():
        network = fit_count_classifier(
            codes.train, codes.train_counts, codes.count_ranges, config, context.seed % 2**31
        )
    parts = ((codes.train, codes.train_counts), (codes.test, codes.test_counts))
    shares = [measure_count_accuracy(network, x, y)[0] for x, y in parts]
    return {
        "name": codes.name,
        "space": codes.space,
        "loss": loss,
        "steps": config.steps,
        "layers": [codes.train.shape[1], *codes.hidden],
        "train": float(shares[0]),
        "test": float(shares[1]),
        "n": [len(codes.train), len(codes.test)],
        "commonest": float(codes.test_counts.flatten().bincount().max()) / len(codes.test),
    }
