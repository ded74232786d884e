"""Editors that sections learn, kept as files: a report that goes on takes them up, and sections share them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from ganvas import editors
from ganvas.bench.counts.section import key_of
from ganvas.bench.counts.stage import Stage
from ganvas.dataset import LatentDataset
from ganvas.edit import Editor
from ganvas.errors import GanvasError


def fitted(stage: Stage, name: str, data: LatentDataset, method: str, options: Mapping[str, Any]) -> Editor:
    """The editor of ``method`` learned from ``data`` with ``options``, or as it was kept."""
    source = [len(data), data.space, float(data.scores.double().sum()), float(data.codes.double().abs().sum())]
    key = key_of([stage.generator.fingerprint, stage.counter.fingerprint, source, method, dict(options)])
    file = stage.place("editors", f"{name}-{key}.safetensors")
    if file.exists():
        try:
            return editors.load_editor(file, stage.generator)
        except GanvasError:
            pass  # damaged: learned anew
    stage.watch(f"Learning {name} from {len(data):,} codes …")
    with fast():
        editor = editors.fit(method, data, stage.generator, **options)
    editors.save(editor, file)
    return editor


@contextmanager
def fast() -> Iterator[None]:
    """Products of matrices in bfloat16 where the processor has them, which halves what large networks take or better."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
