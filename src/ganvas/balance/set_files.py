"""Files of a balanced set: pictures with recipes, ``labels.parquet`` and ``balance.json``, so that stopped runs can go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ganvas.data.codes import Codes
from ganvas.errors import GanvasError
from ganvas.io.files import atomic_write, read_json, write_json
from ganvas.recipe.files import save_picture
from ganvas.recipe.model import Recipe

REPORT_FILE, LABELS_FILE = "balance.json", "labels.parquet"
REPORT_COUNTS = ("tried", "kept")


@dataclass(frozen=True)
class BalancedSetWriter:
    """Writes a set. ``state`` is the report so far: the request, the numbers tried, kept and discarded by reason;
    ``rows`` are the labels."""

    out: Path
    state: dict[str, Any]
    rows: list[dict[str, Any]]

    @classmethod
    def open(cls, out: Path, request: Mapping[str, Any]) -> BalancedSetWriter:
        """Open a new set, or one to continue. Raises GanvasError for a folder with another set, or damaged files."""
        path = out / REPORT_FILE
        if not path.exists():
            return cls(out, {"asked": dict(request), "tried": 0, "kept": 0, "discarded": {}}, [])
        state = read_json(path)
        if not isinstance(state, dict) or state.get("asked") != request:
            raise GanvasError(f"{out} holds a set with other conditions or settings: use another folder.")
        valid = all(type(state.get(key)) is int and state[key] >= 0 for key in REPORT_COUNTS)
        if not valid or not isinstance(state.get("discarded"), dict):
            raise GanvasError(f"{path} is damaged: use another folder.")
        return cls(out, state, _read_rows(out / LABELS_FILE, state["kept"]))

    def discard(self, reason: str, values: str) -> None:
        """Count a discarded candidate by its reason and its values."""
        counts = Counter(self.state["discarded"].get(reason, {}))
        counts[values] += 1
        self.state["discarded"][reason] = dict(sorted(counts.items()))

    def keep(
        self, file: str, pixels: Tensor, recipe: Recipe, row: Mapping[str, Any], codes: Codes | None = None
    ) -> None:
        """Write a picture (height, width, 3), uint8, and add its labels."""
        save_picture(self.out / file, pixels, recipe, codes)
        self.rows.append({"file": file} | dict(row))
        self.state["kept"] += 1

    def write(self) -> None:
        """Write the labels, then the report, so that a report never counts pictures without labels."""
        _write_rows(self.out / LABELS_FILE, self.rows)
        write_json(self.out / REPORT_FILE, self.state)


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """Format the report: how many candidates were kept, and how many discarded, by reason and values."""
    lines = [f"{report['kept']} kept of {report['tried']} candidates"]
    for name, counts in report["discarded"].items():
        values = ", ".join(f"{value}: {times}" for value, times in counts.items())
        lines.append(f"{sum(counts.values())} discarded for {name} ({values})")
    if already := report.get("already"):
        lines.append(f"{already} met the conditions already and were left out")
    if inverted := report.get("inversion"):
        count = f"{inverted['changed']} of {sum(inverted.values())} inversions"
        lines.append(f"{count} changed the attributes in question; they were edited from there")
    return lines


def _read_rows(path: Path, n: int) -> list[dict[str, Any]]:
    """Read the first ``n`` rows of the labels so far. Raises GanvasError where they aren't there."""
    if not n:
        return []
    import pyarrow
    from pyarrow import parquet

    try:
        rows = parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowException):
        rows = []
    if len(rows) < n:
        raise GanvasError(f"{path} is damaged or incomplete: use another folder.")
    return rows[:n]


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    import pyarrow
    from pyarrow import parquet

    with atomic_write(path) as temporary:
        parquet.write_table(pyarrow.Table.from_pylist(rows), temporary)
