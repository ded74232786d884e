"""Some rows of W+ only: which ones, and an editor that leaves the others where they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from ganvas.editors.base import Editor, EditorMetadata, metadata_of
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.types import Scores, W, WPlus

MASKED = "masked"
"""Where an editor's options say which rows it moves, [rows, how many there are]."""
Layers = str | Sequence[int]
"""Rows of W+ by number, ``[0, 1, 5]`` or ``"0-3,7"``, or by the resolution that they act at, ``"4-32px"``."""


def parse_rows(layers: Layers, generator: Generator) -> tuple[int, ...]:
    """The numbers of the rows that ``layers`` names, in rising order.

    Raises GanvasError where a row doesn't exist, no row acts at a resolution, or the text is no list of ranges.
    """
    if isinstance(layers, str):
        numbers = {row for part in layers.split(",") for row in _range(part, layers, generator.row_resolutions)}
    else:
        whole = isinstance(layers, Sequence) and all(type(row) is int for row in layers)
        numbers = set(layers) if whole else set()
    if not numbers or not all(0 <= row < generator.num_ws for row in numbers):
        raise GanvasError(f"{layers!r} isn't some of the rows 0 to {generator.num_ws - 1} of {generator.name!r}.")
    return tuple(sorted(numbers))


def _range(part: str, text: str, resolutions: tuple[int, ...]) -> Iterable[int]:
    match = re.fullmatch(r"\s*([0-9]{1,5})(?:-([0-9]{1,5}))?(px)?\s*", part)
    if match is None:
        raise GanvasError(f"{text!r} isn't a choice of layers: write rows like 0-3,7 or resolutions like 4-32px.")
    first, last = int(match[1]), int(match[2] or match[1])
    if not match[3]:
        return range(first, last + 1)
    found = [row for row, resolution in enumerate(resolutions) if first <= resolution <= last]
    if not found:
        known = ", ".join(map(str, sorted(set(resolutions))))
        raise GanvasError(f"No row acts at {part.strip()}: this generator's rows act at {known}px.")
    return found


@final
class MaskedEditor(Editor):
    """Any editor, restricted to some rows of W+: it sees only these, and moves only these.

    The editor inside is shown codes whose other rows are the chosen ones' mean. So a change of 1 moves the
    reading by 1 here, too: ``read`` is of the chosen rows, not of the mean over rows that can't move.
    """

    def __init__(self, inner: Editor, rows: tuple[int, ...], num_ws: int) -> None:
        """``generators.stylegan2.rows``: numbers below ``num_ws``, the number of rows of the generator's codes."""
        super().__init__()
        self.describe(metadata_of(inner))
        if isinstance(inner, MaskedEditor):
            rows = tuple(row for row in rows if row in inner.rows)
            if not rows:
                raise GanvasError("No row is left: the editor moves none of those that were chosen.")
            inner = inner.inner
        self.inner, self.rows, self.num_ws = inner, rows, num_ws
        self.options = {**inner.options, MASKED: [list(rows), num_ws]}

    def shift(self, w: W, changes: Scores) -> W:
        """What the mean of all rows moves by."""
        return self.inner.shift(w, changes) * (len(self.rows) / self.num_ws)

    def shifts(self, ws: WPlus, changes: Scores) -> Float[Tensor, "n rows w_dim"]:
        """The inner editor's shifts, 0 in the rows that stay."""
        seen, chosen = self._seen(ws)
        return torch.where(chosen, self.inner.shifts(seen, changes), 0)

    def read(self, ws: WPlus) -> Scores:
        """Where the chosen rows of codes stand."""
        return self.inner.read(self._seen(ws)[0])

    def _seen(self, ws: WPlus) -> tuple[Tensor, Tensor]:
        """The codes with the chosen rows' mean in place of the others, and which rows are chosen, (num_ws, 1)."""
        if ws.shape[1] != self.num_ws:
            raise GanvasError(f"This editor is for codes of {self.num_ws} rows, not of {ws.shape[1]}.")
        chosen = torch.zeros(self.num_ws, 1, dtype=torch.bool, device=ws.device)
        chosen[list(self.rows)] = True
        return torch.where(chosen, ws, ws[:, list(self.rows)].mean(1, keepdim=True)), chosen


def mask_editor(editor: Editor, layers: Layers | None, generator: Generator) -> Editor:
    """``editor`` on some layers of ``generators.base``; None: on all, so the editor itself. Raises GanvasError as
    ``parse_rows``."""
    return editor if layers is None else MaskedEditor(editor, parse_rows(layers, generator), generator.num_ws)


def unwrap_masked(
    tensors: Mapping[str, Tensor], about: EditorMetadata
) -> tuple[dict[str, Tensor], EditorMetadata, tuple[tuple[int, ...], int] | None]:
    """What a file holds of the editor inside, and the rows and their number if it is masked (else None).

    Raises GanvasError where the description of the rows is damaged.
    """
    if MASKED not in about.options:
        return dict(tensors), about, None
    rows = masked_rows(about.options[MASKED])
    inner = replace(about, options={key: value for key, value in about.options.items() if key != MASKED})
    return {key.removeprefix("inner."): value for key, value in tensors.items()}, inner, rows


def masked_rows(option: Any) -> tuple[tuple[int, ...], int]:
    """The rows that an editor's option ``MASKED`` names, and how many there are. Raises GanvasError where it's damaged."""
    rows, num_ws = option if isinstance(option, list) and len(option) == 2 else ([], 0)
    numbers = isinstance(rows, list) and all(type(x) is int for x in (num_ws, *rows)) and rows == sorted(set(rows))
    if not numbers or not rows or not 0 <= rows[0] <= rows[-1] < num_ws:
        raise GanvasError(f"The editor's choice of rows is damaged: {option!r} isn't [rows, how many there are].")
    return tuple(rows), num_ws
