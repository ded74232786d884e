"""Masked editors: an editor restricted to some rows of W+."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from ganvas.editors.base import Editor, EditorMetadata, collect_metadata
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.types import Scores, W, WPlus

MASKED = "masked"
"""The key of an editor's options that holds the rows it moves, [rows, number of rows]."""
Layers = str | Sequence[int]
"""Rows of W+ by number, ``[0, 1, 5]`` or ``"0-3,7"``, or by the resolution that they act at, ``"4-32px"``."""


def parse_rows(layers: Layers, generator: Generator) -> tuple[int, ...]:
    """Return the numbers of the rows that ``layers`` names, in rising order.

    Raises GanvasError for a row that doesn't exist, a resolution at which no row acts, and other text.
    """
    if isinstance(layers, str):
        numbers = {row for part in layers.split(",") for row in _parse_range(part, layers, generator.row_resolutions)}
    else:
        whole = isinstance(layers, Sequence) and all(type(row) is int for row in layers)
        numbers = set(layers) if whole else set()
    if not numbers or not all(0 <= row < generator.num_ws for row in numbers):
        raise GanvasError(f"{layers!r} must be some of the rows 0 to {generator.num_ws - 1} of {generator.name!r}.")
    return tuple(sorted(numbers))


def _parse_range(part: str, text: str, resolutions: tuple[int, ...]) -> Iterable[int]:
    match = re.fullmatch(r"\s*([0-9]{1,5})(?:-([0-9]{1,5}))?(px)?\s*", part)
    if match is None:
        raise GanvasError(f"{text!r} doesn't name layers: write rows like 0-3,7 or resolutions like 4-32px.")
    first, last = int(match[1]), int(match[2] or match[1])
    if not match[3]:
        return range(first, last + 1)
    rows = [row for row, resolution in enumerate(resolutions) if first <= resolution <= last]
    if not rows:
        existing = ", ".join(map(str, sorted(set(resolutions))))
        raise GanvasError(f"No row acts at {part.strip()}: this generator's rows act at {existing}px.")
    return rows


@final
class MaskedEditor(Editor):
    """Any editor, restricted to some rows of W+: it reads only these, and moves only these.

    The inner editor gets codes whose other rows are replaced by the chosen rows' mean. So a change of 1 moves the reading
    by 1 here, too: ``read`` is of the chosen rows, not of the mean over rows that can't move.
    """

    def __init__(self, inner: Editor, rows: tuple[int, ...], num_ws: int) -> None:
        """Restrict ``inner`` to ``rows``: numbers below ``num_ws``, the number of rows of the generator's codes."""
        super().__init__()
        self.set_metadata(collect_metadata(inner))
        if isinstance(inner, MaskedEditor):
            rows = tuple(row for row in rows if row in inner.rows)
            if not rows:
                raise GanvasError(
                    "No row is left: the editor is already restricted to rows that don't include any of these."
                )
            inner = inner.inner
        self.inner, self.rows, self.num_ws = inner, rows, num_ws
        self.may_fall_short, self.limits = inner.may_fall_short, inner.limits
        self.options = {**inner.options, MASKED: [list(rows), num_ws]}

    def with_search_steps(self, steps: int) -> MaskedEditor:
        """Return the same editor with an inner one that searches for ``steps`` steps. Raises GanvasError as it does."""
        return MaskedEditor(self.inner.with_search_steps(steps), self.rows, self.num_ws)

    def shift(self, w: W, changes: Scores) -> W:
        """Return what the mean of all rows moves by."""
        return self.inner.shift(w, changes) * (len(self.rows) / self.num_ws)

    def shift_rows(self, ws: WPlus, changes: Scores) -> Float[Tensor, "n rows w_dim"]:
        """Return the inner editor's shifts, 0 in the rows that stay."""
        filled, chosen = self._fill_rows(ws)
        return torch.where(chosen, self.inner.shift_rows(filled, changes), 0)

    def read(self, ws: WPlus) -> Scores:
        """Read the attributes of the chosen rows' mean."""
        return self.inner.read(self._fill_rows(ws)[0])

    def measure_change(self, before: WPlus, after: WPlus) -> Scores:
        """Measure the change of the chosen rows' mean."""
        return self.inner.measure_change(self._fill_rows(before)[0], self._fill_rows(after)[0])

    def _fill_rows(self, ws: WPlus) -> tuple[Tensor, Tensor]:
        """Return codes with the chosen rows' mean in place of the others, and a mask of the chosen rows, (num_ws, 1)."""
        if ws.shape[1] != self.num_ws:
            raise GanvasError(f"This editor is for codes of {self.num_ws} rows, not of {ws.shape[1]}.")
        chosen = torch.zeros(self.num_ws, 1, dtype=torch.bool, device=ws.device)
        chosen[list(self.rows)] = True
        return torch.where(chosen, ws, ws[:, list(self.rows)].mean(1, keepdim=True)), chosen


def mask_editor(editor: Editor, layers: Layers | None, generator: Generator) -> Editor:
    """Restrict ``editor`` to some layers of ``generator``; None: return it as it is. Raises GanvasError as ``parse_rows``."""
    return editor if layers is None else MaskedEditor(editor, parse_rows(layers, generator), generator.num_ws)


def parse_masked_rows(option: Any, generator: Generator) -> tuple[int, ...] | None:
    """Return the rows that the option ``MASKED`` of a fit names, as layers or as an editor's options hold them; None for None.

    Raises GanvasError as ``parse_rows``, and for a stored choice of rows of a generator with another number of rows.
    """
    if option is None:
        return None
    if isinstance(option, str) or (isinstance(option, Sequence) and all(type(row) is int for row in option)):
        return parse_rows(option, generator)
    rows, num_ws = get_masked_rows(option)
    if num_ws != generator.num_ws:
        raise GanvasError(
            f"The choice of rows {option!r} is of {num_ws} rows, {generator.name!r} has {generator.num_ws}."
        )
    return rows


def unwrap_masked(
    tensors: Mapping[str, Tensor], metadata: EditorMetadata
) -> tuple[dict[str, Tensor], EditorMetadata, tuple[tuple[int, ...], int] | None]:
    """Return the inner editor's tensors and metadata, and the rows and their number if the editor is masked (else None).

    Raises GanvasError where the stored rows are damaged.
    """
    if MASKED not in metadata.options:
        return dict(tensors), metadata, None
    rows = get_masked_rows(metadata.options[MASKED])
    inner = replace(metadata, options={key: value for key, value in metadata.options.items() if key != MASKED})
    return {key.removeprefix("inner."): value for key, value in tensors.items()}, inner, rows


def get_masked_rows(option: Any) -> tuple[tuple[int, ...], int]:
    """Parse the option ``MASKED``: the rows, and how many there are. Raises GanvasError where it's damaged."""
    rows, num_ws = option if isinstance(option, list) and len(option) == 2 else ([], 0)
    numbers = isinstance(rows, list) and all(type(x) is int for x in (num_ws, *rows)) and rows == sorted(set(rows))
    if not numbers or not rows or not 0 <= rows[0] <= rows[-1] < num_ws:
        raise GanvasError(f"The editor's choice of rows is damaged: {option!r} isn't [rows, number of rows].")
    return tuple(rows), num_ws
