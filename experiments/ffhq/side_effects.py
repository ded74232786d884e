"""Side effects and drift of editors at an equal change by the same judge, on fresh faces.

    python -m experiments.ffhq.side_effects ffhq/compact out/mine.safetensors -n 40 [--regions]

Each edit gets the one strength at which a judge reads a mean change of 1 σ of the attribute: omi_reading where people rated it
(it reads the age of generated faces far better), else celeba40_reading, which reads all else. Side effects: the absolute value
of the mean signed change of an attribute that wasn't asked for, averaged over these, entailed ones set aside; drift: the mean of
|change|; distance: dlib's between the face before and after. With --regions edits are kept to the regions of their attributes.
Pictures are early ones of 512 pixels.
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
from ganvas.generators.regions import Region, blend_pictures, build_mask, find_regions
from ganvas.identity import FaceEmbedder
from ganvas.io.images import downscale
from ganvas.scorers.base import Scorer
from ganvas.types import WPlus

SEED, POOL_SEED, POOL_FACES = 2_100_000, 2_150_000, 192
SIGNS = {"Young": -1}
"""Attributes that are edited downwards."""
SYNONYMS = {"Young": ("Age", -1)}
"""Attribute -> what an editor that has it is asked for in its place, and its sign."""
SIDE_EFFECT = 0.3
"""Standard deviations from which a mean change counts as a side effect of its own."""
SIDE = 512
"""The side of the pictures that are read."""
STEPS, TOLERANCE, MAX_STRENGTH = 6, 0.06, 8.0


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
    def read(self, ws: WPlus, before: Tensor | None = None, regions: Sequence[Region] = ()) -> Readings:
        """Read the pictures of codes, blended into those ``before`` in regions, if there are any."""
        rows: dict[str, list[Tensor]] = {name: [] for name in self.scorers}
        faces, pictures = [], []
        for i, code in enumerate(ws.split(1)):
            picture = self.generator.synthesis(code, resolution=SIDE)
            if before is not None and regions:
                picture = blend_pictures(before[i : i + 1], picture, build_mask(regions, SIDE, SIDE))
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


def measure(
    judges: Judges, editor: Editor, attribute: str, ws: WPlus, before: Readings, regions: Sequence[Region]
) -> str:
    """Find the strength of an equal change, and describe what it does."""
    judge, sign, target = "celeba40_reading", SIGNS.get(attribute, 1), attribute
    names = judges.scorers[judge].attributes
    rated, rated_sign = SYNONYMS.get(attribute, (attribute, 1))
    target_judge = "omi_reading" if rated in judges.scorers["omi_reading"].attributes else judge
    if target_judge == "omi_reading":
        target, sign = rated, sign * rated_sign
    column, low, high, strength = judges.scorers[target_judge].attributes.index(target), 0.0, None, 1.0
    best = math.inf, strength, before
    for _ in range(STEPS):
        after = judges.read(apply_edit(editor, ws, attribute, strength), before.pictures, regions)
        reached = sign * float(judges.measure_change(target_judge, before, after)[:, column].mean())
        if abs(reached - 1) < abs(best[0] - 1):
            best = reached, strength, after
        if abs(reached - 1) < TOLERANCE:
            break
        if reached < 1:
            low, strength = (
                strength,
                strength * min(2.0, 1 / max(reached, 0.3)) if high is None else (strength + high) / 2,
            )
        else:
            high, strength = strength, (low + strength) / 2
        strength = min(strength, MAX_STRENGTH)
    reached, strength, after = best
    left_out = (attribute, *ENTAILED[attribute])
    others = [k for k, name in enumerate(names) if name not in left_out]
    changes = judges.measure_change(judge, before, after)[:, others]
    mean, distance = changes.mean(0).abs(), (after.faces - before.faces).norm(dim=1)
    ranked = mean.argsort(descending=True)[:4].tolist()
    worst = ", ".join(f"{names[others[k]]} {changes[:, k].mean():+.2f}" for k in ranked)
    omi, omi_names = (
        judges.measure_change("omi_reading", before, after).mean(0),
        judges.scorers["omi_reading"].attributes,
    )
    people = ", ".join(f"{name} {value:+.2f}" for name, value in zip(omi_names, omi.tolist(), strict=True))
    return (
        f"strength {strength:.2f}, change {reached:.2f}; side effects {mean.mean():.3f}, drift {changes.abs().mean():.3f}, "
        f"{int((mean > SIDE_EFFECT).sum())} above {SIDE_EFFECT} ({worst}); distance {distance.nanmean():.3f}; people: {people}"
    )


def main(
    editors: Annotated[list[str], typer.Argument(help="Editors that ship, or files.")],
    n: Annotated[int, typer.Option("-n", help="Faces an attribute.")] = 40,
    attributes: Annotated[str, typer.Option(help="Attributes.")] = "Smiling,Eyeglasses,Young,Male",
    regions: Annotated[bool, typer.Option("--regions", help="Keep edits to the regions of their attributes.")] = False,
) -> None:
    """Print side effects, drift and distance of each editor and attribute."""
    generator = load_generator("ffhq", dtype=torch.bfloat16)
    judges, loaded = load_judges(generator), {name: load_editor(name) for name in editors}
    pool = sample(generator, 3 * n, 1.0, SEED)
    scores = judges.read(pool)
    labeller = judges.scorers["face_attributes"]
    for attribute in attributes.split(","):
        lacking = SIGNS.get(attribute, 1) * scores.scores["face_attributes"][:, labeller.column(attribute)] < 0
        rows = lacking.nonzero()[:n, 0]
        before = scores.select(rows)
        kept = find_regions("ffhq", [attribute]) if regions else ()
        for name, editor in loaded.items():
            print(
                f"{attribute} ({len(rows)} faces), {name}: {measure(judges, editor, attribute, pool[rows], before, kept)}",
                flush=True,
            )


if __name__ == "__main__":
    typer.run(main)
