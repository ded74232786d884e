"""Editors that sections learn, kept as files: a report that goes on takes them up, and sections share them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.multimnist.context import CountContext
from experiments.multimnist.section import make_key
from ganvas import editors
from ganvas.data.dataset import LatentDataset
from ganvas.editors.base import Editor
from ganvas.errors import GanvasError


def fit_or_load(
    context: CountContext, name: str, data: LatentDataset, method: str, options: Mapping[str, Any]
) -> Editor:
    """The editor of ``method`` learned from ``data`` with ``options``, or as it was kept."""
    source = [len(data), data.space, float(data.scores.double().sum()), float(data.codes.double().abs().sum())]
    key = make_key([context.generator.fingerprint, context.counter.fingerprint, source, method, dict(options)])
    file = context.work_path("editors", f"{name}-{key}.safetensors")
    if file.exists():
        try:
            return editors.load_editor(file, context.generator)
        except GanvasError:
            pass  # damaged: learned anew
    context.log(f"Learning {name} from {len(data):,} codes …")
    editor = editors.fit(method, data, context.generator, **options)
    editors.save(editor, file)
    return editor
