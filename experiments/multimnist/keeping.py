"""Moves of the count that keep the other digits: how many are right, and what stays, by three judges.

    ganvas make-multimnist --mnist MNIST --size 64 --out m64
    python -m experiments.multimnist.train_detector m64 --out detector.safetensors
    python -m experiments.multimnist.keeping multimnist/composed multimnist/cardinality paper --detector detector.safetensors

Editors are names or files; "paper" is the paper's H in W with cross-entropy, fitted now on the labels that ship. Prints, for
fresh codes whose count the counter is sure of: the shares that the counter reads as right, and those that connected components
and the detector find right, with the other digits kept, after one object more or less, with intervals by code; the same after
two; a class added and removed; the share of codes that left W, and milliseconds of processor time a code. Of a class,
components and the detector tell the number of digits alone. ``--sheet`` draws seeds 0 to 23, then one more and one less by each.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from torch import Tensor

from experiments.multimnist.judges import DigitJudge, find_components, measure_kept, measure_right, read_detector
from experiments.multimnist.trials import MAX_COUNT, MIN_COUNT, SURE_PROBABILITY
from ganvas import editors
from ganvas.checkpoints.load import load_generator
from ganvas.data.distribution import fit_distribution
from ganvas.data.label_files import load_labels
from ganvas.editors.base import Editor
from ganvas.errors import GanvasError, unknown
from ganvas.evaluation.pages import format_estimate
from ganvas.generators.base import Generator, sample
from ganvas.io.files import atomic_write
from ganvas.io.images import encode_png
from ganvas.scorers import load_scorer
from ganvas.scorers.count import Counter
from ganvas.seeds import EVALUATION_SEED
from ganvas.stats import bootstrap_mean, estimate_proportion
from ganvas.types import Scores, WPlus

BATCH_SIZE = 32
PAPER = "paper"
KINDS = ("one", "two", "class added", "class removed")
"""The kinds of changes: of the count by one and by two, and of the number of one class."""
LABELS = Path("src/ganvas/assets/labels/multimnist-count.safetensors")
PAPER_OPTIONS = {"recipe": "paper", "space": "w", "loss": "ce", "attributes": ["count"], "steps": 1500}


@dataclass(frozen=True)
class JudgedCodes:
    """Codes with their pictures (n, 64, 64) and the counter's scores."""

    ws: WPlus
    pictures: Tensor
    scores: Scores

    def select(self, rows: Tensor) -> JudgedCodes:
        """Return the codes of a mask."""
        return JudgedCodes(self.ws[rows], self.pictures[rows], self.scores[rows])


@dataclass(frozen=True)
class MoveJudges:
    """The generator and all who judge its pictures."""

    generator: Generator
    counter: Counter
    others: dict[str, DigitJudge]

    @torch.no_grad()
    def judge(self, ws: WPlus) -> JudgedCodes:
        """Draw and count codes."""
        pictures = torch.cat([self.generator.synthesis(part) for part in ws.split(BATCH_SIZE)])
        scores = torch.cat([self.counter(part) for part in pictures.split(BATCH_SIZE)])
        return JudgedCodes(ws, pictures[:, 0], scores)

    def sample_sure(self, n: int, seed: int) -> JudgedCodes:
        """Return the first ``n`` codes from a seed on with a sure count within the range of moves."""
        parts: list[JudgedCodes] = []
        while sum(len(part.ws) for part in parts) < n:
            part = self.judge(sample(self.generator, 2 * BATCH_SIZE, 1.0, seed))
            count = part.scores[:, 0]
            sure = part.scores[:, self.counter.column("sure")].sigmoid() >= SURE_PROBABILITY
            parts.append(part.select(sure & (count >= MIN_COUNT) & (count <= MAX_COUNT)))
            seed += 2 * BATCH_SIZE
        fields = (torch.cat([getattr(part, name) for part in parts])[:n] for name in ("ws", "pictures", "scores"))
        return JudgedCodes(*fields)


def list_changes(cases: JudgedCodes) -> Iterator[tuple[str, str, int, Tensor]]:
    """Yield the kind of each change, its attribute, its size and which codes can be asked for it."""
    count = cases.scores[:, 0]
    for step, kind in ((1, "one"), (2, "two")):
        for sign in (1, -1):
            goal = count + sign * step
            yield kind, "count", sign * step, (goal >= MIN_COUNT) & (goal <= MAX_COUNT)
    # A class for each code, in turn: to add one, and to remove one of those that are there.
    class_turn = torch.arange(len(count)) % 10
    for k in range(10):
        yield "class added", f"digit_{k}", 1, (count < MAX_COUNT) & (class_turn == k)
    present = cases.scores[:, 1:11] > 0
    chosen = (present * (1 + (torch.arange(10) - class_turn[:, None]) % 10)).argmax(1)
    for k in range(10):
        yield "class removed", f"digit_{k}", -1, (count > MIN_COUNT) & (chosen == k) & present[:, k]


def measure_editor(
    editor: Editor, cases: JudgedCodes, judges: MoveJudges, kinds: list[str]
) -> dict[str, dict[str, Tensor]]:
    """Return each measure's values by kind of change, one for each code and change, with the codes' numbers as "code"."""
    values: dict[str, dict[str, list[Tensor]]] = {}
    distribution = fit_distribution(judges.generator)
    for kind, attribute, alpha, possible in list_changes(cases):
        rows = possible.nonzero()[:, 0]
        if kind not in kinds or attribute not in editor.attributes or not len(rows):
            continue
        start = cases.select(possible)
        seconds = time.process_time()
        # Of changes that fall short nothing is said: they are counted here.
        moved = torch.cat([editor.edit_quietly(ws, {attribute: float(alpha)}) for ws in start.ws.split(BATCH_SIZE)])
        seconds = time.process_time() - seconds
        after, change = judges.judge(moved), torch.full((len(rows),), alpha)
        column = judges.counter.column(attribute)
        found = {
            "right by counter": (after.scores[:, column] == start.scores[:, column] + alpha).float(),
            "left W": (~distribution.contains(moved)).float(),
            "ms a code": torch.full((len(rows),), 1000 * seconds / len(rows)),
        }
        for name, judge in judges.others.items():
            before, now = judge(start.pictures), judge(after.pictures)
            found[f"number right by {name}"] = measure_right(before, now, change)
            found[f"kept by {name}"] = measure_kept(before, now, change)
        for name, column_values in (found | {"code": rows.float()}).items():
            values.setdefault(kind, {}).setdefault(name, []).append(column_values)
        if abs(alpha) == 1 and attribute == "count":
            for name, column_values in (found | {"code": rows.float()}).items():
                values.setdefault(f"{alpha:+d}", {}).setdefault(name, []).append(column_values)
    return {
        kind: {name: torch.cat(parts) for name, parts in columns.items()} for kind, columns in sorted(values.items())
    }


def print_measures(name: str, measured: dict[str, dict[str, Tensor]]) -> None:
    """Print each measure's mean with its interval, resampled by code."""
    print(f"\n{name}")
    for kind, columns in measured.items():
        codes = columns["code"].long()
        print(f"  {kind} ({len(codes)} moves of {len(codes.unique())} codes)")
        for measure, column in columns.items():
            if measure == "ms a code":
                print(f"    {measure:24} {float(column.mean()):.0f}")
            elif measure != "code":
                repeated = len(codes.unique()) < len(codes)
                share = bool(((column == 0) | (column == 1) | column.isnan()).all())
                estimate = estimate_proportion if share else bootstrap_mean
                print(f"    {measure:24} {format_estimate(vars(estimate(column, codes if repeated else None)), 3)}")


def draw_sheet(fitted: dict[str, Editor], judges: MoveJudges, seeds: int, path: Path) -> None:
    """Draw the codes of seeds 0 to ``seeds`` - 1, then with one more and one less by each editor."""
    ws = sample(judges.generator, seeds, 1.0, 0)
    rows = [judges.judge(ws).pictures]
    for editor in fitted.values():
        for alpha in (1.0, -1.0):
            rows.append(judges.judge(editor.edit_quietly(ws, {"count": alpha})).pictures)
    write_rows(rows, path)


def write_rows(rows: Sequence[Tensor], path: Path) -> None:
    """Write rows of as many pictures each, (n, 64, 64), as a PNG."""
    tiles = F.pad(torch.stack(list(rows)), (1, 1, 1, 1), value=0.0)
    image = tiles.transpose(1, 2).flatten(2).flatten(0, 1)
    with atomic_write(path) as file:
        file.write_bytes(encode_png(((image + 1) * 127.5).clamp(0, 255).byte()[..., None].expand(-1, -1, 3)))


def load_named_editor(name: str, generator: Generator) -> Editor:
    """Load an editor, or fit the paper's."""
    if name != PAPER:
        return editors.load_editor(name, generator)
    return editors.fit("cardinality", load_labels(LABELS, generator), generator, **PAPER_OPTIONS)


def main(
    names: Annotated[list[str], typer.Argument(metavar="EDITOR...", help='Names or files, or "paper".')],
    detector: Annotated[Path, typer.Option(help="A detector by train_detector.")],
    generator: Annotated[str, typer.Option(help="A name or a file.")] = "multimnist",
    n: Annotated[int, typer.Option("-n", help="Codes.")] = 1000,
    seed: Annotated[int, typer.Option(help="The first seed.")] = EVALUATION_SEED,
    kinds: Annotated[str, typer.Option(help="Which changes, joined by commas.")] = ",".join(KINDS),
    steps: Annotated[int | None, typer.Option(help="Steps of search of a composed editor.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="A PNG of seeds 0 to 23.")] = None,
) -> None:
    """Judge editors of counts."""
    asked = kinds.split(",")
    for kind in asked:
        if kind not in KINDS:
            raise unknown("kind of change", kind, KINDS)
    network, counter = load_generator(generator), load_scorer("count")
    if not isinstance(counter, Counter):
        raise GanvasError("The scorer 'count' isn't a counter of digits.")
    finder: Callable[[Tensor], list] = read_detector(detector).find_digits
    judges = MoveJudges(network, counter, {"components": find_components, "detector": finder})
    cases = judges.sample_sure(n, seed)
    for name, judge in judges.others.items():
        same = torch.tensor([len(digits) for digits in judge(cases.pictures)]) == cases.scores[:, 0]
        print(f"{name}: of {n} codes as drawn {format_estimate(vars(estimate_proportion(same.float())), 3)} as counted")
    fitted = {name: load_named_editor(name, network) for name in names}
    for name, editor in fitted.items():
        if steps is not None and isinstance(editor, editors.composed.ComposedEditor):
            fitted[name] = editor.with_search_steps(steps)
    if sheet:
        draw_sheet(fitted, judges, 24, sheet)
    for name, editor in fitted.items():
        print_measures(name, measure_editor(editor, cases, judges, asked))


if __name__ == "__main__":
    try:
        typer.run(main)
    except GanvasError as error:
        sys.exit(f"Error: {error}")
