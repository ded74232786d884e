"""What both ways of making a set share: the request, and the set's files, which let stopped runs go on.

A set is a folder of pictures with recipes, ``labels.parquet`` and ``balance.json``. Each picture is scored, and kept only if
its scores meet the conditions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ganvas.control.conditions import Condition, compute_score_ranges
from ganvas.data.codes import Codes
from ganvas.editors import cardinality
from ganvas.editors.base import Editor
from ganvas.errors import GanvasError
from ganvas.io.files import atomic_write, read_json, write_json
from ganvas.io.images import LABEL_SIDE, downscale, to_bytes
from ganvas.metrics import to_readable
from ganvas.recipe.files import save_picture
from ganvas.recipe.model import Recipe, Seed
from ganvas.recipe.rendering import Tools
from ganvas.scorers.base import Scorer
from ganvas.types import Images, Scores
from ganvas.validation import Natural, Number, PositiveInt, validated

KIND, VERSION = "balance", 1
REPORT_FILE, LABELS_FILE = "balance.json", "labels.parquet"


@validated
class BalanceRequest:
    """A request: conditions, the number of pictures, the first seed, psi, and how candidates are made (None: the best way).

    ``max_candidates``: the limit on them. ``label``: of a conditional generator, for all candidates; by default labels cycle with
    the seeds.
    """

    conditions: Annotated[tuple[Condition, ...], Field(min_length=1)]
    n: Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
    seed: Seed = 0
    psi: Number = 1.0
    way: Literal["conditions", "edit", "draw"] | None = None
    max_candidates: PositiveInt | None = None
    label: Natural | None = None


@dataclass(frozen=True)
class BalancedSet:
    """A set in the folder ``out``.

    ``state`` is the report so far: the request, the numbers tried, kept and discarded by reason; ``rows`` are the labels.
    """

    out: Path
    n: int
    side: int
    """The side of the pictures that are scored, in pixels."""
    scorer: Scorer
    ranges: Mapping[str, tuple[float, float]]
    """The range of each attribute's score, in the scorer's units."""
    state: dict[str, Any]
    rows: list[dict[str, Any]]

    @classmethod
    def open(
        cls, out: str | Path, request: BalanceRequest, way: str, tools: Tools, scorer: Scorer, **origin: Any
    ) -> BalancedSet:
        """Open a new set, or one to continue; ``origin`` says what real pictures are made of.

        Raises GanvasError for conditions that can't be met, a folder with another set, and damaged files.
        """
        path, key = Path(out) / REPORT_FILE, _make_key(request, way, tools, scorer) | origin
        ranges = compute_score_ranges(request.conditions, scorer, tools.editor)
        side, state, rows = min(LABEL_SIDE, tools.generator.resolution), {"asked": key, "tried": 0, "kept": 0}, []
        state["discarded"] = {}
        if path.exists():
            state = read_json(path)
            if not isinstance(state, dict) or state.get("asked") != key:
                raise GanvasError(f"{out} holds a set with other conditions or settings: use another folder.")
            valid = all(type(state.get(count)) is int and state[count] >= 0 for count in ("tried", "kept"))
            if not valid or not isinstance(state.get("discarded"), dict):
                raise GanvasError(f"{path} is damaged: use another folder.")
            rows = _read_rows(Path(out) / LABELS_FILE, state["kept"])
        return cls(Path(out), request.n, side, scorer, ranges, state, rows)

    @property
    def full(self) -> bool:
        """Whether the set has as many pictures as asked for."""
        return self.state["kept"] >= self.n

    def score(self, picture: Images) -> Scores:
        """Score a picture, (1, attributes)."""
        return self.scorer(downscale(picture, self.side))

    def find_failed(self, scores: Scores) -> str | None:
        """Find the first attribute whose score doesn't meet the conditions; None where there is none."""
        values = dict(zip(self.scorer.attributes, scores[0].tolist(), strict=True))
        return next((name for name, (low, high) in self.ranges.items() if not low <= values[name] <= high), None)

    def label_values(self, scores: Scores) -> dict[str, float]:
        """Return one picture's scores (1, attributes) in readable units, by attribute."""
        return dict(zip(self.scorer.attributes, to_readable(scores, self.scorer.kinds)[0].tolist(), strict=True))

    def format_value(self, name: str, scores: Scores) -> str:
        """Format a picture's score in a few characters: a count or a value as an integer, a probability to a tenth."""
        probable = self.scorer.kinds[self.scorer.column(name)] == "probability"
        return f"{self.label_values(scores)[name]:.{int(probable)}f}"

    def discard(self, reason: str, value: str) -> None:
        """Count a discarded candidate by its reason and its value."""
        counts = Counter(self.state["discarded"].get(reason, {}))
        counts[value] += 1
        self.state["discarded"][reason] = dict(sorted(counts.items()))

    def add(
        self,
        file: str,
        picture: Images,
        scores: Scores,
        recipe: Recipe,
        origin: Mapping[str, Any],
        more: Mapping[str, Any] | None = None,
        codes: Codes | None = None,
    ) -> None:
        """Keep a picture, with its labels between ``origin`` and ``more``, if its scores meet the conditions, or discard it."""
        failed = self.find_failed(scores)
        if failed is not None:
            return self.discard(failed, self.format_value(failed, scores))
        save_picture(self.out / file, to_bytes(picture)[0], recipe, codes)
        self.rows.append({"file": file, **origin, **self.label_values(scores), **(more or {})})
        self.state["kept"] += 1
        return None

    def write(self) -> dict[str, Any]:
        """Write the labels, then the report, so that it never counts pictures without labels; return the report."""
        if self.rows:
            import pyarrow
            from pyarrow import parquet

            with atomic_write(self.out / LABELS_FILE) as temporary:
                parquet.write_table(pyarrow.Table.from_pylist(self.rows), temporary)
        write_json(self.out / REPORT_FILE, self.state)
        return self.state


def counts_objects(editor: Editor) -> bool:
    """Return whether the editor reads and sets counts in objects."""
    return editor.method == cardinality.METHOD


def format_report_lines(report: Mapping[str, Any]) -> list[str]:
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


def _make_key(request: BalanceRequest, way: str, tools: Tools, scorer: Scorer) -> dict[str, Any]:
    """Return all that decides which pictures a folder holds; ``n`` doesn't, since a set may grow."""
    return {
        "kind": KIND,
        "version": VERSION,
        "where": [asdict(condition) for condition in request.conditions],
        "seed": request.seed,
        "psi": request.psi,
        "way": way,
        "generator": asdict(tools.generator_name),
        "dtype": tools.dtype,
        "editor": asdict(tools.editor_name) if tools.editor_name and way != "draw" else None,
        "scorer": {"name": scorer.name, "fingerprint": scorer.fingerprint},
        # Only if set, so that older folders can be continued.
        **({} if request.label is None else {"label": request.label}),
    }


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
