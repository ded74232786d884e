"""Editors that sections fit, stored as files: sections share them, and a report that goes on loads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.multimnist.context import CountContext
from experiments.multimnist.section import make_key
from ganvas import editors
from ganvas.data.dataset import LatentDataset
from ganvas.editors.base import Editor
from ganvas.errors import GanvasError
from ganvas.io.fingerprints import hash_weights


def fit_or_load(
    context: CountContext, name: str, data: LatentDataset, method: str, options: Mapping[str, Any]
) -> Editor:
    """Load the stored editor of ``method``, ``data`` and ``options``, or fit and store it."""
    source = [data.space, list(data.attributes), hash_weights([("codes", data.codes), ("scores", data.scores)])]
    key = make_key([context.generator.fingerprint, context.counter.fingerprint, source, method, dict(options)])
    file = context.work_path("editors", f"{name}-{key}.safetensors")
    if file.exists():
        try:
            return editors.load_editor(file, context.generator)
        except GanvasError:
            pass  # damaged: fitted again
    context.log(f"Fitting {name} on {len(data):,} codes …")
    editor = editors.fit(method, data, context.generator, **options)
    editors.save(editor, file)
    return editor
