"""The base class of scorers: networks that read attributes off pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

import torch
from pydantic import Field
from torch import nn

from ganvas.errors import unknown
from ganvas.precision import accept_any_floats_in
from ganvas.types import Images, Scores

Kind = Literal["probability", "count", "value"]
KINDS: tuple[str, ...] = get_args(Kind)
Unit = Annotated[str, Field(pattern=r"\A[^\W\d_]{1,12}\z")]
"""The symbol of a unit, in letters, so that it can follow a number: "y" for years."""


class Scorer(nn.Module, ABC):
    """A frozen network that reads attributes off pictures, one column an attribute.

    Images may have any float dtype, in any autograd mode; scores are float32.
    """

    name: str
    attributes: tuple[str, ...]
    """The names of the columns."""
    kinds: tuple[str, ...]
    """The kind of each column: "probability", a calibrated logit, whose sigmoid is the attribute's probability; "count", objects;
    "value", anything else."""
    fingerprint: str
    """sha256 of the float32 weights, so that labels say which scorer made them."""

    units: Mapping[str, str] = {}
    """The units of attributes that have one, of the kind "value": attribute -> symbol, such as "y" for years."""

    meanings: Mapping[str, str] = {}
    """What numbers of the kind "value" are, where neither the attribute's name nor its unit says it."""

    networks: frozenset[str] = frozenset()
    """The names of the pretrained networks that it reads: a judge shares none with the scorer that made the labels."""

    reads_faces = False
    """Whether it reads faces that are framed as FFHQ's are: photographs are aligned first."""

    input_dtype = torch.float32
    """The dtype that images are converted to."""

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        accept_any_floats_in(cls, {"forward": torch.float32})

    @abstractmethod
    def forward(self, images: Images) -> Scores:
        """Score pictures of any size; framing, resizing and blurring that the network needs happen inside.

        Args:
            images: RGB pictures (n, 3, height, width) in [-1, 1].

        Returns:
            Scores (n, attributes), in the units of ``kinds``: logits, numbers of objects, or values.
        """

    def describe_scores(self) -> dict[str, str]:
        """Describe what readable scores are: attribute -> its unit or its own meaning, else its kind."""
        return {
            name: self.meanings.get(name) or self.units.get(name) or kind
            for name, kind in zip(self.attributes, self.kinds, strict=True)
        }

    def column(self, attribute: str) -> int:
        """Return the column of an attribute.

        Args:
            attribute: One of ``attributes``.

        Returns:
            Its index, from 0.

        Raises:
            GanvasError: The scorer has no such attribute.
        """
        if attribute not in self.attributes:
            raise unknown("attribute", attribute, self.attributes)
        return self.attributes.index(attribute)
