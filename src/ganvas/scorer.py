"""What a scorer is: a network that reads attributes off pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from ganvas.errors import unknown
from ganvas.types import Images, Scores

KINDS = ("probability", "count", "value")


class Scorer(nn.Module, ABC):
    """Frozen. ``kinds[k]`` says what column ``attributes[k]`` holds.

    "probability": a calibrated logit, whose sigmoid is the attribute's probability; "count": objects; "value": anything.
    """

    name: str
    attributes: tuple[str, ...]
    kinds: tuple[str, ...]
    fingerprint: str
    """sha256 of the float32 weights, so that labels say which scorer made them."""

    @abstractmethod
    def forward(self, images: Images) -> Scores:
        """Scores of pictures of any size; what the network needs (framing, size, blur) happens inside."""

    def column(self, attribute: str) -> int:
        """The column of an attribute. Raises GanvasError for a name that it doesn't have."""
        if attribute not in self.attributes:
            raise unknown("attribute", attribute, self.attributes)
        return self.attributes.index(attribute)


def probability(scores: Scores) -> Scores:
    """The sigmoid of logits: columns of the kind "probability" as probabilities."""
    return torch.sigmoid(scores)
