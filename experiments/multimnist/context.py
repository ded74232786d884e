"""What all sections of the count report share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.multimnist.config import CountReportConfig
from ganvas.data.dataset import LatentDataset
from ganvas.data.multimnist_files import read_metadata
from ganvas.editors.cardinality import RECIPES
from ganvas.errors import GanvasError
from ganvas.evaluation.faces import get_dtype_name
from ganvas.generators.base import Generator
from ganvas.scorers.base import Scorer
from ganvas.scorers.count import Counter
from ganvas.seeds import EVALUATION_SEED

CONDITIONAL = "conditional.safetensors"
"""The file under ``work`` with the conditional generator to compare with; there may be none."""


@dataclass(frozen=True)
class CountContext:
    """``labels``: sampled codes of the generator, scored by the counter. ``folder``: a MultiMNIST folder, or none.

    ``work``: the folder with what sections train and measure. ``log`` gets a line for each thing that is done.
    """

    generator: Generator
    counter: Scorer
    labels: LatentDataset
    folder: Path | None
    work: Path
    config: CountReportConfig
    seed: int = EVALUATION_SEED
    log: Callable[[str], object] = lambda line: None

    @property
    def provenance(self) -> dict[str, Any]:
        """What every result depends on, as JSON; stored results are keyed by it."""
        values = {
            "generator": self.generator.fingerprint,
            "counter": self.counter.fingerprint,
            "labels": [len(self.labels), self.labels.source.seed, self.labels.scorer],
            "folder": None if self.folder is None else read_metadata(self.folder),
            "dtype": get_dtype_name(self.generator),
            "recipes": RECIPES,
            "size": asdict(self.config),
            "seed": self.seed,
        }
        return json.loads(json.dumps(values))  # as it will be read back: lists for tuples

    @property
    def network(self) -> Counter:
        """The counter as a network with logits and features. Raises GanvasError for a scorer of another kind."""
        if not isinstance(self.counter, Counter):
            raise GanvasError(
                f"Scorer {self.counter.name!r} isn't a counter network, whose logits this needs: use the scorer 'count'."
            )
        return self.counter

    @property
    def classes(self) -> tuple[str, ...]:
        """The attributes that count the objects of one class, like "digit_7"."""
        pairs = zip(self.counter.attributes, self.counter.kinds, strict=True)
        return tuple(name for name, kind in pairs if kind == "count" and name != "count")

    def work_path(self, *names: str) -> Path:
        """Return a path under ``work``; what writes there makes its folder."""
        return self.work.joinpath(*names)


def hash_file(path: Path) -> str | None:
    """Return the SHA-256 of a file, in hexadecimal; None where there is no file."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
