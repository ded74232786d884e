"""Labels that tell what an editor's moves really do: its moved codes, rendered and scored, beside the codes it learned from.

A latent classifier that an editor learned from is only right where its codes lay, and the editor learns to go where
it's wrong. Labelling where the editor goes, and learning again, closes that loop: Ross, Gordon and Bagnell, *A Reduction
of Imitation Learning and Structured Prediction to No-Regret Online Learning* (DAgger), 2011, https://arxiv.org/abs/1011.0686.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from ganvas.control import View
from ganvas.dataset import LatentDataset, make_dataset
from ganvas.edit import Editor
from ganvas.errors import GanvasError


@torch.no_grad()
def widened(
    data: LatentDataset, editor: Editor, view: View, n: int, *, seed: int = 0, changes: tuple[float, ...] = (-1.0, 1.0)
) -> LatentDataset:
    """``data`` and ``n`` more codes: some of its own, each moved by one of ``changes`` of one of the editor's attributes.

    What it holds can't be redrawn from seeds any more. Raises GanvasError where ``n`` < 1, no change is given, or the
    scorer isn't that of the data.
    """
    scorer, num_ws = view.scorer, view.generator.num_ws
    if n < 1 or not changes:
        raise GanvasError(f"Labels are widened by at least one code and one change, not {n} and {len(changes)}.")
    if f"{scorer.name}:{scorer.fingerprint}" != data.scorer:
        raise GanvasError(f"These labels were made by scorer {data.scorer[:40]}, not by {scorer.name!r}.")
    random = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(data), (n,), generator=random)
    which = torch.randint(len(editor.attributes), (n,), generator=random)
    change = torch.tensor(changes)[torch.randint(len(changes), (n,), generator=random)]
    wanted = {name: torch.where(which == k, change, 0.0) for k, name in enumerate(editor.attributes)}
    ws = data.ws(rows, num_ws).to(view.generator.device)
    moved = editor.edit(ws, {name: value.to(ws) for name, value in wanted.items()})
    columns = [scorer.column(name) for name in data.attributes]
    scores = view(moved)[:, columns].cpu()
    moved = moved.cpu()
    equal = torch.equal(moved, moved[:, :1].expand_as(moved))
    if data.space == "w" and equal:
        codes = torch.cat((data.codes, moved[:, 0]))
    else:
        codes = torch.cat((data.ws(slice(None), num_ws), moved))
    source = replace(data.source, seed=None, codes=None)
    everything = torch.cat((data.scores, scores.to(data.scores)))
    return make_dataset(codes, everything, data.attributes, data.kinds, source, data.generator, data.scorer)
