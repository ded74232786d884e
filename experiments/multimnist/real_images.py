"""Real images edited: held-out ones are inverted, given one object more or less, drawn, and counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.multimnist import editors, encoders
from experiments.multimnist.context import CountContext
from experiments.multimnist.encoders import RealImages
from experiments.multimnist.labelled_codes import EncoderKind
from experiments.multimnist.section import ReportSection, SectionTable
from experiments.multimnist.trials import (
    HIGH,
    LOW,
    Move,
    MoveTrial,
    editor_move,
    estimate_rate,
    join_trials,
    random_move,
    score_codes,
)
from ganvas.evaluation.tables import format_estimate
from ganvas.io.figures import draw_grid
from ganvas.stats import Estimate
from ganvas.types import Images, WPlus

NAME, TITLE = "real", "Real images, edited"
SPACES = ("w", "w+")
ALPHAS = (1, -1)


@dataclass(frozen=True)
class HeldOutImages:
    """Held-out images, their codes in one space, and what the counter says of the codes' pictures."""

    space: str
    real: RealImages
    ws: WPlus
    scores: Tensor


def run(stage: CountContext) -> ReportSection:
    """The paper's editors, and ours."""
    if stage.folder is None:
        return encoders.require_real_images(NAME, TITLE)
    encoders.inverted_codes(stage)  # what the paper learns from in W+
    moves = {
        "the paper's H (W, cross-entropy)": editor_move(editors.fit_paper(stage, "w", "ce")),
        "the paper's H (W+, cross-entropy)": editor_move(editors.fit_paper(stage, "w+", "ce")),
        "ours": editor_move(editors.fit_best(stage)),
    }
    return edit_images(stage, moves)


def edit_images(stage: CountContext, ways: Mapping[str, Move]) -> ReportSection:
    """Held-out images moved in each way, by its name, beside random moves as long as the last way's, which the strips show."""
    test, shown = encoders.read_real_images(stage, "test"), list(ways)[-1]
    moves = {**ways, f"random, as long as {shown}": random_move(stage, ways[shown])}
    rows, strips = [], {}
    for space in SPACES:
        held = invert_held_out(stage, test, space)
        for name, move in moves.items():
            stage.watch(f"Editing real images in {space.upper()}: {name} …")
            tried = {alpha: change_counts(stage, held, move, alpha) for alpha in ALPHAS}
            rows.append(_row(stage, held, name, tried))
        strips[f"real-{space.replace('+', '-plus')}"] = draw_strip(stage, held, ways[shown])
    head = ("codes", "way", "+1", "−1", "both", "of those whose count survived inversion", "objects kept")
    told = ("more", "less", "both", "survived", "kept")
    cells = [(row["space"].upper(), row["name"], *(format_estimate(vars(row[key]), 3) for key in told)) for row in rows]
    note = (
        f"{len(test):,} held-out test images, inverted by the encoders that keep the count; right is what has as many"
        f" objects by the counter as the image has by its own label, and one more or less (within {LOW} to {HIGH})."
        " Objects kept: the share of the image's own objects, by class, that are still there."
    )
    table = SectionTable("Share of edited images with the count that was asked for", head, cells, note)
    captions = {
        name: f"Held-out images, their inversion in {space.upper()}, and {shown}: one less, one more."
        for name, space in zip(strips, SPACES, strict=True)
    }
    intro = "Images that neither the generator nor the encoder has seen are inverted, moved and drawn."
    return ReportSection(NAME, TITLE, intro, (table,), strips, {"rows": rows}, captions)


def invert_held_out(stage: CountContext, test: RealImages, space: str) -> HeldOutImages:
    """Held-out images inverted by the encoder that keeps the count."""
    ws = encoders.invert_images(stage, encoders.train_kind(stage, EncoderKind(space, True)), test.images, space)
    return HeldOutImages(space, test, ws, score_codes(stage, ws))


def change_counts(stage: CountContext, held: HeldOutImages, move: Move, alpha: int) -> MoveTrial:
    """All images that can get ``alpha`` objects more; ``before`` is what they truly have."""
    truth = held.real.scores
    wanted = truth[:, stage.counter.column("count")] + alpha
    able = (wanted >= LOW) & (wanted <= HIGH)
    ws, asked = held.ws[able], torch.full((int(able.sum()),), alpha)
    with torch.no_grad():
        moved = move(ws, asked) if len(ws) else ws
    return MoveTrial("count", stage.counter.attributes, asked, ws, moved, truth[able], score_codes(stage, moved))


def _row(stage: CountContext, held: HeldOutImages, name: str, tried: Mapping[int, MoveTrial]) -> dict[str, Any]:
    """One way's numbers."""
    both, column = join_trials(list(tried.values())), stage.counter.column("count")
    survived = []
    for alpha in ALPHAS:
        wanted = held.real.scores[:, column] + alpha
        able = (wanted >= LOW) & (wanted <= HIGH)
        survived.append((held.scores == held.real.scores)[able, column])
    found: dict[str, Estimate] = {
        "more": estimate_rate(tried[1].right),
        "less": estimate_rate(tried[-1].right),
        "both": estimate_rate(both.right),
        "survived": estimate_rate(both.select(torch.cat(survived)).right),
        "kept": estimate_rate(both.kept(stage.classes)),
    }
    return {"space": held.space, "name": name, **found}


@torch.no_grad()
def draw_strip(stage: CountContext, held: HeldOutImages, move: Move) -> Tensor:
    """A row an image: itself, its inversion, one object less, one more."""
    n = min(stage.size.rows, len(held.ws))
    ws, count = held.ws[:n], held.real.scores[:n, stage.counter.column("count")]
    less, more = (move(ws, torch.full((n,), alpha)) for alpha in (-1, 1))
    shown: list[Images] = [held.real.images[:n], *(encoders.draw_codes(stage, codes) for codes in (ws, less, more))]
    columns = [encoders.enlarge_pictures(images) for images in shown]
    cells = [column[i] for i in range(n) for column in columns]
    return draw_grid(cells, [f"{int(c)}" for c in count], ["image", "inverted", "−1", "+1"])
