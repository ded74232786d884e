"""Side effects and drift of editors at an equal change by the same judge, beside those of a baseline, on fresh faces.

    python -m experiments.ffhq.side_effects out/interfacegan.safetensors ffhq/compact-2 -n 40 [--regions]

A row is an attribute, a judge and a change: each edit gets the one strength at which that judge reads a mean change of 1 or 2 σ
of the attribute over faces that lack it, interpolated between STRENGTHS. People didn't rate glasses: in the rows of omi_reading
celeba40_reading reads their change. Side effects: the absolute value of the mean signed change of an attribute that wasn't asked
for, averaged over these, entailed ones set aside; drift: the mean of |change|; distance: dlib's between the face before and
after. Ratios are those to the first editor, their mean is the geometric one, and intervals are 95 % of a bootstrap over faces.
With --regions edits are kept to the regions of their attributes, except the first editor's. Pictures have 512 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import typer
from torch import Tensor

from ganvas import load_editor, load_generator, load_scorer, sample
from ganvas.data import gaussianize
from ganvas.data.entailment import ENTAILED
from ganvas.data.gaussianize import Gaussianize
from ganvas.editors.base import Editor
from ganvas.generators.base import Generator
from ganvas.generators.regions import Region, blend_edit, find_edited_parts, find_regions
from ganvas.identity import FaceEmbedder
from ganvas.io.images import downscale
from ganvas.scorers.base import Scorer
from ganvas.types import WPlus

SEED, POOL_SEED, POOL_FACES = 2_100_000, 2_150_000, 192
ATTRIBUTES = ("Smiling", "Eyeglasses", "Young", "Male")
JUDGES = ("celeba40_reading", "omi_reading")
CHANGES = (1.0, 2.0)
"""The rows, 16 of them, are all attributes by all judges by all changes."""
SIGNS = {"Young": -1}
"""Attributes that are edited downwards."""
SYNONYMS = {"Young": ("Age", -1)}
"""Attribute -> the name that editors and judges may have in its place, and its sign."""
SIDE_EFFECT = 0.3
"""Standard deviations from which a mean change counts as a side effect of its own."""
SIDE = 512
"""The side of the pictures that are read."""
STRENGTHS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
DRAWS = 400
"""Bootstrap resamples."""


@dataclass(frozen=True)
class Readings:
    """What is read off pictures: scores by judge, and face embeddings; and the pictures."""

    scores: dict[str, Tensor]
    faces: Tensor
    pictures: Tensor

    def select(self, rows: Tensor) -> Readings:
        """Return those of some faces."""
        return Readings({name: part[rows] for name, part in self.scores.items()}, self.faces[rows], self.pictures[rows])


@dataclass(frozen=True)
class Judges:
    """The generator, its judges and their scales."""

    generator: Generator
    scorers: dict[str, Scorer]
    embedder: FaceEmbedder
    scales: dict[str, Gaussianize]

    @torch.no_grad()
    def read(
        self, ws: WPlus, unedited: WPlus | None = None, before: Tensor | None = None, regions: Sequence[Region] = ()
    ) -> Readings:
        """Read the pictures of codes, blended in regions, if there are any, into those ``before`` of the codes ``unedited``."""
        rows: dict[str, list[Tensor]] = {name: [] for name in self.scorers}
        faces, pictures = [], []
        for i, code in enumerate(ws.split(1)):
            picture = self.generator.synthesis(code, resolution=SIDE)
            if unedited is not None and before is not None and regions:
                parts = find_edited_parts(self.generator, regions, unedited[i : i + 1], code)
                picture = blend_edit(before[i : i + 1], picture, regions, parts)
            small = downscale(picture)
            for name, scorer in self.scorers.items():
                rows[name].append(scorer(small))
            faces.append(self.embedder(small))
            pictures.append(picture)
        scores = {name: torch.cat(part) for name, part in rows.items()}
        return Readings(scores, torch.cat(faces), torch.cat(pictures))

    def measure_change(self, name: str, before: Readings, after: Readings) -> Tensor:
        """Return changes in the judge's standard deviations, (n, attributes)."""
        scale = self.scales[name]
        return (scale(after.scores[name]) - scale(before.scores[name])).float()


def load_judges(generator: Generator) -> Judges:
    """Load the judges, and fit their scales on fresh faces."""
    scorers = {name: load_scorer(name) for name in ("celeba40_reading", "omi_reading", "face_attributes")}
    blank = Judges(generator, scorers, FaceEmbedder(), {})
    pool = blank.read(sample(generator, POOL_FACES, 1.0, POOL_SEED))
    scales = {name: gaussianize.fit(scores, scorers[name].attributes) for name, scores in pool.scores.items()}
    return Judges(generator, scorers, blank.embedder, scales)


@torch.no_grad()
def apply_edit(editor: Editor, ws: WPlus, attribute: str, strength: float) -> WPlus:
    """Edit codes; an editor that has a better name for the attribute is asked for that."""
    name, sign = attribute, SIGNS.get(attribute, 1)
    if attribute in SYNONYMS and SYNONYMS[attribute][0] in editor.attributes:
        name, other = SYNONYMS[attribute]
        sign *= other
    return editor.edit_quietly(ws, {name: sign * strength})


@dataclass(frozen=True)
class StrengthSweep:
    """What an edit does at strength 0 and at each of STRENGTHS.

    ``names`` of attributes by judge; ``changes`` by judge (strengths, n, attributes); ``distances`` (strengths, n).
    """

    attribute: str
    names: dict[str, tuple[str, ...]]
    changes: dict[str, Tensor]
    distances: Tensor

    def read_target(self, judge: str) -> Tensor:
        """Return the change of what was asked for, as the judge reads it, positive where it is as asked (strengths, n)."""
        target, sign = self.attribute, SIGNS.get(self.attribute, 1)
        if target not in self.names[judge] and target in SYNONYMS:
            target, other = SYNONYMS[target]
            sign *= other
        if target not in self.names[judge]:
            judge = JUDGES[0]
        return sign * self.changes[judge][:, :, self.names[judge].index(target)]

    def list_others(self, judge: str) -> list[int]:
        """List the columns of attributes that weren't asked for."""
        asked = (self.attribute, *ENTAILED[self.attribute])
        return [k for k, name in enumerate(self.names[judge]) if name not in asked]


@dataclass(frozen=True)
class Row:
    """One editor's row: ``means`` are the others' signed mean changes by name; all nan where the change isn't reached."""

    strength: float = math.nan
    side_effects: float = math.nan
    drift: float = math.nan
    distance: float = math.nan
    means: dict[str, float] | None = None


@torch.no_grad()
def sweep_strengths(
    judges: Judges, editor: Editor, attribute: str, ws: WPlus, before: Readings, regions: Sequence[Region]
) -> StrengthSweep:
    """Edit codes at all strengths, and read what changes."""
    readings = [before] + [
        judges.read(apply_edit(editor, ws, attribute, strength), ws, before.pictures, regions) for strength in STRENGTHS
    ]
    return StrengthSweep(
        attribute,
        {name: judges.scorers[name].attributes for name in JUDGES},
        {name: torch.stack([judges.measure_change(name, before, each) for each in readings]) for name in JUDGES},
        torch.stack([(each.faces - before.faces).norm(dim=1) for each in readings]),
    )


def measure_row(sweep: StrengthSweep, judge: str, change: float, weights: Tensor) -> Row:
    """Measure a row with faces weighted by ``weights`` (n,), whose sum is 1."""
    reached = (sweep.read_target(judge) @ weights).tolist()
    lower = next((k for k in range(len(STRENGTHS)) if reached[k] < change <= reached[k + 1]), None)
    if lower is None:
        return Row()
    share = (change - reached[lower]) / (reached[lower + 1] - reached[lower])
    columns = sweep.list_others(judge)
    others, distances = (
        torch.lerp(values[lower], values[lower + 1], share)
        for values in (sweep.changes[judge][:, :, columns], sweep.distances)
    )
    strengths, means = (0.0, *STRENGTHS), weights @ others
    found = ~distances.isnan()
    return Row(
        strengths[lower] + share * (strengths[lower + 1] - strengths[lower]),
        float(means.abs().mean()),
        float((weights @ others.abs()).mean()),
        float(distances[found] @ weights[found] / weights[found].sum()),
        dict(zip((sweep.names[judge][k] for k in columns), means.tolist(), strict=True)),
    )


def compare(baselines: list[StrengthSweep], sweeps: list[StrengthSweep]) -> list[str]:
    """Format the rows of an editor's sweeps beside the baseline's, one attribute each, and what they come to."""
    lines = [
        "| attribute, judge, change | strength | side effects | drift | distance | above 0.3 σ | ratio: side effects | drift |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ratios, random = [], torch.Generator().manual_seed(0)
    for base, sweep in zip(baselines, sweeps, strict=True):
        n = sweep.distances.shape[1]
        drawn = torch.multinomial(torch.ones(DRAWS, n), n, replacement=True, generator=random)
        weights = torch.zeros(DRAWS + 1, n).scatter_add_(
            1, torch.cat((torch.arange(n)[None], drawn)), torch.ones(DRAWS + 1, n)
        )
        for judge in JUDGES:
            for change in CHANGES:
                pairs = [[measure_row(each, judge, change, w / n) for each in (base, sweep)] for w in weights]
                rows = torch.tensor([[b.side_effects / a.side_effects, b.drift / a.drift] for a, b in pairs])
                ratios.append(rows.log())
                lines.append(_format_row(f"{sweep.attribute}, {judge}, {change:g}", pairs[0], rows))
    table = torch.stack(ratios)  # (rows, draws, side effects and drift)
    for k, name in enumerate(("side effects", "drift")):
        reached = table[table[:, 0, k].isfinite(), :, k]  # a draw in which one of these isn't reached doesn't count
        means, worst = (reached.mean(0).exp(), reached.amax(0).exp()) if len(reached) else (table[0, :, k],) * 2
        lines.append(
            f"{name}, geometric mean {_format_ratio(means)}, worst row {_format_ratio(worst)}; {len(reached)} of"
            f" {len(table)} rows reached by both, in {int(means[1:].isfinite().sum())} of {DRAWS} draws"
        )
    return lines


def _format_row(title: str, pair: list[Row], ratios: Tensor) -> str:
    base, row = pair
    means = row.means or {}
    above = [(name, value) for name, value in means.items() if abs(value) > SIDE_EFFECT]
    largest = ", ".join(f"{name} {value:+.2f}" for name, value in sorted(above, key=lambda pair: -abs(pair[1]))[:4])
    counts = f"{sum(abs(v) > SIDE_EFFECT for v in (base.means or {}).values())} → {len(above)}"
    cells = (f"{a:.3f} → {b:.3f}" for a, b in zip(_list_numbers(base), _list_numbers(row), strict=True))
    listed = f"{counts} ({largest})" if above else counts
    return (
        f"| {title} | {' | '.join(cells)} | {listed} | {_format_ratio(ratios[:, 0])} | {_format_ratio(ratios[:, 1])} |"
    )


def _list_numbers(row: Row) -> tuple[float, ...]:
    return row.strength, row.side_effects, row.drift, row.distance


def _format_ratio(draws: Tensor) -> str:
    """Format the first value, and the interval of the others."""
    drawn = draws[1:][draws[1:].isfinite()]
    if not drawn.numel() or not draws[0].isfinite():
        return "not reached"
    low, high = drawn.quantile(torch.tensor([0.025, 0.975])).tolist()
    return f"{draws[0]:.2f} [{low:.2f}, {high:.2f}]"


def main(
    editors: Annotated[list[str], typer.Argument(help="The baseline, and editors: those that ship, or files.")],
    n: Annotated[int, typer.Option("-n", help="Faces an attribute.")] = 40,
    regions: Annotated[bool, typer.Option("--regions", help="Keep edits to the regions of their attributes.")] = False,
) -> None:
    """Print a table of rows for each editor but the first."""
    generator = load_generator("ffhq", dtype="auto")
    judges, loaded = load_judges(generator), {name: load_editor(name, generator) for name in editors}
    pool = sample(generator, 3 * n, 1.0, SEED)
    scores = judges.read(pool)
    labeller = judges.scorers["face_attributes"]
    sweeps: dict[str, list[StrengthSweep]] = {name: [] for name in editors}
    for attribute in ATTRIBUTES:
        lacking = SIGNS.get(attribute, 1) * scores.scores["face_attributes"][:, labeller.column(attribute)] < 0
        rows = lacking.nonzero()[:n, 0]
        before = scores.select(rows)
        for name, editor in loaded.items():
            kept = find_regions("ffhq", [attribute]) if regions and name != editors[0] else ()
            sweeps[name].append(sweep_strengths(judges, editor, attribute, pool[rows], before, kept))
            print(f"{attribute} ({len(rows)} faces), {name}: measured", flush=True)
    for name in editors[1:]:
        print(f"\n{name} beside {editors[0]}\n", *compare(sweeps[editors[0]], sweeps[name]), sep="\n")


if __name__ == "__main__":
    typer.run(main)
