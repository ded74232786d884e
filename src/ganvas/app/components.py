"""Components of methods without labels: how editors call them until the visitor names them, and editors without these."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ganvas.editors.base import Editor, LinearEditor, collect_metadata
from ganvas.editors.extended import ExtendedEditor

METHOD_NAMES = {"sefa": "SeFa", "ganspace": "GANSpace"}
UNNAMED_COMPONENT = re.compile(rf"({'|'.join(METHOD_NAMES)})_\d+")
"""The attribute of a component that has no name yet."""


def split_unnamed(editor: Editor | None) -> tuple[Editor | None, list[str]]:
    """Return an editor without the unnamed components that joined it last, and their names; None where nothing is left."""
    names: list[str] = []
    while editor is not None:
        inner = editor.inner if isinstance(editor, ExtendedEditor) else None
        added = editor.attributes[len(inner.attributes) if inner else 0 :]
        if not all(map(UNNAMED_COMPONENT.fullmatch, added)):
            break
        editor, names = inner, [*added, *names]
    return editor, names


def select_components(components: LinearEditor, names: Sequence[str], labels: Sequence[str]) -> LinearEditor:
    """Return an editor of some of the components, under other names."""
    columns, metadata = [components.attributes.index(name) for name in names], collect_metadata(components)
    metadata = replace(
        metadata,
        attributes=tuple(labels),
        kinds=("value",) * len(names),
        gaussianize=metadata.gaussianize.select(columns),
        probe=metadata.probe.select(columns),
        report={},
    )
    return LinearEditor(metadata, components.get_buffer("directions")[columns])
