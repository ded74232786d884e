"""Results of an evaluation, and what could not be measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ganvas.errors import GanvasError
from ganvas.evaluation.context import EvaluationContext
from ganvas.evaluation.method_trials import MethodTrials
from ganvas.evaluation.methods import FittedEntry, MethodEntry, format_failure


@dataclass(frozen=True)
class MissingResult:
    """A result that could not be measured, and why, in one line. ``attribute`` "": all of them."""

    what: str
    method: str
    attribute: str
    why: str


@dataclass
class EvaluationResult:
    """Results of a run. ``results`` is JSON, the same for equal input; ``timings`` are not.

    ``fits`` is by the entry's name, ``cells`` by its name and attribute.
    """

    context: EvaluationContext
    entries: list[MethodEntry]
    attributes: list[str]
    fits: dict[str, FittedEntry]
    cells: dict[tuple[str, str], MethodTrials] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, Any] = field(default_factory=dict)
    gaps: list[MissingResult] = field(default_factory=list)

    @contextmanager
    def record_failures(self, what: str, method: str, attribute: str = "") -> Iterator[None]:
        """Record a GanvasError raised inside as a gap, and go on."""
        try:
            yield
        except GanvasError as error:
            self.gaps.append(MissingResult(what, method, attribute, format_failure(error)))

    def list_fitted(self, *groups: str) -> list[tuple[MethodEntry, FittedEntry]]:
        """Return the entries of some groups (of all, without any) that have an editor."""
        pairs = [(entry, self.fits[entry.name]) for entry in self.entries]
        return [(e, c) for e, c in pairs if c.editor is not None and (not groups or e.group in groups)]
