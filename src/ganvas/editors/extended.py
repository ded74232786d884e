"""Extended editors: any editor with the attributes of a linear editor beside its own, as one learned from a few examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from ganvas.data.gaussianize import Gaussianize
from ganvas.data.probe import Probe
from ganvas.editors.base import Editor, EditorMetadata, LinearEditor, _append_columns, collect_metadata
from ganvas.errors import GanvasError
from ganvas.precision import convert_to_normal
from ganvas.types import Scores, W, WPlus

EXTENDED = "extended"
"""The key of an editor's options that holds the number of attributes that were added, and of the tensor of their directions."""


@final
class ExtendedEditor(Editor):
    """``inner``, and further attributes, the last ones, that move codes along ``directions`` (added, w_dim)."""

    def __init__(self, metadata: EditorMetadata, inner: Editor, directions: Float[Tensor, "added w_dim"]) -> None:
        super().__init__()
        self.set_metadata(metadata)
        self.inner = inner
        self.may_fall_short, self.limits = inner.may_fall_short, inner.limits
        self.register_buffer(EXTENDED, convert_to_normal(directions))

    @property
    def num_inner(self) -> int:
        """The number of attributes of ``inner``."""
        return len(self.inner.attributes)

    def with_search_steps(self, steps: int) -> ExtendedEditor:
        """Return the same editor with an inner one that searches for ``steps`` steps. Raises GanvasError as it does."""
        inner = self.inner.with_search_steps(steps)
        metadata = replace(collect_metadata(self), options={**self.options, **inner.options})
        return ExtendedEditor(metadata, inner, self.get_buffer(EXTENDED))

    def shift(self, w: W, changes: Scores) -> W:
        """Return the inner editor's shift and those along the directions, added."""
        inner, added = changes[:, : self.num_inner], changes[:, self.num_inner :]
        shift = added @ self.get_buffer(EXTENDED).to(changes)
        moved = inner.ne(0).any(1)
        if moved.any():
            shift[moved] += self.inner.shift(w[moved], inner[moved])
        return shift

    def shift_rows(self, ws: WPlus, changes: Scores) -> Float[Tensor, "n rows w_dim"]:
        """Return the inner editor's shifts and those along the directions, added."""
        inner, added = changes[:, : self.num_inner], changes[:, self.num_inner :]
        shifts = (added @ self.get_buffer(EXTENDED).to(changes))[:, None]
        moved = inner.ne(0).any(1)
        if not moved.any():
            return shifts
        rows = self.inner.shift_rows(ws[moved], inner[moved])
        shifts = shifts.expand(-1, rows.shape[1], -1).clone()
        shifts[moved] += rows
        return shifts

    def read(self, ws: WPlus) -> Scores:
        """Read the inner editor's attributes by it, and the others by the probe."""
        return torch.cat((self.inner.read(ws), self.probe(ws.mean(1).float())[:, self.num_inner :]), 1)

    def measure_change(self, before: WPlus, after: WPlus) -> Scores:
        """Measure the change of the inner editor's attributes by it, and of the others by the probe."""
        added = (self.read(after) - self.read(before))[:, self.num_inner :]
        return torch.cat((self.inner.measure_change(before, after), added), 1)


def extend_editor(editor: Editor, added: Editor) -> ExtendedEditor:
    """Return an editor with the attributes of ``editor`` and those of ``added``, a linear one with directions of W.

    Raises GanvasError for attributes that both have, for editors of different generators, and for another kind of ``added``.
    """
    if not isinstance(added, LinearEditor):
        raise GanvasError(f"An editor is extended by a linear one, not by {added.method!r}.")
    directions, metadata = added.get_buffer("directions"), collect_metadata(editor)
    for name in added.attributes:
        if name in editor.attributes:
            raise GanvasError(f"The editor has an attribute {name!r} already: give the new one another name.")
    if added.generator != editor.generator or directions.ndim != 2:
        raise GanvasError("An editor is extended by directions of W that were fitted for the same generator.")
    # The added attributes' scores are their readings.
    line = torch.linspace(-10, 10, len(editor.gaussianize.scores)).to(editor.gaussianize.scores)
    normal, probe = editor.gaussianize, editor.probe
    for k in range(len(added.attributes)):
        normal = _append_columns(Gaussianize, (normal.scores, line), (normal.normals, line))
        weight, bias = added.probe.weight[:, k], added.probe.bias[k]
        probe = _append_columns(Probe, (probe.weight, weight), (probe.bias, bias))
    metadata = replace(
        metadata,
        attributes=(*editor.attributes, *added.attributes),
        kinds=(*(editor.kinds or ("value",) * len(editor.attributes)), *("value" for _ in added.attributes)),
        gaussianize=normal,
        probe=probe,
        options={**editor.options, EXTENDED: [*editor.options.get(EXTENDED, []), len(added.attributes)]},
    )
    return ExtendedEditor(metadata, editor, directions)


def split_extended(tensors: Mapping[str, Tensor], metadata: EditorMetadata) -> tuple[dict[str, Tensor], EditorMetadata]:
    """Return the inner editor's tensors and metadata. Raises GanvasError where what was added is damaged."""
    counts, directions = metadata.options.get(EXTENDED), tensors[EXTENDED]
    counts = counts if isinstance(counts, list) and all(type(count) is int for count in counts) else []
    k = counts[-1] if counts else 0
    kept = list(range(len(metadata.attributes) - k))
    if not 0 < k < len(metadata.attributes) or directions.shape != (k, len(metadata.probe.weight)):
        raise GanvasError("The editor's added attributes are damaged: their number and their directions disagree.")
    options = {key: value for key, value in metadata.options.items() if key != EXTENDED}
    if len(counts) > 1:
        options[EXTENDED] = counts[:-1]
    inner = replace(
        metadata,
        attributes=metadata.attributes[:-k],
        kinds=metadata.kinds[:-k],
        gaussianize=metadata.gaussianize.select(kept),
        probe=metadata.probe.select(kept),
        options=options,
        units={name: unit for name, unit in metadata.units.items() if name in metadata.attributes[:-k]},
    )
    own = {key.removeprefix("inner."): value for key, value in tensors.items() if key != EXTENDED}
    return own, inner
