"""The baseline of random moves: as long as an edit's, and blind to attributes."""

from __future__ import annotations

import torch

from ganvas.evaluation.context import EvaluationContext
from ganvas.metrics import Trial, distance_moved

DIRECTION_SEED = 7


@torch.no_grad()
def move_randomly(context: EvaluationContext, matched: Trial, scope: str, n: int) -> Trial | None:
    """Move the first ``n`` codes that arrived as far in W as ``matched`` moved them, in random directions.

    None where nothing arrived.
    """
    index = matched.arrived.nonzero()[:n, 0]
    if not len(index):
        return None
    # Trials keep one row of codes whose rows are equal.
    ws, length = matched.before[index].expand(-1, context.generator.num_ws, -1), distance_moved(matched)[index]
    rng = torch.Generator().manual_seed(DIRECTION_SEED)
    direction = torch.randn(len(matched), ws.shape[2], generator=rng)[index].to(ws)
    moved = ws + (direction / direction.norm(dim=1, keepdim=True) * length[:, None])[:, None]
    after = context.make_view("random", scope)(moved.to(context.generator.device)).cpu()
    return Trial(
        matched.attribute,
        matched.attributes,
        matched.kinds,
        before=ws,
        after=moved,
        scores_before=matched.scores_before[index],
        scores_after=context.panel.split_scores(after),
        arrived=torch.ones(len(index), dtype=torch.bool),
        strengths=torch.zeros(len(index)),
        faces_before=None if matched.faces_before is None else matched.faces_before[index],
        faces_after=context.panel.split_faces(after),
    )
