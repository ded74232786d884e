"""Editors with planted truth: they have the toy's own directions."""

from __future__ import annotations

import torch
from torch import Tensor

from ganvas.checkpoints.load import load_generator
from ganvas.control.search import CodeScorer
from ganvas.data import gaussianize
from ganvas.data.probe import Probe
from ganvas.editors.base import Editor
from ganvas.generators.base import sample
from ganvas.generators.toy import PLANTED
from ganvas.scorers import load_scorer

TOY, SCORER = load_generator("toy"), load_scorer("toy")
VIEW = CodeScorer(TOY, SCORER)


class PlantedEditor(Editor):
    """Moves codes along ``directions`` (attributes, w_dim); its probe is the truth."""

    def __init__(self, directions: Tensor) -> None:
        super().__init__()
        self.method, self.attributes, self.generator, self.space = "planted", tuple(PLANTED), TOY.fingerprint, "w"
        self.directions = torch.nn.Buffer(directions)
        self.gaussianize = gaussianize.fit(VIEW(sample(TOY, 1000, 1.0, 1_000_000)), self.attributes)
        truth = torch.stack(list(TOY.planted.values()), 1)
        self.probe = Probe(truth, -(TOY.w_avg @ truth))

    def shift(self, w: Tensor, changes: Tensor) -> Tensor:
        return changes @ self.directions


def disentangled() -> PlantedEditor:
    """Return the perfect editor: each attribute along its own direction."""
    return PlantedEditor(torch.stack(list(TOY.planted.values())))
