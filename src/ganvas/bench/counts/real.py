"""Real images edited: held-out ones are inverted, given one object more or less, drawn, and counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ganvas.bench.counts import encoders, recipes
from ganvas.bench.counts.encoders import Real
from ganvas.bench.counts.kept import Kind
from ganvas.bench.counts.section import Section, Table
from ganvas.bench.counts.stage import Stage
from ganvas.bench.counts.trials import HIGH, LOW, Move, Tried, at_random, by_editor, joined, rate, score
from ganvas.bench.tables import cell
from ganvas.figures import grid
from ganvas.stats import Estimate
from ganvas.types import Images, WPlus

NAME, TITLE = "real", "Real images, edited"
SPACES = ("w", "w+")
ALPHAS = (1, -1)


@dataclass(frozen=True)
class Held:
    """Held-out images, their codes in one space, and what the counter says of the codes' pictures."""

    space: str
    real: Real
    ws: WPlus
    scores: Tensor


def run(stage: Stage) -> Section:
    """The paper's editors, and ours."""
    if stage.folder is None:
        return encoders.missing(NAME, TITLE)
    encoders.inverted_codes(stage)  # what the paper learns from in W+
    moves = {
        "the paper's H (W, cross-entropy)": by_editor(recipes.paper(stage, "w", "ce")),
        "the paper's H (W+, cross-entropy)": by_editor(recipes.paper(stage, "w+", "ce")),
        "ours": by_editor(recipes.best(stage)),
    }
    return edited(stage, moves)


def edited(stage: Stage, ways: Mapping[str, Move]) -> Section:
    """Held-out images moved in each way, by its name, beside random moves as long as the last way's, which the strips show."""
    test, shown = encoders.real(stage, "test"), list(ways)[-1]
    moves = {**ways, f"random, as long as {shown}": at_random(stage, ways[shown])}
    rows, strips = [], {}
    for space in SPACES:
        held = inverted(stage, test, space)
        for name, move in moves.items():
            stage.watch(f"Editing real images in {space.upper()}: {name} …")
            tried = {alpha: attempt(stage, held, move, alpha) for alpha in ALPHAS}
            rows.append(_row(stage, held, name, tried))
        strips[f"real-{space.replace('+', '-plus')}"] = strip(stage, held, ways[shown])
    head = ("codes", "way", "+1", "−1", "both", "of those whose count survived inversion", "objects kept")
    told = ("more", "less", "both", "survived", "kept")
    cells = [(row["space"].upper(), row["name"], *(cell(vars(row[key]), 3) for key in told)) for row in rows]
    note = (
        f"{len(test):,} held-out test images, inverted by the encoders that keep the count; right is what has as many"
        f" objects by the counter as the image has by its own label, and one more or less (within {LOW} to {HIGH})."
        " Objects kept: the share of the image's own objects, by class, that are still there."
    )
    table = Table("Share of edited images with the count that was asked for", head, cells, note)
    captions = {
        name: f"Held-out images, their inversion in {space.upper()}, and {shown}: one less, one more."
        for name, space in zip(strips, SPACES, strict=True)
    }
    intro = "Images that neither the generator nor the encoder has seen are inverted, moved and drawn."
    return Section(NAME, TITLE, intro, (table,), strips, {"rows": rows}, captions)


def inverted(stage: Stage, test: Real, space: str) -> Held:
    """Held-out images inverted by the encoder that keeps the count."""
    ws = encoders.invert(stage, encoders.encoder(stage, Kind(space, True)), test.images, space)
    return Held(space, test, ws, score(stage, ws))


def attempt(stage: Stage, held: Held, move: Move, alpha: int) -> Tried:
    """All images that can get ``alpha`` objects more; ``before`` is what they truly have."""
    truth = held.real.scores
    wanted = truth[:, stage.counter.column("count")] + alpha
    able = (wanted >= LOW) & (wanted <= HIGH)
    ws, asked = held.ws[able], torch.full((int(able.sum()),), alpha)
    with torch.no_grad():
        moved = move(ws, asked) if len(ws) else ws
    return Tried("count", stage.counter.attributes, asked, ws, moved, truth[able], score(stage, moved))


def _row(stage: Stage, held: Held, name: str, tried: Mapping[int, Tried]) -> dict[str, Any]:
    """One way's numbers."""
    both, column = joined(list(tried.values())), stage.counter.column("count")
    survived = []
    for alpha in ALPHAS:
        wanted = held.real.scores[:, column] + alpha
        able = (wanted >= LOW) & (wanted <= HIGH)
        survived.append((held.scores == held.real.scores)[able, column])
    found: dict[str, Estimate] = {
        "more": rate(tried[1].right),
        "less": rate(tried[-1].right),
        "both": rate(both.right),
        "survived": rate(both.select(torch.cat(survived)).right),
        "kept": rate(both.kept(stage.classes)),
    }
    return {"space": held.space, "name": name, **found}


@torch.no_grad()
def strip(stage: Stage, held: Held, move: Move) -> Tensor:
    """A row an image: itself, its inversion, one object less, one more."""
    n = min(stage.size.rows, len(held.ws))
    ws, count = held.ws[:n], held.real.scores[:n, stage.counter.column("count")]
    less, more = (move(ws, torch.full((n,), alpha)) for alpha in (-1, 1))
    shown: list[Images] = [held.real.images[:n], *(encoders.draw(stage, codes) for codes in (ws, less, more))]
    columns = [encoders.enlarged(images) for images in shown]
    cells = [column[i] for i in range(n) for column in columns]
    return grid(cells, [f"{int(c)}" for c in count], ["image", "inverted", "−1", "+1"])
