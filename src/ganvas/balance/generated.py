"""Balance a set: make pictures that meet conditions, with labels and recipes, and count what was discarded.

Doubinsky et al. (https://cea.hal.science/cea-04852483) want control of counts to "augment existing data sets where it's
needed". Candidates come from seeds, in one of three ways: drawn from the conditions (editors with a compact space),
drawn freely and then edited to the nearest value that meets them (any other editor), or drawn freely (no editor). Each is
rendered and scored, and kept only if its scores meet the conditions; attributes that only the scorer has, like a
counter's ``sure``, are met by discarding alone. ``balance.real`` starts from real pictures instead of seeds.

Conditions are written as for sampling; their units are those of ``score_ranges``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganvas.balance.score_ranges import score_ranges
from ganvas.balance.set_files import BalancedSetWriter
from ganvas.balance.set_files import report_lines as report_lines
from ganvas.control.conditions import Condition, Range, condition_ranges
from ganvas.editors import cardinality
from ganvas.editors.base import Editor
from ganvas.editors.compact import CompactEditor
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import encode_label
from ganvas.io.images import LABEL_SIDE, downscale, to_bytes
from ganvas.metrics import to_readable
from ganvas.progress import Progress
from ganvas.recipe.model import EditStep, FromConditions, FromSeed, Recipe, Start
from ganvas.recipe.rendering import Tools, compute_code
from ganvas.scorers.base import Scorer
from ganvas.types import Scores, WPlus

KIND, VERSION = "balance", 1
WAYS = ("conditions", "edit", "draw")
BATCH_SIZE = 32
"""Candidates between two writes of the report."""
MIN_TRIES, TRIES_PER_PICTURE = 1000, 100
"""The limit on candidates is ``TRIES_PER_PICTURE`` times the number of pictures, and never less than ``MIN_TRIES``."""


@dataclass(frozen=True)
class BalanceRequest:
    """A request: conditions, the number of pictures, the first seed, psi, and how candidates are made (None: the best way).

    ``tries``: the most candidates. ``label``: of a conditional generator, for all candidates; by default labels cycle with
    the seeds.
    """

    conditions: tuple[Condition, ...]
    n: int
    seed: int = 0
    psi: float = 1.0
    way: str | None = None
    tries: int | None = None
    label: int | None = None

    def __post_init__(self) -> None:
        if not self.conditions:
            raise GanvasError("A balanced set needs at least one condition, like count=4.")
        if not 1 <= self.n <= 1_000_000:
            raise GanvasError(f"The number of pictures must be from 1 to 1,000,000, not {self.n}.")
        if self.way is not None and self.way not in WAYS:
            raise unknown("way", self.way, WAYS)


@torch.no_grad()
def balance(
    tools: Tools, scorer: Scorer, request: BalanceRequest, out: str | Path, progress: Progress = lambda kept, n: None
) -> dict[str, Any]:
    """Fill the folder ``out`` with ``request.n`` pictures that meet the conditions.

    It gets PNG files with their recipes, ``labels.parquet`` (file, seed, and every score as ``to_readable``) and
    ``balance.json``, which is returned. A run that was stopped is continued. ``progress`` is called with the number of
    pictures written and of all.

    Raises GanvasError for conditions that neither scorer nor editor can meet, a folder that holds another set, a label that
    the generator doesn't have, and where far too few candidates meet the conditions.
    """
    if request.label is not None:
        encode_label(tools.generator, request.label)
    ranges, way = score_ranges(request.conditions, scorer, tools.editor), _choose_way(request, tools)
    writer = BalancedSetWriter.open(Path(out), request_key(request, way, tools, scorer))
    candidates, state = _Candidates(tools, request, way), writer.state
    while state["kept"] < request.n:
        _check_progress(state, request)
        first = request.seed + state["tried"]
        for seed in range(first, first + BATCH_SIZE):
            recipe, ws = candidates.make(seed)
            picture = tools.generator.synthesis(ws)
            scores = scorer(downscale(picture, min(LABEL_SIDE, tools.generator.resolution)))
            state["tried"] += 1
            failed = ranges.find_failed(dict(zip(scorer.attributes, scores[0].tolist(), strict=True)))
            if failed is not None:
                writer.discard(failed, format_values(failed, scores, scorer))
                progress(state["kept"], request.n)
                continue
            row = {"seed": seed} | label_values(scores, scorer)
            writer.keep(f"seed{seed:07d}.png", to_bytes(picture)[0], recipe, row)
            progress(state["kept"], request.n)
            if state["kept"] == request.n:
                break
        writer.write()
    return state


def _choose_way(request: BalanceRequest, tools: Tools) -> str:
    """Choose how candidates are made. Raises GanvasError for a way that the editor doesn't allow."""
    editable = tools.editor is not None and any(c.attribute in tools.editor.attributes for c in request.conditions)
    compact = editable and isinstance(tools.editor, CompactEditor)
    best = "conditions" if compact else "edit" if editable else "draw"
    way = request.way or best
    if way == "conditions" and not compact or way == "edit" and not editable:
        raise GanvasError(f"Candidates can't be made by {way!r} with this editor and these conditions: use {best!r}.")
    return way


@dataclass(frozen=True)
class _Candidates:
    """Candidates by seed."""

    tools: Tools
    request: BalanceRequest
    way: str

    def make(self, seed: int) -> tuple[Recipe, WPlus]:
        """Make the recipe of a seed's candidate and its finished code."""
        tools, psi, label = self.tools, self.request.psi, self.request.label
        labels = None if label is None else encode_label(tools.generator, label)
        start: Start = FromSeed(seed, psi, labels)
        edits: tuple[EditStep, ...] = ()
        editor = tools.editor if self.way != "draw" else None
        if editor is not None:
            where = editor_ranges(self.request.conditions, editor)
            if self.way == "conditions":
                start = FromConditions(where, seed, psi, labels)
            else:
                plain = Recipe(tools.generator_name, start, tools.dtype)
                edits = _plan_edits(where, editor, editor.read(compute_code(plain, tools))[0])
        named = tools.editor_name if isinstance(start, FromConditions) or edits else None
        recipe = Recipe(tools.generator_name, start, tools.dtype, None, named, edits)
        return recipe, compute_code(recipe, tools)


def editor_ranges(conditions: Iterable[Condition], editor: Editor) -> dict[str, Range]:
    """Convert the conditions on the editor's attributes to its units: most editors read counts as normal scores, too."""
    usable = []
    for condition in conditions:
        if condition.attribute not in editor.attributes:
            continue
        column = editor.attributes.index(condition.attribute)
        low, high = condition.low, condition.high
        if editor.kinds[column] == "count":
            low = None if low is None else math.ceil(low)
            high = None if high is None else math.floor(high)
            if not counts_objects(editor):
                low, high = (None if side is None else normal_score(editor, column, side) for side in (low, high))
        usable.append(replace(condition, low=low, high=high))
    return condition_ranges(usable, editor)


def normal_score(editor: Editor, column: int, score: float) -> float:
    """Convert a score to the editor's normal score."""
    return float(editor.gaussianize.select([column])(torch.tensor([[score]], dtype=torch.float64)))


def counts_objects(editor: Editor) -> bool:
    """Return whether the editor reads and sets counts in objects."""
    return editor.method == cardinality.METHOD


def _plan_edits(where: Mapping[str, Range], editor: Editor, readings: Tensor) -> tuple[EditStep, ...]:
    """Return the edit that brings readings outside their ranges to the nearest value inside; () where there are none."""
    targets = {}
    for name, (low, high) in where.items():
        column = editor.attributes.index(name)
        reading = float(readings[column])
        if editor.kinds[column] == "count" and counts_objects(editor):
            reading = float(round(reading))
        goal = max(reading, low) if low is not None else reading
        goal = min(goal, high) if high is not None else goal
        if goal != reading:
            targets[name] = float(goal)
    return (EditStep(set=targets),) if targets else ()


def request_key(request: BalanceRequest, way: str, tools: Tools, scorer: Scorer) -> dict[str, Any]:
    """Return all that decides which pictures a folder holds; ``n`` doesn't, since a set may grow."""
    conditions = [vars(c) for c in request.conditions]
    editor = vars(tools.editor_name) if tools.editor_name and way != "draw" else None
    return {
        "kind": KIND,
        "version": VERSION,
        "where": conditions,
        "seed": request.seed,
        "psi": request.psi,
        "way": way,
        "generator": vars(tools.generator_name),
        "dtype": tools.dtype,
        "editor": editor,
        "scorer": {"name": scorer.name, "fingerprint": scorer.fingerprint},
        # Only if set, so that older folders can be continued.
        **({} if request.label is None else {"label": request.label}),
    }


def format_values(name: str, scores: Scores, scorer: Scorer) -> str:
    """Format a picture's score in a few characters: a count or a value as an integer, a probability to a tenth."""
    k = scorer.column(name)
    value = float(to_readable(scores, scorer.kinds)[0, k])
    return f"{value:.1f}" if scorer.kinds[k] == "probability" else f"{value:.0f}"


def label_values(scores: Scores, scorer: Scorer) -> dict[str, float]:
    """Return one picture's scores (1, attributes) in readable units, by attribute."""
    return dict(zip(scorer.attributes, to_readable(scores, scorer.kinds)[0].tolist(), strict=True))


def _check_progress(state: dict[str, Any], request: BalanceRequest) -> None:
    if state["tried"] >= (request.tries or max(MIN_TRIES, TRIES_PER_PICTURE * request.n)):
        raise GanvasError(
            f"Only {state['kept']} of {state['tried']} candidates meet the conditions: ask for something less rare."
        )
    if request.seed + state["tried"] + BATCH_SIZE >= 2**32:
        raise GanvasError(f"There are no more seeds after {state['kept']} pictures: start from a smaller seed.")
