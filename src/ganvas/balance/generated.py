"""Balancing a set: pictures that have the values asked for, with labels and recipes, and a count of what was discarded.

Doubinsky et al. (https://cea.hal.science/cea-04852483) want control of counts to "augment existing data sets where it's
needed". Candidates come from seeds, in one of three ways: drawn from the conditions (editors with a compact space),
drawn freely and then edited to the nearest value that meets them (any other editor), or drawn freely (no editor). Each is
rendered and scored, and kept only where the scorer sees what was asked for; attributes that only the scorer has, like a
counter's ``sure``, are met by discarding alone. ``balance.real`` starts from real pictures instead of seeds.

Conditions are written as for sampling; their units are those of ``balance.score_ranges``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
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
from ganvas.generators.base import one_hot
from ganvas.io.images import LABEL_SIDE, downscale, to_bytes
from ganvas.metrics import to_readable
from ganvas.recipe.model import EditStep, FromConditions, FromSeed, Recipe, Start
from ganvas.recipe.rendering import Tools, compute_code
from ganvas.scorers.base import Scorer
from ganvas.types import Scores, WPlus

KIND, VERSION = "balance", 1
WAYS = ("conditions", "edit", "draw")
BATCH = 32
"""Candidates between two writes of the report."""
FEWEST_TRIES, MOST_TRIES = 1000, 100
"""Candidates that are tried before giving up: the first at least, or the second for each picture asked for."""
BalanceProgress = Callable[[int, int], object]
"""Called with the number of pictures kept and of all."""


@dataclass(frozen=True)
class BalanceRequest:
    """What is asked for: conditions, how many pictures, from which seed on, at which psi, and how (None: the best there is).

    ``tries``: candidates at most, by default many. ``label``: of a conditional generator, the same for all candidates; by
    default they go round with the seeds.
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
            raise GanvasError(f"The number of pictures is 1 to 1,000,000, not {self.n}.")
        if self.way is not None and self.way not in WAYS:
            raise unknown("way", self.way, WAYS)


@torch.no_grad()
def balance(
    tools: Tools, scorer: Scorer, order: BalanceRequest, out: str | Path, watch: BalanceProgress = lambda kept, n: None
) -> dict[str, Any]:
    """Fill the folder ``out`` with ``order.n`` pictures: PNG files that carry their recipes,
    ``data.label_files.parquet`` (file, seed, and
    every score as ``to_readable``) and ``balance.generated.json``, which is returned. A run that was stopped goes on.

    Raises GanvasError for conditions that neither scorer nor editor can meet, a folder that holds another set, and where
    far too few candidates are as asked, and for a label that the generator doesn't have.
    """
    if order.label is not None:
        one_hot(tools.generator, order.label)
    wanted, way = score_ranges(order.conditions, scorer, tools.editor), _way(order, tools)
    kept = BalancedSetWriter.open(Path(out), request_key(order, way, tools, scorer))
    candidates, state = _Candidates(tools, order, way), kept.state
    while state["kept"] < order.n:
        _give_up(state, order)
        first = order.seed + state["tried"]
        for seed in range(first, first + BATCH):
            recipe, ws = candidates.make(seed)
            picture = tools.generator.synthesis(ws)
            scores = scorer(downscale(picture, min(LABEL_SIDE, tools.generator.resolution)))
            state["tried"] += 1
            missed = wanted.missed(dict(zip(scorer.attributes, scores[0].tolist(), strict=True)))
            if missed is not None:
                kept.discard(missed, format_values(missed, scores, scorer))
                watch(state["kept"], order.n)
                continue
            row = {"seed": seed} | label_values(scores, scorer)
            kept.keep(f"seed{seed:07d}.png", to_bytes(picture)[0], recipe, row)
            watch(state["kept"], order.n)
            if state["kept"] == order.n:
                break
        kept.write()
    return state


def _way(order: BalanceRequest, tools: Tools) -> str:
    """How candidates are made. Raises GanvasError for a way that there is no editor for."""
    reachable = tools.editor is not None and any(c.attribute in tools.editor.attributes for c in order.conditions)
    compact = reachable and isinstance(tools.editor, CompactEditor)
    best = "conditions" if compact else "edit" if reachable else "draw"
    way = order.way or best
    if way == "conditions" and not compact or way == "edit" and not reachable:
        raise GanvasError(f"Candidates can't be made by {way!r} with this editor and these conditions: use {best!r}.")
    return way


@dataclass(frozen=True)
class _Candidates:
    """Makes the candidate of a seed."""

    tools: Tools
    order: BalanceRequest
    way: str

    def make(self, seed: int) -> tuple[Recipe, WPlus]:
        """Its recipe and its finished code."""
        tools, psi, label = self.tools, self.order.psi, self.order.label
        labels = None if label is None else one_hot(tools.generator, label)
        start: Start = FromSeed(seed, psi, labels)
        edits: tuple[EditStep, ...] = ()
        editor = tools.editor if self.way != "draw" else None
        if editor is not None:
            where = editor_ranges(self.order.conditions, editor)
            if self.way == "conditions":
                start = FromConditions(where, seed, psi, labels)
            else:
                plain = Recipe(tools.generator_name, start, tools.dtype)
                edits = _steps(where, editor, editor.read(compute_code(plain, tools))[0])
        named = tools.editor_name if isinstance(start, FromConditions) or edits else None
        recipe = Recipe(tools.generator_name, start, tools.dtype, None, named, edits)
        return recipe, compute_code(recipe, tools)


def editor_ranges(conditions: Iterable[Condition], editor: Editor) -> dict[str, Range]:
    """The conditions that the editor can see to, in its units: most editors read counts as normal scores, too."""
    known = []
    for condition in conditions:
        if condition.attribute in editor.attributes:
            column = editor.attributes.index(condition.attribute)
            sides = (condition.low, condition.high)
            if editor.kinds[column] == "count":
                whole = (
                    None if sides[0] is None else math.ceil(sides[0]),
                    None if sides[1] is None else math.floor(sides[1]),
                )
                sides = (
                    whole
                    if counts_objects(editor)
                    else tuple(None if s is None else normal_score(editor, column, s) for s in whole)
                )
            known.append(replace(condition, low=sides[0], high=sides[1]))
    return condition_ranges(known, editor)


def normal_score(editor: Editor, column: int, score: float) -> float:
    """The editor's normal score of a score."""
    return float(editor.gaussianize.select([column])(torch.tensor([[score]], dtype=torch.float64)))


def counts_objects(editor: Editor) -> bool:
    """Whether it reads and sets counts in objects."""
    return editor.method == cardinality.METHOD


def _steps(where: Mapping[str, Range], editor: Editor, reading: Tensor) -> tuple[EditStep, ...]:
    """The edit that brings what isn't as asked to the nearest value that is; () where all is, as far as it can be read."""
    targets = {}
    for name, (low, high) in where.items():
        column = editor.attributes.index(name)
        here = float(reading[column])
        if editor.kinds[column] == "count" and counts_objects(editor):
            here = float(round(here))
        goal = max(here, low) if low is not None else here
        goal = min(goal, high) if high is not None else goal
        if goal != here:
            targets[name] = float(goal)
    return (EditStep(set=targets),) if targets else ()


def request_key(order: BalanceRequest, way: str, tools: Tools, scorer: Scorer) -> dict[str, Any]:
    """What decides which pictures a folder holds; ``n`` may grow."""
    conditions = [vars(c) for c in order.conditions]
    editor = vars(tools.editor_name) if tools.editor_name and way != "draw" else None
    return {
        "kind": KIND,
        "version": VERSION,
        "where": conditions,
        "seed": order.seed,
        "psi": order.psi,
        "way": way,
        "generator": vars(tools.generator_name),
        "dtype": tools.dtype,
        "editor": editor,
        "scorer": {"name": scorer.name, "fingerprint": scorer.fingerprint},
        # Only where there is one: folders that were begun without go on.
        **({} if order.label is None else {"label": order.label}),
    }


def format_values(name: str, scores: Scores, scorer: Scorer) -> str:
    """What a picture has, in a few characters: a count's number, a probability to a tenth, a value to a whole."""
    k = scorer.column(name)
    value = float(to_readable(scores, scorer.kinds)[0, k])
    return f"{value:.1f}" if scorer.kinds[k] == "probability" else f"{value:.0f}"


def label_values(scores: Scores, scorer: Scorer) -> dict[str, float]:
    """One picture's scores (1, attributes), as labels have them."""
    return dict(zip(scorer.attributes, to_readable(scores, scorer.kinds)[0].tolist(), strict=True))


def _give_up(state: dict[str, Any], order: BalanceRequest) -> None:
    if state["tried"] >= (order.tries or max(FEWEST_TRIES, MOST_TRIES * order.n)):
        raise GanvasError(
            f"Only {state['kept']} of {state['tried']} candidates are as asked: ask for something less rare."
        )
    if order.seed + state["tried"] + BATCH >= 2**32:
        raise GanvasError(f"The seeds have come to an end with {state['kept']} pictures: start from a smaller one.")
