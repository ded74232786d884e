"""Cells of a report's tables, which several of its sections share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ganvas.bench.attributes import goal
from ganvas.bench.tables import cell

Results = Mapping[str, Any]
Row = tuple[str, ...]
MATCHED = ("target", "drift", "largest", "beyond")
"""What each judge tells of a trial."""


def match(name: str, row: Results, judges: Sequence[str]) -> Row:
    """A trial at matched change: what each judge saw, then identity and lengths."""
    cells = [name, cell(row["success"], 2)]
    for judge in judges:
        cells += [cell(row[what].get(judge), 2) for what in MATCHED]
    cells += [cell(row["identity"], 3), plain(row["no_face"]), cell(row["distance"], 1)]
    return (*cells, cell(row["moved"], 1), cell(row["left"], 2))


STRANGERS = "two different faces"


def strangers(results: Results, titles: Sequence[str]) -> list[Row]:
    """A last row for a table with these titles: identity between random faces, beside that after edits."""
    pairs = results["random_pairs"]
    if pairs is None:
        return []
    # A distance of faces has three digits in these tables; the other column of that name is of codes.
    found = {"identity": cell(pairs["identity"], 3), "dlib's distance": cell(pairs["identity_distance"], 3)}
    return [(STRANGERS, *(found.get(title, "") for title in titles[1:]))]


def less(attribute: str) -> str:
    """An attribute with the direction in which it is tried."""
    return attribute if goal(attribute).up else f"less {attribute}"


def yes(holds: bool | None) -> str:
    """A verdict, where there is one."""
    return "-" if holds is None else "yes" if holds else "no"


def plain(value: Any) -> str:
    """A number that may be missing."""
    return "-" if value is None else str(value)
