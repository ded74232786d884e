"""Figure 2: rows of successive moves from a framed start."""

from __future__ import annotations

import torch
from torch import Tensor

from experiments.multimnist.context import CountContext
from experiments.multimnist.trials import BATCH_SIZE, Move, TrialCodes
from ganvas.io.figures import draw_grid
from ganvas.io.images import to_bytes
from ganvas.types import WPlus

MAX_MOVES = 3
"""Successive moves up and down."""
MIN_SHOWN_SIDE = 128
"""The side in pixels up to which smaller pictures are enlarged."""
FRAME_COLOUR = (214, 40, 40)


@torch.no_grad()
def draw_enlarged(context: CountContext, ws: WPlus) -> Tensor:
    """Draw codes as uint8 pixels (n, height, width, 3); small pictures are enlarged by a whole number."""
    images = torch.cat([to_bytes(context.generator.synthesis(codes)) for codes in ws.split(BATCH_SIZE)])
    times = max(MIN_SHOWN_SIDE // images.shape[1], 1)
    return images.repeat_interleave(times, 1).repeat_interleave(times, 2)


def add_frame(picture: Tensor, width: int = 4) -> Tensor:
    """Return a picture with a red frame."""
    framed, colour = picture.clone(), torch.tensor(FRAME_COLOUR, dtype=torch.uint8)
    framed[:width], framed[-width:], framed[:, :width], framed[:, -width:] = (colour,) * 4
    return framed


def select_starts(context: CountContext, codes: TrialCodes, n: int) -> Tensor:
    """Return the row numbers (n,) of the first codes of each count in turn, 2 and 3 first: these can go up and down."""
    counts = codes.scores[:, context.counter.column("count")]
    by_count = [(counts == value).nonzero()[:, 0].tolist() for value in (2, 3, 1, 4)]
    order = [rows[i] for i in range(len(counts)) for rows in by_count if i < len(rows)]
    return torch.tensor(order[:n], dtype=torch.long)


def draw_figure_2(context: CountContext, codes: TrialCodes, move: Move) -> Tensor:
    """Draw the paper's figure 2: one row a code, from three objects less to three more; uint8 pixels."""
    rows = select_starts(context, codes, context.config.rows)
    ws, amounts = codes.ws[rows], range(-MAX_MOVES, MAX_MOVES + 1)
    columns = []
    for alpha in amounts:
        with torch.no_grad():
            moved = move(ws, torch.full((len(ws),), alpha)) if alpha else ws
        columns.append(draw_enlarged(context, moved))
    counts = codes.scores[rows, context.counter.column("count")].int().tolist()
    cells = [
        add_frame(column[i]) if alpha == 0 else column[i]
        for i in range(len(ws))
        for alpha, column in zip(amounts, columns, strict=True)
    ]
    return draw_grid(
        cells, [str(count) for count in counts], [f"{alpha:+d}" if alpha else "start" for alpha in amounts]
    )
