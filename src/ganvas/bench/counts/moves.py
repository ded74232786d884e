"""Moving the count of fresh codes: how often it is right, by start and sign, after successive moves, and what stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ganvas.bench.counts import recipes
from ganvas.bench.counts.pictures import figure_2
from ganvas.bench.counts.section import Section, Table
from ganvas.bench.counts.stage import Stage
from ganvas.bench.counts.trials import (
    HIGH,
    LOW,
    SURE,
    Cases,
    Move,
    Tried,
    at_random,
    attempt,
    brief,
    by_editor,
    cell_of,
    fresh,
    rate,
    sure,
)
from ganvas.bench.tables import cell
from ganvas.editors._count_classifier import HIDDEN

NAME, TITLE = "moves", "Moving the count"
SUCCESSIVE = (1, 2, 3)
"""How many objects are asked for at once, by successive unit moves."""
PAPER, BEST = "paper: W, cross-entropy", "ours"
TWO = "two of the paper's H: one adds, one removes, along 64 components"
SAME_IMAGES = "same images as W+"
AIMS = {PAPER: 0.7, BEST: 0.85}
"""The share that is to be right, of each."""


def run(stage: Stage) -> Section:
    """The paper's H in both spaces and with both losses, the best of ours, and random moves."""
    return measured(stage, ways_of(stage))


def ways_of(stage: Stage) -> dict[str, Move]:
    """Everything that is judged, by its name."""
    inverted = recipes.lessons(stage, "w+") is not stage.labels
    suffix = "" if inverted else ", sampled codes"
    ways = {
        PAPER: by_editor(recipes.paper(stage, "w", "ce")),
        "paper: W, MSE": by_editor(recipes.paper(stage, "w", "mse")),
        f"paper: W+, cross-entropy{suffix}": by_editor(recipes.paper(stage, "w+", "ce")),
        f"paper: W+, MSE{suffix}": by_editor(recipes.paper(stage, "w+", "mse")),
        f"W, cross-entropy, {SAME_IMAGES}": by_editor(recipes.paper(stage, "w", "ce", images=True)),
        f"W, MSE, {SAME_IMAGES}": by_editor(recipes.paper(stage, "w", "mse", images=True)),
        TWO: by_editor(recipes.two(stage)),
        BEST: by_editor(recipes.best(stage)),
    }
    return ways | {f"random, as long as {name}": at_random(stage, ways[name]) for name in (PAPER, BEST)}


def measured(stage: Stage, ways: Mapping[str, Move]) -> Section:
    """The section for any ways to move; the last two are random ones, without pictures."""
    cases = fresh(stage, stage.size.moves)
    rows = []
    for name, move in ways.items():
        stage.watch(f"Moving {len(cases.ws):,} codes: {name} …")
        rows.append(judged(stage, name, trials(stage, cases, move)))
    shown = {name: move for name, move in ways.items() if not name.startswith("random")}
    pictures = {f"figure-2-{_file(name)}": figure_2(stage, cases, move) for name, move in shown.items()}
    captions = {
        f"figure-2-{_file(name)}": f"Figure 2, {name}: the framed picture is a fresh code, the others successive moves by one."
        for name in shown
    }
    aims = [
        {"what": f"count right after ±1, {row['name']}", "aim": AIMS[row["name"]], "found": row["both"],
         "holds": row["both"].mean >= AIMS[row["name"]]}
        for row in rows if row["name"] in AIMS
    ]  # fmt: skip
    tables = (_cases(stage, cases), _overall(stage, rows), _successive(rows), _starts(rows))
    data = {"aims": aims, "cases": told(stage, cases), "ways": rows}
    return Section(NAME, TITLE, _intro(cases), tables, pictures, data, captions)


def trials(stage: Stage, cases: Cases, move: Move, attribute: str = "count") -> dict[int, Tried]:
    """Every change that is asked for, of all cases that it stays in range of."""
    asked = [sign * n for n in SUCCESSIVE for sign in (1, -1)]
    return {alpha: attempt(stage, cases, move, alpha, attribute) for alpha in asked}


def judged(stage: Stage, name: str, tried: Mapping[int, Tried]) -> dict[str, Any]:
    """One way's numbers: estimates, by what was asked for."""
    starts = {
        f"{start}→{start + alpha}": rate(tried[alpha].right[tried[alpha].start == start])
        for alpha in (1, -1)
        for start in range(LOW, HIGH + 1)
        if LOW <= start + alpha <= HIGH
    }
    return {
        **brief(stage, name, [tried[1]], [tried[-1]]),
        "successive": {str(alpha): rate(trial.right) for alpha, trial in tried.items()},
        "successive_kept": {str(alpha): rate(trial.kept(stage.classes)) for alpha, trial in tried.items()},
        "starts": starts,
    }


def told(stage: Stage, cases: Cases) -> dict[str, Any]:
    """Which codes are moved: how many were looked at, the share that the counter is sure of, and their counts."""
    counts = cases.looked[:, stage.counter.column("count")].long()
    certain = sure(stage, cases.looked)
    start = cases.scores[:, stage.counter.column("count")].long()
    values = range(int(counts.max()) + 1)
    return {
        "looked": len(counts),
        "sure": rate(certain.float()),
        "drawn": {str(n): float((counts == n).float().mean()) for n in values},
        "drawn_sure": {str(n): float((counts[certain] == n).float().mean()) if certain.any() else None for n in values},
        "moved": {str(n): int((start == n).sum()) for n in values},
    }


def _intro(cases: Cases) -> str:
    return (
        f"{len(cases.ws):,} fresh codes whose count the counter is sure of (p ≥ {SURE:g}) were asked for one object more and one"
        f" less, within {LOW} to {HIGH}; their pictures were drawn again and counted. Right: as many as asked for. Kept: the"
        " share of the original objects, by class, that are still there, of those that could stay (all where one is added, all"
        " but one where one is removed). Sure: the share of the moved pictures whose count the counter is sure of. Beyond: the"
        " share of codes that left the distribution of sampled codes (99.9th percentile of Mahalanobis distances)."
    )


def _cases(stage: Stage, cases: Cases) -> Table:
    found = told(stage, cases)
    names = list(found["drawn"])
    rows = [
        ("all drawn", *(f"{found['drawn'][n]:.3f}" for n in names)),
        ("sure", *("-" if found["drawn_sure"][n] is None else f"{found['drawn_sure'][n]:.3f}" for n in names)),
        ("moved (codes)", *(str(found["moved"][n]) for n in names)),
    ]
    note = f"Of {found['looked']:,} fresh codes; the counter is sure of {cell(vars(found['sure']), 3)} of them."
    return Table("Counts in what the generator draws", ("share with a count of", *names), rows, note)


def _overall(stage: Stage, rows: Sequence[Mapping[str, Any]]) -> Table:
    keys = ("both", "more", "less", "kept", "sure", "beyond")
    head = ("way", "right", "+1", "−1", "kept", "sure", "beyond", "length in W")
    cells = [(row["name"], *(cell_of(row[key]) for key in keys), cell_of(row["length"], 1)) for row in rows]
    return Table("One object more or less", head, cells, _trained(stage))


def _trained(stage: Stage) -> str:
    """What the paper's H had to learn from and with, in each space."""
    size, learned = stage.size, recipes.lessons(stage, "w+")
    wide = ", ".join(map(str, size.hidden))
    return (
        f"In W and in W+ alike an H learned for {size.steps:,} steps, and its classifier for {size.knowledge:,}. The paper's"
        f" learned in W from {len(stage.labels):,} sampled codes, with {', '.join(map(str, HIDDEN['w']))} hidden numbers, and in"
        f" W+ from {len(learned):,} {'inverted images' if learned is not stage.labels else 'sampled codes'}, with {wide}."
        f" {SAME_IMAGES.capitalize()}: in W, from the codes of those images, with {wide}."
    )


def _successive(rows: Sequence[Mapping[str, Any]]) -> Table:
    asked = [str(sign * n) for sign in (1, -1) for n in SUCCESSIVE]
    head = (
        "way",
        *(f"{int(alpha):+d}" for alpha in asked),
        *(f"kept at {int(alpha):+d}" for alpha in asked if abs(int(alpha)) > 1),
    )
    cells = [
        (
            row["name"],
            *(cell_of(row["successive"][alpha]) for alpha in asked),
            *(cell_of(row["successive_kept"][alpha]) for alpha in asked if abs(int(alpha)) > 1),
        )
        for row in rows
    ]
    return Table("Successive moves", head, cells, "The share that is right after one, two and three moves by one.")


def _starts(rows: Sequence[Mapping[str, Any]]) -> Table:
    names = list(rows[0]["starts"])
    cells = [(row["name"], *(cell_of(row["starts"][name]) for name in names)) for row in rows]
    return Table("By start and sign", ("way", *names), cells, "The share that is right, of codes with so many objects.")


def _file(name: str) -> str:
    """A way's name as part of a file's."""
    words = name.lower().replace("+", "-plus").replace("cross-entropy", "ce")
    return "-".join("".join(c if c.isalnum() or c == "-" else " " for c in words).split())
