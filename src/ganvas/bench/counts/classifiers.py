"""Table 1b: how well classifiers read the count off codes, in W and in W+, learned by a mean squared error or a cross-entropy.

Doubinsky et al., RFIAP 2022, https://cea.hal.science/cea-04852483: in W codes are sampled and labelled through their
pictures; in W+ they are those of real images, inverted, with the images' own counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ganvas.bench.counts import encoders, recipes
from ganvas.bench.counts.encoders import Kind
from ganvas.bench.counts.section import Section, Table
from ganvas.bench.counts.stage import Stage
from ganvas.bench.papers import COUNT_CLASSIFIERS
from ganvas.dataset import LatentDataset
from ganvas.editors._count_classifier import HIDDEN, Heads, Knowing, accuracy, heads_of, learn

NAME, TITLE = "classifiers", "Classifiers of codes (table 1b)"


@dataclass(frozen=True)
class Codes:
    """Vectors (n, numbers) and their counts (n, 1), learned from and held out."""

    space: str
    source: str
    train: Tensor
    train_counts: Tensor
    test: Tensor
    test_counts: Tensor

    @property
    def heads(self) -> Heads:
        """The counts that there are."""
        return heads_of(self.train_counts, ("count",))


def run(stage: Stage) -> Section:
    """Both spaces with both losses; W+ only where there are real images."""
    codes = [sampled(stage)] + ([inverted(stage)] if stage.folder is not None else [])
    rows = [_measured(stage, one, loss) for one in reversed(codes) for loss in ("mse", "ce")]
    cells = []
    for row in rows:
        paper = COUNT_CLASSIFIERS[row["space"], row["loss"]]
        layers = f"[{', '.join(map(str, row['layers']))}]"
        shares = (row["train"], row["test"], *paper)
        cells.append((row["space"].upper(), layers, row["loss"].upper(), *(f"{share:.1%}" for share in shares)))
    head = ("space", "layers", "loss", "train", "test", "paper's train", "paper's test")
    told = " ".join(f"{one.space.upper()}: {one.source}." for one in codes)
    table = Table("Share of codes whose count is right", head, cells, told)
    gap = "" if stage.folder is not None else f" W+ is missing. {encoders.MISSING}"
    intro = "A fully connected network reads the number of objects off a code." + gap
    return Section(NAME, TITLE, intro, (table,), data={"rows": rows})


def sampled(stage: Stage) -> Codes:
    """Sampled codes of W with what the counter says of their pictures."""
    data = stage.labels
    counts, cut = counts_of(data), len(data) - max(int(HELD * len(data)), 1)
    source = f"{cut:,} sampled codes labelled through their pictures, and {len(data) - cut:,} held out"
    return Codes("w", source, data.w[:cut], counts[:cut], data.w[cut:], counts[cut:])


def inverted(stage: Stage) -> Codes:
    """Codes of W+ of real images: the training ones to learn from, test images to be tested on."""
    data, test = encoders.inverted_codes(stage), encoders.real(stage, "test")
    kind = Kind("w+", True)
    ws = encoders.invert(stage, encoders.encoder(stage, kind), test.images, kind.space)
    counts = test.scores[:, [stage.counter.column("count")]].long()
    source = (
        f"{len(data):,} training images and {len(test):,} test images, inverted by the encoder that keeps the count"
    )
    return Codes("w+", source, data.codes.flatten(1), counts_of(data), ws.flatten(1), counts)


def counts_of(data: LatentDataset) -> Tensor:
    """(n, 1)."""
    return data.scores[:, [data.attributes.index("count")]].long()


def _measured(stage: Stage, codes: Codes, loss: str) -> dict[str, Any]:
    hidden = HIDDEN["w"] if codes.space == "w" else stage.size.hidden
    steps = recipes.steps(stage, codes.space)["knowledge"]
    stage.watch(f"Learning a classifier in {codes.space.upper()} by {loss} …")
    with torch.enable_grad():
        network = learn(codes.train, codes.train_counts, codes.heads, Knowing(loss, hidden, steps), stage.seed % 2**31)
    shares = [accuracy(network, x, y)[0] for x, y in _parts(codes)]
    return {
        "space": codes.space,
        "loss": loss,
        "layers": [codes.train.shape[1], *hidden],
        "train": float(shares[0]),
        "test": float(shares[1]),
        "n": [len(codes.train), len(codes.test)],
        "commonest": float(codes.test_counts.flatten().bincount().max()) / len(codes.test),
    }


def _parts(codes: Codes) -> tuple[tuple[Tensor, Tensor], ...]:
    return (codes.train, codes.train_counts), (codes.test, codes.test_counts)
