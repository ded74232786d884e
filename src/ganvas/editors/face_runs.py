"""Runs over faces: what is measured on each of many faces is one shard, so that a run that was stopped goes on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ganvas.editors.base import fingerprint
from ganvas.editors.compact import CompactEditor
from ganvas.engines import run_shards
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.io.store import Store
from ganvas.progress import Progress
from ganvas.scorers.base import Scorer

MIN_FACES = 8
"""The least number of faces of which a mean says something."""


@dataclass(frozen=True, eq=False)
class FaceRun(ABC):
    """A resumable measurement of ``n`` faces, in a file a face in the folder ``out``; engines call ``make_shard``."""

    editor: CompactEditor
    generator: Generator
    scorer: Scorer
    n: int
    out: str | Path

    kind: ClassVar[str]
    """What shards hold, as it is named in them."""
    version: ClassVar[int] = 1
    """To be raised with a change of what ``measure_face`` computes."""
    tensors: ClassVar[tuple[str, ...]]
    """The names of the tensors that ``measure_face`` returns."""

    def __post_init__(self) -> None:
        if self.n < MIN_FACES:
            raise GanvasError(f"The number of faces must be at least {MIN_FACES}, not {self.n}.")

    def describe(self) -> dict[str, Any]:
        """Describe what a shard depends on; ``version`` stands for the code's own constants."""
        return {
            "kind": self.kind,
            "version": self.version,
            "generator": self.generator.fingerprint,
            "editor": fingerprint(self.editor),
            "scorer": self.scorer.fingerprint,
            "dtype": str(self.generator.dtype).removeprefix("torch."),
        }

    @abstractmethod
    def measure_face(self, k: int) -> dict[str, Tensor]:
        """Measure face ``k``; each tensor has one row."""

    def make_missing(self, progress: Progress | None = None, **engine: Any) -> None:
        """Measure the faces that are missing; ``engine``: options of ``run_shards``."""
        missing = {k: 1 for k in range(self.n) if self._load_face(k) is None}
        done = self.n - len(missing)
        callback = None if progress is None else lambda faces, _: progress(done + faces, self.n)
        run_shards(self.make_shard, missing, gpu=self.generator.device.type == "cuda", progress=callback, **engine)

    @torch.no_grad()
    def make_shard(self, k: int, advance: Callable[[int], object]) -> str:
        """Measure face ``k``, and return the shard's name."""
        measured = {name: tensor.cpu() for name, tensor in self.measure_face(k).items()}
        Store(self.out).save(self.name_shard(k), measured, self.describe())
        advance(1)
        return self.name_shard(k)

    def load_tensors(self) -> dict[str, Tensor]:
        """Load what was measured, with a row a face. Raises GanvasError where faces are missing."""
        faces = []
        for k in range(self.n):
            if (face := self._load_face(k)) is None:
                raise GanvasError(f"{self.out} has no whole {self.name_shard(k)}: run the same command again.")
            faces.append(face)
        return {name: torch.cat([face[name] for face in faces]) for name in faces[0]}

    def name_shard(self, k: int) -> str:
        """Return the name of the shard of face ``k``."""
        return f"{self.kind.replace(' ', '-')}-{k:05d}.safetensors"

    def _load_face(self, k: int) -> dict[str, Tensor] | None:
        face = Store(self.out).load(self.name_shard(k), self.describe(), self.tensors[0], 1)
        return None if face is None or face.keys() != {*self.tensors} else face
