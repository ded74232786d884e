"""Edits of real images: held-out images are inverted, given one object more or less, drawn, and counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from experiments.multimnist import editors, encoders
from experiments.multimnist.context import CountContext
from experiments.multimnist.encoders import RealImages
from experiments.multimnist.labelled_codes import EncoderKind
from experiments.multimnist.section import ReportSection, SectionTable
from experiments.multimnist.trials import (
    MAX_COUNT,
    MIN_COUNT,
    Move,
    MoveTrial,
    estimate_rate,
    join_trials,
    make_editor_move,
    make_random_move,
    score_codes,
)
from ganvas.evaluation.pages import format_estimate
from ganvas.io.figures import draw_grid
from ganvas.stats import Estimate
from ganvas.types import Images, WPlus

NAME, TITLE = "real", "Real images, edited"
SPACES: tuple[Literal["w", "w+"], ...] = ("w", "w+")
ALPHAS = (1, -1)


@dataclass(frozen=True)
class HeldOutImages:
    """Held-out images, their codes in one space, and the counter's scores of the codes' pictures."""

    space: str
    real: RealImages
    ws: WPlus
    scores: Tensor


def run(context: CountContext) -> ReportSection:
    """Edit held-out images by the paper's editors and ours."""
    if context.folder is None:
        return encoders.missing_images_section(NAME, TITLE)
    encoders.inverted_codes(context)  # what the paper learns from in W+
    moves = {
        "the paper's H (W, cross-entropy)": make_editor_move(editors.fit_paper(context, "w", "ce")),
        "the paper's H (W+, cross-entropy)": make_editor_move(editors.fit_paper(context, "w+", "ce")),
        "ours": make_editor_move(editors.fit_best(context)),
    }
    return edit_images(context, moves)


def edit_images(context: CountContext, moves: Mapping[str, Move]) -> ReportSection:
    """Move held-out images by each move, and by random moves as long as the last one's, which the strips show."""
    test, shown = encoders.read_real_images(context, "test"), list(moves)[-1]
    moves = {**moves, f"random, as long as {shown}": make_random_move(context, moves[shown])}
    rows, strips = [], {}
    for space in SPACES:
        held = invert_held_out(context, test, space)
        for name, move in moves.items():
            context.log(f"Editing real images in {space.upper()}: {name} …")
            trials = {alpha: change_counts(context, held, move, alpha) for alpha in ALPHAS}
            rows.append(summarise_edits(context, held, name, trials))
        strips[f"real-{space.replace('+', '-plus')}"] = draw_strip(context, held, moves[shown])
    head = ("codes", "way", "+1", "−1", "both", "of those whose count survived inversion", "objects kept")
    keys = ("more", "less", "both", "survived", "kept")
    cells = [(row["space"].upper(), row["name"], *(format_estimate(vars(row[key]), 3) for key in keys)) for row in rows]
    note = (
        f"{len(test):,} held-out test images, inverted by the encoders that keep the count; right is what has as many"
        f" objects by the counter as the image has by its own label, and one more or less (within {MIN_COUNT} to {MAX_COUNT})."
        " Objects kept: the share of the image's own objects, by class, that are still there."
    )
    table = SectionTable("Share of edited images with the count that was asked for", head, cells, note)
    captions = {
        name: f"Held-out images, their inversion in {space.upper()}, and {shown}: one less, one more."
        for name, space in zip(strips, SPACES, strict=True)
    }
    intro = "Images that neither the generator nor the encoder was trained on are inverted, moved and drawn."
    return ReportSection(NAME, TITLE, intro, (table,), strips, {"rows": rows}, captions)


def invert_held_out(context: CountContext, test: RealImages, space: Literal["w", "w+"]) -> HeldOutImages:
    """Invert held-out images by the encoder that keeps the count."""
    ws = encoders.invert_images(context, encoders.train_kind(context, EncoderKind(space, True)), test.images, space)
    return HeldOutImages(space, test, ws, score_codes(context, ws))


def change_counts(context: CountContext, held: HeldOutImages, move: Move, alpha: int) -> MoveTrial:
    """Move all images that can get ``alpha`` objects more; ``before`` is what they truly have."""
    truth = held.real.scores
    wanted = truth[:, context.counter.column("count")] + alpha
    able = (wanted >= MIN_COUNT) & (wanted <= MAX_COUNT)
    ws, changes = held.ws[able], torch.full((int(able.sum()),), alpha)
    with torch.no_grad():
        moved = move(ws, changes) if len(ws) else ws
    return MoveTrial("count", context.counter.attributes, changes, ws, moved, truth[able], score_codes(context, moved))


def summarise_edits(
    context: CountContext, held: HeldOutImages, name: str, trials: Mapping[int, MoveTrial]
) -> dict[str, Any]:
    """Return one move's estimates."""
    both, column = join_trials(list(trials.values())), context.counter.column("count")
    survived = []
    for alpha in ALPHAS:
        wanted = held.real.scores[:, column] + alpha
        able = (wanted >= MIN_COUNT) & (wanted <= MAX_COUNT)
        survived.append((held.scores == held.real.scores)[able, column])
    estimates: dict[str, Estimate] = {
        "more": estimate_rate(trials[1].right),
        "less": estimate_rate(trials[-1].right),
        "both": estimate_rate(both.right, both.ws),
        "survived": estimate_rate(both.select(torch.cat(survived)).right),
        "kept": estimate_rate(both.measure_preservation(context.classes), both.ws),
    }
    return {"space": held.space, "name": name, **estimates}


@torch.no_grad()
def draw_strip(context: CountContext, held: HeldOutImages, move: Move) -> Tensor:
    """Draw a row for each image: itself, its inversion, one object less, one more."""
    n = min(context.config.rows, len(held.ws))
    ws, count = held.ws[:n], held.real.scores[:n, context.counter.column("count")]
    less, more = (move(ws, torch.full((n,), alpha)) for alpha in (-1, 1))
    shown: list[Images] = [held.real.images[:n], *(encoders.draw_codes(context, codes) for codes in (ws, less, more))]
    columns = [encoders.enlarge_pictures(images) for images in shown]
    cells = [column[i] for i in range(n) for column in columns]
    return draw_grid(cells, [f"{int(c)}" for c in count], ["image", "inverted", "−1", "+1"])
