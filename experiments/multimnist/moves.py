"""Moves of the count of fresh codes: how often it is right, by start and sign, after successive moves, and what stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.multimnist import editors
from experiments.multimnist.context import CountContext
from experiments.multimnist.figure_2 import draw_figure_2
from experiments.multimnist.section import ReportSection, SectionTable
from experiments.multimnist.trials import (
    MAX_COUNT,
    MIN_COUNT,
    SURE_PROBABILITY,
    Move,
    MoveTrial,
    TrialCodes,
    estimate_rate,
    find_sure,
    format_rate,
    make_editor_move,
    make_random_move,
    run_move,
    sample_sure_codes,
    summarise_trials,
)
from ganvas.editors._cardinality_networks import HIDDEN
from ganvas.evaluation.pages import format_estimate

NAME, TITLE = "moves", "Moving the count"
SUCCESSIVE_CHANGES = (1, 2, 3)
"""Changes of the count, each by successive unit moves."""
PAPER, BEST = "paper: W, cross-entropy", "ours"
TWO = "two of the paper's H: one adds, one removes, along 64 components"
SAME_IMAGES = "same images as W+"
AIMED_SHARES = {PAPER: 0.7, BEST: 0.85}
"""The share that is to be right, by move."""


def run(context: CountContext) -> ReportSection:
    """Compare the paper's H in both spaces and with both losses, the best of ours, and random moves."""
    return measure_moves(context, collect_moves(context))


def collect_moves(context: CountContext) -> dict[str, Move]:
    """Fit all editors, and return their moves, by name."""
    _, inverted = editors.choose_training_codes(context, "w+")
    suffix = "" if inverted else ", sampled codes"
    moves = {
        PAPER: make_editor_move(editors.fit_paper(context, "w", "ce")),
        "paper: W, MSE": make_editor_move(editors.fit_paper(context, "w", "mse")),
        f"paper: W+, cross-entropy{suffix}": make_editor_move(editors.fit_paper(context, "w+", "ce")),
        f"paper: W+, MSE{suffix}": make_editor_move(editors.fit_paper(context, "w+", "mse")),
    }
    if inverted:
        moves |= {
            f"W, cross-entropy, {SAME_IMAGES}": make_editor_move(editors.fit_paper(context, "w", "ce", inverted=True)),
            f"W, MSE, {SAME_IMAGES}": make_editor_move(editors.fit_paper(context, "w", "mse", inverted=True)),
        }
    moves |= {
        TWO: make_editor_move(editors.fit_separate_add_remove(context)),
        BEST: make_editor_move(editors.fit_best(context)),
    }
    return moves | {f"random, as long as {name}": make_random_move(context, moves[name]) for name in (PAPER, BEST)}


def measure_moves(context: CountContext, moves: Mapping[str, Move]) -> ReportSection:
    """Return the section on any moves, by name; names that start with "random" get no pictures."""
    cases = sample_sure_codes(context, context.config.moves)
    rows = []
    for name, move in moves.items():
        context.log(f"Moving {len(cases.ws):,} codes: {name} …")
        rows.append(summarise_move(context, name, run_trials(context, cases, move)))
    shown = {name: move for name, move in moves.items() if not name.startswith("random")}
    pictures = {f"figure-2-{to_file_name(name)}": draw_figure_2(context, cases, move) for name, move in shown.items()}
    captions = {
        f"figure-2-{to_file_name(name)}": f"Figure 2, {name}: the framed picture is a fresh code,"
        " the others successive moves by one."
        for name in shown
    }
    aims = [
        {"what": f"count right after ±1, {row['name']}", "aim": AIMED_SHARES[row["name"]], "found": row["both"],
         "holds": row["both"].mean >= AIMED_SHARES[row["name"]]}
        for row in rows if row["name"] in AIMED_SHARES
    ]  # fmt: skip
    tables = (
        counts_table(context, cases),
        unit_moves_table(context, rows),
        successive_moves_table(rows),
        starts_table(rows),
    )
    data = {"aims": aims, "cases": describe_codes(context, cases), "ways": rows}
    return ReportSection(NAME, TITLE, describe_trials(cases), tables, pictures, data, captions)


def run_trials(context: CountContext, cases: TrialCodes, move: Move, attribute: str = "count") -> dict[int, MoveTrial]:
    """Try each change in ``SUCCESSIVE_CHANGES``, up and down, on all codes whose count stays in range."""
    changes = [sign * n for n in SUCCESSIVE_CHANGES for sign in (1, -1)]
    return {alpha: run_move(context, cases, move, alpha, attribute) for alpha in changes}


def summarise_move(context: CountContext, name: str, trials: Mapping[int, MoveTrial]) -> dict[str, Any]:
    """Return one move's estimates, by change."""
    starts = {
        f"{start}→{start + alpha}": estimate_rate(trials[alpha].right[trials[alpha].start == start])
        for alpha in (1, -1)
        for start in range(MIN_COUNT, MAX_COUNT + 1)
        if MIN_COUNT <= start + alpha <= MAX_COUNT
    }
    return {
        **summarise_trials(context, name, [trials[1]], [trials[-1]]),
        "successive": {str(alpha): estimate_rate(trial.right) for alpha, trial in trials.items()},
        "successive_kept": {
            str(alpha): estimate_rate(trial.measure_preservation(context.classes)) for alpha, trial in trials.items()
        },
        "starts": starts,
    }


def describe_codes(context: CountContext, cases: TrialCodes) -> dict[str, Any]:
    """Return how many codes were screened, the share that the counter is sure of, and the counts of all and of those moved."""
    counts = cases.screened[:, context.counter.column("count")].long()
    certain = find_sure(context, cases.screened)
    start = cases.scores[:, context.counter.column("count")].long()
    values = range(int(counts.max()) + 1)
    return {
        "looked": len(counts),
        "sure": estimate_rate(certain.float()),
        "drawn": {str(n): float((counts == n).float().mean()) for n in values},
        "drawn_sure": {str(n): float((counts[certain] == n).float().mean()) if certain.any() else None for n in values},
        "moved": {str(n): int((start == n).sum()) for n in values},
    }


def describe_trials(cases: TrialCodes) -> str:
    """Return the section's text."""
    return (
        f"{len(cases.ws):,} fresh codes whose count the counter is sure of (p ≥ {SURE_PROBABILITY:g}) were asked"
        f" for one object more and one less, within {MIN_COUNT} to {MAX_COUNT}; their pictures were drawn again and counted."
        " Right: as many as asked for. Kept: the share of the original objects, by class, that are still there,"
        " of those that could stay (all where one is added, all but one where one is removed). Sure: the share of the"
        " moved pictures whose count the counter is sure of. Beyond: the share of codes that left the distribution of"
        " sampled codes (99.9th percentile of Mahalanobis distances)."
    )


def counts_table(context: CountContext, cases: TrialCodes) -> SectionTable:
    """Return the table of counts, of all screened codes and of those moved."""
    shares = describe_codes(context, cases)
    names = list(shares["drawn"])
    rows = [
        ("all drawn", *(f"{shares['drawn'][n]:.3f}" for n in names)),
        ("sure", *("-" if shares["drawn_sure"][n] is None else f"{shares['drawn_sure'][n]:.3f}" for n in names)),
        ("moved (codes)", *(str(shares["moved"][n]) for n in names)),
    ]
    note = f"Of {shares['looked']:,} fresh codes; the counter is sure of {format_estimate(vars(shares['sure']), 3)} of them."
    return SectionTable("Counts in what the generator draws", ("share with a count of", *names), rows, note)


def unit_moves_table(context: CountContext, rows: Sequence[Mapping[str, Any]]) -> SectionTable:
    """Return the table of changes by one."""
    keys = ("both", "more", "less", "kept", "sure", "beyond")
    head = ("way", "right", "+1", "−1", "kept", "sure", "beyond", "length in W")
    cells = [(row["name"], *(format_rate(row[key]) for key in keys), format_rate(row["length"], 1)) for row in rows]
    return SectionTable("One object more or less", head, cells, describe_training(context))


def describe_training(context: CountContext) -> str:
    """Return what the paper's H had to learn from and with, in each space."""
    config, (learned, inverted) = context.config, editors.choose_training_codes(context, "w+")
    narrow, wide = (", ".join(map(str, layers)) for layers in (HIDDEN["w"], config.hidden))
    same = f" {SAME_IMAGES.capitalize()}: in W, from the codes of those images, with {wide}." if inverted else ""
    return (
        f"In W and in W+ alike an H learned for {config.steps:,} steps, and its classifier for {config.classifier_steps:,}."
        f" The paper's learned in W from {len(context.labels):,} sampled codes, with {narrow} hidden numbers, and in W+"
        f" from {len(learned):,} {'inverted images' if inverted else 'sampled codes'}, with {wide}."
        f"{same}"
    )


def successive_moves_table(rows: Sequence[Mapping[str, Any]]) -> SectionTable:
    """Return the table of changes by one, two and three."""
    changes = [str(sign * n) for sign in (1, -1) for n in SUCCESSIVE_CHANGES]
    head = (
        "way",
        *(f"{int(alpha):+d}" for alpha in changes),
        *(f"kept at {int(alpha):+d}" for alpha in changes if abs(int(alpha)) > 1),
    )
    cells = [
        (
            row["name"],
            *(format_rate(row["successive"][alpha]) for alpha in changes),
            *(format_rate(row["successive_kept"][alpha]) for alpha in changes if abs(int(alpha)) > 1),
        )
        for row in rows
    ]
    return SectionTable(
        "Successive moves", head, cells, "The share that is right after one, two and three moves by one."
    )


def starts_table(rows: Sequence[Mapping[str, Any]]) -> SectionTable:
    """Return the table of changes by one, by the count before."""
    names = list(rows[0]["starts"])
    cells = [(row["name"], *(format_rate(row["starts"][name]) for name in names)) for row in rows]
    return SectionTable(
        "By start and sign", ("way", *names), cells, "The share that is right, of codes with so many objects."
    )


def to_file_name(name: str) -> str:
    """Return a move's name as part of a file name."""
    words = name.lower().replace("+", "-plus").replace("cross-entropy", "ce")
    return "-".join("".join(c if c.isalnum() or c == "-" else " " for c in words).split())
