"""The toy's labels and a compact editor fitted on them, for several test files."""

from __future__ import annotations

from functools import cache
from typing import Any

from ganvas import editors, sample
from ganvas.checkpoints.load import load_generator
from ganvas.data.dataset import LatentDataset, Source, make_dataset
from ganvas.editors.compact import CompactEditor
from ganvas.generators.toy import PLANTED
from ganvas.scorers import load_scorer

TOY, SCORER = load_generator("toy"), load_scorer("toy")
QUICK: dict[str, Any] = {"width": 32, "batch": 256, "epochs": 8}
NAMES = tuple(PLANTED)
_SMALL: dict[str, Any] = {"components": 24, "width": 64, "classifier_steps": 100}
NONLINEAR: dict[str, dict[str, Any]] = {
    "adatrans": _SMALL | {"steps": 200, "batch": 128, "rate": 0.003},
    "gradctrl": _SMALL | {"steps": 100, "rate": 0.005},
    "guidedstyle": _SMALL | {"steps": 200, "rate": 0.005},
    "ials": _SMALL | {"steps": 100, "rate": 0.005, "pictures": 8},
    "latent2latent": _SMALL | {"steps": 250, "batch": 128, "rate": 0.003},
    "latent_transformer": _SMALL | {"steps": 150, "rate": 0.01},
    "sdflow": _SMALL | {"steps": 250, "batch": 128, "rate": 0.003},
    "styleflow": _SMALL | {"steps": 300, "rate": 0.01, "depth": 2, "solver": 4},
}
"""Options of a short training, for methods that train networks on codes."""


@cache
def labels(n: int = 3000) -> LatentDataset:
    """Return labelled codes of the toy, from label seeds."""
    ws = sample(TOY, n, 1.0, 1_000_000)
    scores = SCORER(TOY.synthesis(ws))
    scored_by = f"{SCORER.name}:{SCORER.fingerprint}"
    return make_dataset(ws[:, 0].clone(), scores, NAMES, SCORER.kinds, Source(), TOY.fingerprint, scored_by)


@cache
def count_labels(n: int = 3000) -> LatentDataset:
    """Return the same codes with scores rounded to counts from 0 to 4, a standard deviation each, for methods of counts."""
    data = labels(n)
    counts = data.normals().round().clamp(-2, 2) + 2
    kinds = ("count",) * len(NAMES)
    return make_dataset(data.codes, counts, NAMES, kinds, data.source, data.generator, data.scorer)


def labels_for(method: str) -> LatentDataset:
    """Return labels of the kind that a method learns from."""
    return count_labels() if editors.get_learnable_kinds(method) == ("count",) else labels()


@cache
def compact() -> CompactEditor:
    """Fit the fast recipe by a short training."""
    editor = editors.fit("compact", labels(), TOY, **QUICK)
    assert isinstance(editor, CompactEditor)
    return editor
