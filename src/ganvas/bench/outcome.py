"""What a benchmark found, and what it could not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ganvas.bench.cells import Cell
from ganvas.bench.methods import Contender, Entry, one_line
from ganvas.bench.stage import Stage
from ganvas.errors import GanvasError


@dataclass(frozen=True)
class Gap:
    """What could not be measured, and why, in one line. ``attribute`` "": all of them."""

    what: str
    method: str
    attribute: str
    why: str


@dataclass
class Outcome:
    """What a run found. ``results`` is JSON, the same for equal input; ``timings`` are not."""

    stage: Stage
    entries: list[Entry]
    attributes: list[str]
    contenders: dict[str, Contender]
    cells: dict[tuple[str, str], Cell] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, Any] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)

    @contextmanager
    def marking(self, what: str, method: str, attribute: str = "") -> Iterator[None]:
        """What goes wrong inside is marked, and the rest goes on."""
        try:
            yield
        except GanvasError as error:
            self.gaps.append(Gap(what, method, attribute, one_line(error)))

    def able(self, *groups: str) -> list[tuple[Entry, Contender]]:
        """Entries of some groups (of all, without any) that have an editor."""
        pairs = [(entry, self.contenders[entry.name]) for entry in self.entries]
        return [(e, c) for e, c in pairs if c.editor is not None and (not groups or e.group in groups)]
