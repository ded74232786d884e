"""Cells of a report's tables, which several of its sections share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ganvas.evaluation.success import make_goal
from ganvas.evaluation.tables import format_estimate

Results = Mapping[str, Any]
Row = tuple[str, ...]
JUDGE_MEASURES = ("target", "drift", "largest", "beyond")
"""Measures of a trial by each judge."""


def format_matched(name: str, row: Results, judges: Sequence[str]) -> Row:
    """Format a trial at matched change: each judge's measures, then identity and lengths."""
    cells = [name, format_estimate(row["success"], 2)]
    for judge in judges:
        cells += [format_estimate(row[what].get(judge), 2) for what in JUDGE_MEASURES]
    cells += [format_estimate(row["identity"], 3), format_number(row["no_face"]), format_estimate(row["distance"], 1)]
    return (*cells, format_estimate(row["moved"], 1), format_estimate(row["left"], 2))


DIFFERENT_FACES = "two different faces"


def format_random_pairs(results: Results, titles: Sequence[str]) -> list[Row]:
    """Format the last row of a table with these titles: identity of random faces, beside that after edits."""
    pairs = results["random_pairs"]
    if pairs is None:
        return []
    # A distance of faces has three digits in these tables; the other column of that name is of codes.
    cells = {
        "identity": format_estimate(pairs["identity"], 3),
        "dlib's distance": format_estimate(pairs["identity_distance"], 3),
    }
    return [(DIFFERENT_FACES, *(cells.get(title, "") for title in titles[1:]))]


def format_goal(attribute: str) -> str:
    """Format an attribute with the direction in which it is tried."""
    return attribute if make_goal(attribute).up else f"less {attribute}"


def format_verdict(holds: bool | None) -> str:
    """Format a verdict, "-" where there is none."""
    return "-" if holds is None else "yes" if holds else "no"


def format_number(value: Any) -> str:
    """Format a number, "-" where it is missing."""
    return "-" if value is None else str(value)
