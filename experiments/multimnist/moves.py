"""Moving the count of fresh codes: how often it is right, by start and sign, after successive moves, and what stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.multimnist import editors
from experiments.multimnist.context import CountContext
from experiments.multimnist.figure_2 import draw_figure_2
from experiments.multimnist.section import ReportSection, SectionTable
from experiments.multimnist.trials import (
    HIGH,
    LOW,
    SURE_PROBABILITY,
    Move,
    MoveTrial,
    TrialCodes,
    editor_move,
    estimate_rate,
    format_rate,
    is_sure,
    random_move,
    run_move,
    sample_sure_codes,
    summarise_trials,
)
from ganvas.editors._count_classifier import HIDDEN
from ganvas.evaluation.tables import format_estimate

NAME, TITLE = "moves", "Moving the count"
SUCCESSIVE_CHANGES = (1, 2, 3)
"""How many objects are asked for at once, by successive unit moves."""
PAPER, BEST = "paper: W, cross-entropy", "ours"
TWO = "two of the paper's H: one adds, one removes, along 64 components"
SAME_IMAGES = "same images as W+"
AIMS = {PAPER: 0.7, BEST: 0.85}
"""The share that is to be right, of each."""


def run(stage: CountContext) -> ReportSection:
    """The paper's H in both spaces and with both losses, the best of ours, and random moves."""
    return measure_moves(stage, collect_moves(stage))


def collect_moves(stage: CountContext) -> dict[str, Move]:
    """Everything that is judged, by its name."""
    inverted = editors.paper_training_codes(stage, "w+") is not stage.labels
    suffix = "" if inverted else ", sampled codes"
    ways = {
        PAPER: editor_move(editors.fit_paper(stage, "w", "ce")),
        "paper: W, MSE": editor_move(editors.fit_paper(stage, "w", "mse")),
        f"paper: W+, cross-entropy{suffix}": editor_move(editors.fit_paper(stage, "w+", "ce")),
        f"paper: W+, MSE{suffix}": editor_move(editors.fit_paper(stage, "w+", "mse")),
        f"W, cross-entropy, {SAME_IMAGES}": editor_move(editors.fit_paper(stage, "w", "ce", images=True)),
        f"W, MSE, {SAME_IMAGES}": editor_move(editors.fit_paper(stage, "w", "mse", images=True)),
        TWO: editor_move(editors.fit_two_directions(stage)),
        BEST: editor_move(editors.fit_best(stage)),
    }
    return ways | {f"random, as long as {name}": random_move(stage, ways[name]) for name in (PAPER, BEST)}


def measure_moves(stage: CountContext, ways: Mapping[str, Move]) -> ReportSection:
    """The section for any ways to move; the last two are random ones, without pictures."""
    cases = sample_sure_codes(stage, stage.size.moves)
    rows = []
    for name, move in ways.items():
        stage.watch(f"Moving {len(cases.ws):,} codes: {name} …")
        rows.append(summarise_move(stage, name, run_trials(stage, cases, move)))
    shown = {name: move for name, move in ways.items() if not name.startswith("random")}
    pictures = {f"figure-2-{_file(name)}": draw_figure_2(stage, cases, move) for name, move in shown.items()}
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
    data = {"aims": aims, "cases": describe_cases(stage, cases), "ways": rows}
    return ReportSection(NAME, TITLE, _intro(cases), tables, pictures, data, captions)


def run_trials(stage: CountContext, cases: TrialCodes, move: Move, attribute: str = "count") -> dict[int, MoveTrial]:
    """Every change that is asked for, of all cases that it stays in range of."""
    asked = [sign * n for n in SUCCESSIVE_CHANGES for sign in (1, -1)]
    return {alpha: run_move(stage, cases, move, alpha, attribute) for alpha in asked}


def summarise_move(stage: CountContext, name: str, tried: Mapping[int, MoveTrial]) -> dict[str, Any]:
    """One way's numbers: estimates, by what was asked for."""
    starts = {
        f"{start}→{start + alpha}": estimate_rate(tried[alpha].right[tried[alpha].start == start])
        for alpha in (1, -1)
        for start in range(LOW, HIGH + 1)
        if LOW <= start + alpha <= HIGH
    }
    return {
        **summarise_trials(stage, name, [tried[1]], [tried[-1]]),
        "successive": {str(alpha): estimate_rate(trial.right) for alpha, trial in tried.items()},
        "successive_kept": {str(alpha): estimate_rate(trial.kept(stage.classes)) for alpha, trial in tried.items()},
        "starts": starts,
    }


def describe_cases(stage: CountContext, cases: TrialCodes) -> dict[str, Any]:
    """Which codes are moved: how many were looked at, the share that the counter is sure of, and their counts."""
    counts = cases.looked[:, stage.counter.column("count")].long()
    certain = is_sure(stage, cases.looked)
    start = cases.scores[:, stage.counter.column("count")].long()
    values = range(int(counts.max()) + 1)
    return {
        "looked": len(counts),
        "sure": estimate_rate(certain.float()),
        "drawn": {str(n): float((counts == n).float().mean()) for n in values},
        "drawn_sure": {str(n): float((counts[certain] == n).float().mean()) if certain.any() else None for n in values},
        "moved": {str(n): int((start == n).sum()) for n in values},
    }


def _intro(cases: TrialCodes) -> str:
    return (
        f"{len(cases.ws):,} fresh codes whose count the counter is sure of (p ≥ {SURE_PROBABILITY:g}) were asked"
        f" for one object more and one"
        f" less, within {LOW} to {HIGH}; their pictures were drawn again and counted. Right: as many as asked for. Kept: the"
        " share of the original objects, by class, that are still there, of those that could stay (all where one is added, all"
        " but one where one is removed). Sure: the share of the moved pictures whose count the counter is sure of. Beyond: the"
        " share of codes that left the distribution of sampled codes (99.9th percentile of Mahalanobis distances)."
    )


def _cases(stage: CountContext, cases: TrialCodes) -> SectionTable:
    found = describe_cases(stage, cases)
    names = list(found["drawn"])
    rows = [
        ("all drawn", *(f"{found['drawn'][n]:.3f}" for n in names)),
        ("sure", *("-" if found["drawn_sure"][n] is None else f"{found['drawn_sure'][n]:.3f}" for n in names)),
        ("moved (codes)", *(str(found["moved"][n]) for n in names)),
    ]
    note = (
        f"Of {found['looked']:,} fresh codes; the counter is sure of {format_estimate(vars(found['sure']), 3)} of them."
    )
    return SectionTable("Counts in what the generator draws", ("share with a count of", *names), rows, note)


def _overall(stage: CountContext, rows: Sequence[Mapping[str, Any]]) -> SectionTable:
    keys = ("both", "more", "less", "kept", "sure", "beyond")
    head = ("way", "right", "+1", "−1", "kept", "sure", "beyond", "length in W")
    cells = [(row["name"], *(format_rate(row[key]) for key in keys), format_rate(row["length"], 1)) for row in rows]
    return SectionTable("One object more or less", head, cells, _trained(stage))


def _trained(stage: CountContext) -> str:
    """What the paper's H had to learn from and with, in each space."""
    size, learned = stage.size, editors.paper_training_codes(stage, "w+")
    wide = ", ".join(map(str, size.hidden))
    return (
        f"In W and in W+ alike an H learned for {size.steps:,} steps, and its classifier for {size.knowledge:,}. The paper's"
        f" learned in W from {len(stage.labels):,} sampled codes, with {', '.join(map(str, HIDDEN['w']))} hidden numbers, and in"
        f" W+ from {len(learned):,} {'inverted images' if learned is not stage.labels else 'sampled codes'}, with {wide}."
        f" {SAME_IMAGES.capitalize()}: in W, from the codes of those images, with {wide}."
    )


def _successive(rows: Sequence[Mapping[str, Any]]) -> SectionTable:
    asked = [str(sign * n) for sign in (1, -1) for n in SUCCESSIVE_CHANGES]
    head = (
        "way",
        *(f"{int(alpha):+d}" for alpha in asked),
        *(f"kept at {int(alpha):+d}" for alpha in asked if abs(int(alpha)) > 1),
    )
    cells = [
        (
            row["name"],
            *(format_rate(row["successive"][alpha]) for alpha in asked),
            *(format_rate(row["successive_kept"][alpha]) for alpha in asked if abs(int(alpha)) > 1),
        )
        for row in rows
    ]
    return SectionTable(
        "Successive moves", head, cells, "The share that is right after one, two and three moves by one."
    )


def _starts(rows: Sequence[Mapping[str, Any]]) -> SectionTable:
    names = list(rows[0]["starts"])
    cells = [(row["name"], *(format_rate(row["starts"][name]) for name in names)) for row in rows]
    return SectionTable(
        "By start and sign", ("way", *names), cells, "The share that is right, of codes with so many objects."
    )


def _file(name: str) -> str:
    """A way's name as part of a file's."""
    words = name.lower().replace("+", "-plus").replace("cross-entropy", "ce")
    return "-".join("".join(c if c.isalnum() or c == "-" else " " for c in words).split())
