"""The files of a balanced set: pictures with their recipes, ``data.label_files.parquet``,
``balance.generated.json``; a stopped run goes on."""

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

REPORT, LABELS = "balance.json", "labels.parquet"
REPORT_COUNTS = ("tried", "kept")


@dataclass(frozen=True)
class BalancedSetWriter:
    """``state`` is the report so far: what was asked, how many were tried, kept, and discarded for what;
    ``generators.stylegan2.rows`` the labels."""

    out: Path
    state: dict[str, Any]
    rows: list[dict[str, Any]]

    @classmethod
    def open(cls, out: Path, asked: Mapping[str, Any]) -> BalancedSetWriter:
        """A new set, or one that goes on. Raises GanvasError for a folder with another set, or damaged files."""
        path = out / REPORT
        if not path.exists():
            return cls(out, {"asked": dict(asked), "tried": 0, "kept": 0, "discarded": {}}, [])
        state = read_json(path)
        if not isinstance(state, dict) or state.get("asked") != asked:
            raise GanvasError(f"{out} holds a set that was asked for otherwise: use another folder.")
        numbers = all(type(state.get(key)) is int and state[key] >= 0 for key in REPORT_COUNTS)
        if not numbers or not isinstance(state.get("discarded"), dict):
            raise GanvasError(f"{path} is damaged: use another folder.")
        return cls(out, state, _read_rows(out / LABELS, state["kept"]))

    def discard(self, reason: str, had: str) -> None:
        """Count a candidate under the reason, and what it had instead."""
        found = Counter(self.state["discarded"].get(reason, {}))
        found[had] += 1
        self.state["discarded"][reason] = dict(sorted(found.items()))

    def keep(
        self, file: str, pixels: Tensor, recipe: Recipe, row: Mapping[str, Any], codes: Codes | None = None
    ) -> None:
        """Write a picture (height, width, 3), uint8, and take up its labels."""
        save_picture(self.out / file, pixels, recipe, codes)
        self.rows.append({"file": file} | dict(row))
        self.state["kept"] += 1

    def write(self) -> None:
        """The labels first: a report never tells of pictures that they lack."""
        _write_rows(self.out / LABELS, self.rows)
        write_json(self.out / REPORT, self.state)


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """What was kept, and how many candidates were discarded for what they had instead, for people."""
    lines = [f"{report['kept']} kept of {report['tried']} candidates"]
    for name, found in report["discarded"].items():
        had = ", ".join(f"{value}: {times}" for value, times in found.items())
        lines.append(f"{sum(found.values())} discarded for {name} ({had})")
    if already := report.get("already"):
        lines.append(f"{already} were as asked already: they stay where they are")
    if inverted := report.get("inversion"):
        told = f"{inverted['changed']} of {sum(inverted.values())} inversions"
        lines.append(f"{told} didn't show what their picture shows, by what was asked; they were edited from there")
    return lines


def _read_rows(path: Path, n: int) -> list[dict[str, Any]]:
    """The first ``n`` rows of the labels so far. Raises GanvasError where they aren't there."""
    if not n:
        return []
    import pyarrow
    from pyarrow import parquet

    try:
        rows = parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowException):
        rows = []
    if len(rows) < n:
        raise GanvasError(f"{path} isn't whole: use another folder.")
    return rows[:n]


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    import pyarrow
    from pyarrow import parquet

    with atomic_write(path) as temporary:
        parquet.write_table(pyarrow.Table.from_pylist(rows), temporary)
