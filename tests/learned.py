"""The toy's labels and a compact editor that learned from them, for several test files."""

from __future__ import annotations

from functools import cache
from typing import Any

from ganvas import editors, sample
from ganvas.dataset import LatentDataset, Source, make_dataset
from ganvas.editors.compact import CompactEditor
from ganvas.generators import load_generator
from ganvas.generators.toy import PLANTED
from ganvas.scorers import load_scorer

TOY, SCORER = load_generator("toy"), load_scorer("toy")
QUICK: dict[str, Any] = {"width": 32, "batch": 256, "epochs": 8}
NAMES = tuple(PLANTED)


@cache
def labels(n: int = 3000) -> LatentDataset:
    """Label seeds of the toy, scored."""
    ws = sample(TOY, n, 1.0, 1_000_000)
    scores = SCORER(TOY.synthesis(ws))
    scored_by = f"{SCORER.name}:{SCORER.fingerprint}"
    return make_dataset(ws[:, 0].clone(), scores, NAMES, SCORER.kinds, Source(), TOY.fingerprint, scored_by)


@cache
def compact() -> CompactEditor:
    """The fast recipe, cut short."""
    editor = editors.fit("compact", labels(), TOY, **QUICK)
    assert isinstance(editor, CompactEditor)
    return editor
