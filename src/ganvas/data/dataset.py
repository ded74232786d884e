"""Labelled codes: codes of a generator with the scores of their pictures. Editors learn from nothing else.

``data.label.label`` makes them, ``data.label_files.load_labels`` reads them back; both end in ``make_dataset``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ganvas.data import gaussianize, probe
from ganvas.data.gaussianize import Gaussianize
from ganvas.data.probe import Probe
from ganvas.errors import GanvasError, unknown
from ganvas.scorers.base import KINDS
from ganvas.seeds import LABEL_SEED
from ganvas.types import Scores, W, WPlus


@dataclass(frozen=True)
class Source:
    """The source of codes: seeds at ``psi`` (``seeds.label_seeds`` from ``seed`` on), or the sha256 of a codes file.

    ``batch``: how many codes at a time went through the mapping network, which changes their last bits.
    Where codes can't be drawn again, both ``seed`` and ``codes`` are None, and the rest means nothing: inverted codes, and
    selections (``LatentDataset.subset``) of other rows than the first.
    """

    seed: int | None = LABEL_SEED
    psi: float = 1.0
    codes: str | None = None
    batch: int = 256
    condition: int | None = None
    """The label that a conditional generator draws all codes with; None: ``seed % num_labels``."""


@dataclass(frozen=True)
class LatentDataset:
    """Codes with the scores of their pictures: what an editor learns from. It has ``len``, the number of codes.

    Args:
        codes: Codes (n, w_dim) in the space "w", or (n, num_ws, w_dim) in "w+".
        scores: Scores (n, attributes), raw as the scorer gave them.
        attributes: The names of the columns.
        kinds: What each column holds: "probability" (logits), "count" or "value".
        source: Where the codes come from.
        generator: The generator's fingerprint.
        scorer: The scorer's name and fingerprint, "name:sha256".
        gaussianize: The map from scores to normally distributed ones.
        probe: The linear map from codes to Gaussianised scores.
        units: The units of attributes that have one, as ``Scorer.units``.
    """

    codes: W | WPlus
    scores: Scores
    attributes: tuple[str, ...]
    kinds: tuple[str, ...]
    source: Source
    generator: str
    scorer: str
    gaussianize: Gaussianize
    probe: Probe
    units: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def space(self) -> str:
        """The space of the codes, "w" or "w+"."""
        return "w" if self.codes.ndim == 2 else "w+"

    @property
    def w(self) -> W:
        """The codes as (n, w_dim): of W+ codes, the mean of the rows."""
        return _average_rows(self.codes)

    def ws(self, index: Tensor | slice, num_ws: int) -> WPlus:
        """Return some codes as W+ codes; codes of W are expanded without copying memory.

        Args:
            index: Row numbers, a mask or a slice.
            num_ws: The number of rows of the generator's W+ codes.

        Returns:
            Codes (rows, num_ws, w_dim).

        Raises:
            GanvasError: The dataset's W+ codes have another number of rows.
        """
        codes = self.codes[index]
        if codes.ndim == 2:
            return codes.unsqueeze(1).expand(-1, num_ws, -1)
        if codes.shape[1] != num_ws:
            raise GanvasError(f"These W+ codes have {codes.shape[1]} rows, but the generator takes {num_ws}.")
        return codes

    def normals(self) -> Scores:
        """Gaussianise the scores.

        Returns:
            Scores (n, attributes) in standard deviations.
        """
        return self.gaussianize(self.scores)

    def subset(self, index: Tensor) -> LatentDataset:
        """Select some codes; ``gaussianize`` and ``probe`` stay those of the whole dataset.

        Args:
            index: Row numbers or a mask.

        Returns:
            A dataset of these rows.
        """
        rows = torch.arange(len(self))[index]
        first = torch.equal(rows, torch.arange(len(rows)))
        source = self.source if first and self.source.codes is None else replace(self.source, seed=None, codes=None)
        return replace(self, codes=self.codes[rows], scores=self.scores[rows], source=source)

    def select(self, attributes: Sequence[str]) -> LatentDataset:
        """Select some attributes.

        Args:
            attributes: Their names, in the order wanted.

        Returns:
            A dataset of the same codes with these columns.

        Raises:
            GanvasError: An attribute is unknown or named twice, or none is named.
        """
        columns = find_columns(attributes, self.attributes)
        return replace(
            self,
            scores=self.scores[:, columns],
            attributes=tuple(attributes),
            kinds=tuple(self.kinds[k] for k in columns),
            gaussianize=self.gaussianize.select(columns),
            probe=self.probe.select(columns),
            units=select_units(self.units, attributes),
        )

    def split(self, fraction: float = 0.7, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Split the rows at random into a training set and a held-out set.

        Args:
            fraction: The part of the codes to train on, between 0 and 1.
            seed: The seed of the random split.

        Returns:
            Row numbers to train on and row numbers held out, each in rising order.

        Raises:
            GanvasError: Either set would be empty.
        """
        first = round(fraction * len(self)) if 0 < fraction < 1 else 0
        if not 0 < first < len(self):
            raise GanvasError(
                f"A fraction of {fraction} of {len(self)} codes leaves nothing to train on or to hold out."
            )
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return order[:first].sort().values, order[first:].sort().values


def make_dataset(
    codes: W | WPlus,
    scores: Scores,
    attributes: tuple[str, ...],
    kinds: tuple[str, ...],
    source: Source,
    generator: str,
    scorer: str,
    units: Mapping[str, str] | None = None,
) -> LatentDataset:
    """Make a dataset, with ``gaussianize`` and ``probe`` fitted; W+ codes are probed at the mean of their rows.

    Raises GanvasError where shapes or names disagree, a number isn't finite, or an attribute has the same score everywhere.
    """
    if scores.shape != (len(codes), len(attributes)) or len(kinds) != len(attributes):
        shapes = f"{tuple(scores.shape)} for {len(codes)} codes, {len(attributes)} attributes and {len(kinds)} kinds"
        raise GanvasError(f"Scores must have one row a code and one column an attribute, not {shapes}.")
    if len(set(attributes)) != len(attributes) or not attributes:
        raise GanvasError(
            f"There must be at least one attribute, and no two of one name, not {', '.join(attributes) or 'none'}."
        )
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("kind of score", kind, KINDS)
    if not torch.isfinite(codes).all():
        raise GanvasError("Some codes hold numbers that aren't finite: sample or invert them again.")
    normal = gaussianize.fit(scores, attributes)
    fitted = probe.fit_probe(_average_rows(codes), normal(scores))
    named = select_units(units or {}, attributes)
    return LatentDataset(codes, scores, attributes, kinds, source, generator, scorer, normal, fitted, named)


def find_columns(names: Sequence[str], attributes: tuple[str, ...]) -> list[int]:
    """Find the columns of ``names`` in ``attributes``. Raises GanvasError for an unknown name, one named twice, or no names."""
    if isinstance(names, str):
        raise GanvasError(f"Attributes are a list of names, not the text {names!r}.")
    if not names:
        raise GanvasError(f"No attributes are given: pick some of {', '.join(attributes)}.")
    for name in names:
        if name not in attributes:
            raise unknown("attribute", name, attributes)
    if len(set(names)) != len(names):
        raise GanvasError(f"Some attributes are named twice: {', '.join(names)}.")
    return [attributes.index(name) for name in names]


def select_units(units: Mapping[str, str], attributes: Sequence[str]) -> dict[str, str]:
    """Return the units of ``attributes`` only."""
    return {name: units[name] for name in attributes if name in units}


def _average_rows(codes: Tensor) -> Tensor:
    return codes if codes.ndim == 2 else codes.mean(1)
