"""What a scorer is: a network that reads attributes off pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn

from ganvas.errors import unknown
from ganvas.precision import accept_any_floats_in
from ganvas.types import Images, Scores

KINDS = ("probability", "count", "value")


class Scorer(nn.Module, ABC):
    """Frozen. ``kinds[k]`` says what column ``attributes[k]`` holds.

    "probability": a calibrated logit, whose sigmoid is the attribute's probability; "count": objects; "value": anything.
    Images may have any float dtype, in any autograd mode; scores are float32.
    """

    name: str
    attributes: tuple[str, ...]
    kinds: tuple[str, ...]
    fingerprint: str
    """sha256 of the float32 weights, so that labels say which scorer made them."""

    input_dtype = torch.float32
    """What images are converted to."""

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        accept_any_floats_in(cls, {"forward": torch.float32})

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
