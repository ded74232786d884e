"""What a file turned out to hold: a generator's weights, before it is one."""

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
    """``state`` and ``about`` are what ``family`` needs; ``about["shape"]`` is its dataclass, where it has one."""

    family: str
    origin: str
    """The kind of file, for people."""
    state: Mapping[str, Tensor]
    about: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    """What else a person should know of the file, a line each."""

    def generator(self, name: str, dtype: torch.dtype = torch.float32) -> Generator:
        """The generator itself, on the CPU. Raises GanvasError where names or shapes of weights aren't the family's."""
        if self.family == "stylegan2":
            from ganvas.generators.stylegan2 import StyleGAN2

            return StyleGAN2(self.state, self.about["shape"], name, dtype)
        if self.family == "dcgan":
            from ganvas.generators.dcgan import Dcgan

            return Dcgan(self.state, self.about["shape"], name, dtype)
        if self.family == "mobilestylegan":
            from ganvas.generators.mobilestylegan import MobileStyleGAN

            return MobileStyleGAN(self.state, name, dtype)
        raise GanvasError(f"There is no family of generators {self.family!r}.")

    def save(self, path: str | Path) -> None:
        """Write it as ganvas's own safetensors; equal weights give equal bytes."""
        from ganvas.generators.stylegan2.architecture import StyleGAN2Architecture

        about, shape = dict(self.about), self.about.get("shape")
        if isinstance(shape, StyleGAN2Architecture):
            about["shape"] = shape.as_plain()
        elif is_dataclass(shape) and not isinstance(shape, type):
            about["shape"] = asdict(shape)
        save_tensors(path, {name: value.float() for name, value in self.state.items()}, about)
