"""Weights of a generator as read from any file, and ganvas's own format, safetensors with the architecture as metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.io.files import save_tensors

FAMILIES = {
    "stylegan1": ("stylegan1", "StyleGAN1", "StyleGAN1Architecture"),
    "stylegan2": ("stylegan2", "StyleGAN2", "StyleGAN2Architecture"),
    "stylegan3": ("stylegan3", "StyleGAN3", "StyleGAN3Architecture"),
    "dcgan": ("dcgan", "Dcgan", "DcganArchitecture"),
    "mobilestylegan": ("mobilestylegan", "MobileStyleGAN", ""),
    "pggan": ("pggan", "Pggan", "PgganArchitecture"),
    "biggan": ("biggan", "BigGan", "BigGanArchitecture"),
}
"""The family in a file -> the module of ``ganvas.generators``, its generator, and its architecture ("" where it has none)."""


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
        if self.family in FAMILIES:
            module, network, architecture = FAMILIES[self.family]
            shape = (self.metadata["shape"],) if architecture else ()
            return getattr(import_module(f"ganvas.generators.{module}"), network)(self.state, *shape, name, dtype)
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
