"""A generator's weights as read from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.io.files import save_tensors


@dataclass(frozen=True)
class Checkpoint:
    """Weights and metadata from which a generator of ``family`` is built.

    ``metadata["shape"]`` is the family's architecture dataclass, where it has one.
    """

    family: str
    origin: str
    """The kind of file, for users."""
    state: Mapping[str, Tensor]
    metadata: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    """Remarks on the file for users, a line each."""

    def build_generator(self, name: str, dtype: torch.dtype = torch.float32) -> Generator:
        """Build the generator on the CPU. Raises GanvasError where names or shapes of weights aren't the family's."""
        if self.family == "stylegan2":
            from ganvas.generators.stylegan2 import StyleGAN2

            return StyleGAN2(self.state, self.metadata["shape"], name, dtype)
        if self.family == "stylegan1":
            from ganvas.generators.stylegan1 import StyleGAN1

            return StyleGAN1(self.state, self.metadata["shape"], name, dtype)
        if self.family == "stylegan3":
            from ganvas.generators.stylegan3 import StyleGAN3

            return StyleGAN3(self.state, self.metadata["shape"], name, dtype)
        if self.family == "dcgan":
            from ganvas.generators.dcgan import Dcgan

            return Dcgan(self.state, self.metadata["shape"], name, dtype)
        if self.family == "mobilestylegan":
            from ganvas.generators.mobilestylegan import MobileStyleGAN

            return MobileStyleGAN(self.state, name, dtype)
        if self.family == "pggan":
            from ganvas.generators.pggan import Pggan

            return Pggan(self.state, self.metadata["shape"], name, dtype)
        if self.family == "biggan":
            from ganvas.generators.biggan import BigGan

            return BigGan(self.state, self.metadata["shape"], name, dtype)
        raise GanvasError(f"Generators of the family {self.family!r} can't be built from a checkpoint.")

    def save(self, path: str | Path) -> None:
        """Write a safetensors file in ganvas's own format; equal weights give equal bytes."""
        from ganvas.generators.stylegan2.architecture import StyleGAN2Architecture

        metadata, shape = dict(self.metadata), self.metadata.get("shape")
        if isinstance(shape, StyleGAN2Architecture):
            metadata["shape"] = shape.to_dict()
        elif is_dataclass(shape) and not isinstance(shape, type):
            metadata["shape"] = asdict(shape)
        save_tensors(path, {name: value.float() for name, value in self.state.items()}, metadata)
