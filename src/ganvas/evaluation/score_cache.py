"""A cache of scores by the bytes of codes, in a file that grows: no code is rendered twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.io.files import load_tensors, save_tensors
from ganvas.types import Scores, WPlus

SAVE_EVERY = 64
"""Pictures between two writes, at most lost when a run is stopped."""


@final
class ScoreCache:
    """A cache for ``ScoredView.cache``: it has the missing codes rendered, and keeps their scores.

    ``metadata`` says what scores depend on (generator, precision, scorers); a file with other metadata, or a damaged one, is
    ignored and written anew. ``requested``: the digests of the codes that were asked for, whether rendered now or before.
    """

    def __init__(self, file: Path | None, metadata: Mapping[str, Any], columns: int) -> None:
        self.file, self.metadata, self.columns = file, dict(metadata), columns
        self.rows: dict[bytes, Tensor] = {}
        self.requested = set[bytes]()
        if file is not None:
            self._load(file)

    def __call__(self, ws: WPlus, render: Callable[[WPlus], Scores]) -> Scores:
        """Return the scores of codes, (n, columns)."""
        keys = [hash_code(code) for code in ws]
        self.requested.update(keys)
        missing = {key: i for i, key in enumerate(keys) if key not in self.rows}
        order = sorted(missing.values())
        for start in range(0, len(order), SAVE_EVERY):
            index = order[start : start + SAVE_EVERY]
            rows = render(ws[index]).float().cpu()
            self.rows |= {keys[i]: row for i, row in zip(index, rows, strict=True)}
            self._save()
        if not keys:
            return ws.new_zeros(0, self.columns)
        return torch.stack([self.rows[key] for key in keys]).to(ws)

    def _save(self) -> None:
        if self.file is None:
            return
        keys = torch.frombuffer(bytearray(b"".join(self.rows)), dtype=torch.uint8).reshape(len(self.rows), -1)
        save_tensors(self.file, {"keys": keys, "rows": torch.stack(list(self.rows.values()))}, self.metadata)

    def _load(self, file: Path) -> None:
        try:
            tensors, metadata = load_tensors(file)
        except GanvasError:
            return
        keys, rows = tensors.get("keys"), tensors.get("rows")
        if metadata != self.metadata or keys is None or rows is None or keys.dtype != torch.uint8:
            return
        if keys.ndim != 2 or rows.shape != (len(keys), self.columns) or rows.dtype != torch.float32:
            return
        if torch.isfinite(rows).all():
            self.rows = {bytes(key.tolist()): row for key, row in zip(keys, rows, strict=True)}


def hash_code(code: Tensor) -> bytes:
    """Hash a code; one of equal rows by its first."""
    rows = code[:1] if torch.equal(code, code[:1].expand_as(code)) else code
    return hashlib.sha256(rows.detach().cpu().float().contiguous().numpy().tobytes()).digest()
