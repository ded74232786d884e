"""A cache of scores by the bytes of codes, in a store: no code is rendered twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from ganvas.io.store import KeyedRows, Store
from ganvas.types import Scores, WPlus


@final
class ScoreCache:
    """A cache for ``CodeScorer.cache``: it has the missing codes rendered, and keeps their scores.

    ``path`` is the folder of its files and how their names begin; None keeps scores in memory only. ``metadata`` says what
    they depend on (generator, precision, scorers). ``requested``: the hashes of the codes that were asked for, whether
    rendered now or before.
    """

    def __init__(self, path: Path | None, metadata: Mapping[str, Any], columns: int) -> None:
        store, kind = (None, "scores") if path is None else (Store(path.parent), path.name)
        self.scores = KeyedRows(store, {"kind": kind, **metadata}, columns)
        self.requested = set[bytes]()

    def __call__(self, ws: WPlus, render: Callable[[WPlus], Scores]) -> Scores:
        """Return the scores of codes, (n, columns)."""
        keys = [hash_code(code) for code in ws]
        self.requested.update(keys)
        return self.scores.load_or_compute(keys, lambda index: render(ws[index])).to(ws)


def hash_code(code: Tensor) -> bytes:
    """Hash a code; one of equal rows by its first."""
    rows = code[:1] if torch.equal(code, code[:1].expand_as(code)) else code
    return hashlib.sha256(rows.detach().cpu().float().contiguous().numpy().tobytes()).digest()
