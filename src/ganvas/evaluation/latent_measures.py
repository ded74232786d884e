"""Measures that need no picture: the effect of an editor on codes, by the labels' probe."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from ganvas.data.dataset import LatentDataset
from ganvas.data.distribution import Distribution
from ganvas.editors.base import Editor
from ganvas.editors.compact import CompactEditor
from ganvas.errors import GanvasError
from ganvas.evaluation.success import LEADING_COMPONENTS, make_goal
from ganvas.generators.base import Generator, sample
from ganvas.seeds import LATENT_SEED
from ganvas.stats import bootstrap_mean
from ganvas.types import WPlus

TIMED_EDITS = 64
"""Codes that edits are timed on, one by one."""


def sample_latent_codes(generator: Generator, n: int, psi: float) -> WPlus:
    """Sample the codes for measures without pictures."""
    return sample(generator, n, psi, LATENT_SEED)


@torch.no_grad()
def measure_readings(
    editor: Editor, ws: WPlus, attribute: str, data: LatentDataset, typical_set: Distribution, change: float = 1.0
) -> dict[str, Any]:
    """Measure the effect of an edit by ``change`` on codes.

    "target": how far the reading of ``attribute`` moves; "others": mean |change| of the other readings for each that the
    target moved by; "distance" in W and "mahalanobis" within the leading components: the length of the move for each, too;
    "left": the share of codes that leave the distribution.
    """
    if attribute not in editor.attributes:
        raise GanvasError(f"The editor has no attribute {attribute!r}.")
    k, sign = data.attributes.index(attribute), 1.0 if make_goal(attribute).up else -1.0
    moved = editor.edit(ws, {attribute: sign * change})
    before, after = ws.mean(1), moved.mean(1)
    changes = data.probe(after) - data.probe(before)
    target = changes[:, k] * sign
    # A code whose reading hardly moves, or the wrong way, has no drift for each standard deviation.
    scale = torch.where(target > 0.1, target, torch.nan)
    others = torch.arange(changes.shape[1], device=changes.device) != k
    tight = typical_set.select_leading(min(LEADING_COMPONENTS, len(typical_set.bounds)))
    length = ((after - before) @ tight.whitening.to(after)).norm(dim=1)
    return {
        "target": bootstrap_mean(target),
        "others": bootstrap_mean(changes[:, others].abs().mean(1) / scale),
        "distance": bootstrap_mean((moved - ws).norm(dim=-1).mean(-1) / scale),
        "mahalanobis": bootstrap_mean(length / scale),
        "left": bootstrap_mean((typical_set.contains(before) & ~typical_set.contains(after)).float()),
    }


@torch.no_grad()
def measure_milliseconds(editor: Editor, ws: WPlus, attribute: str) -> float:
    """Measure the median time of an edit of one code, in milliseconds, after some to warm up."""
    times = []
    for code in ws[:TIMED_EDITS].split(1):
        began = time.perf_counter()
        editor.edit(code, {attribute: 1.0})
        times.append(time.perf_counter() - began)
    return round(1000 * float(torch.tensor(times[len(times) // 8 :]).median()), 3)


@torch.no_grad()
def measure_middle_codes(editor: CompactEditor, w: Tensor, attribute: str, typical_set: Distribution) -> dict[str, Any]:
    """Measure whether codes with p = 0.5 are plausible: Lesné et al. say that without Gaussianisation they aren't (section 4.1).

    "crowd": how many codes lie within a quarter of a standard deviation of that place, beside those of a normal
    distribution at its mean. "farther": by how much the decoded code's Mahalanobis distance (leading components) grows when
    c_k is put there; "left": how many of these then lie beyond the bound.
    """
    k = editor.attributes.index(attribute)
    normal = editor.gaussianize.select([k])
    place = float(normal(torch.zeros(1, 1))[0, 0])  # a logit of 0 is p = 0.5
    c = editor.encode(w)
    put = c.clone()
    put[:, k] = place
    # Without residual, so that what is judged is what the decoder makes of it.
    here, there = editor.decode(c), editor.decode(put)
    tight = typical_set.select_leading(min(LEADING_COMPONENTS, len(typical_set.bounds)))
    spread = c[:, k].std().clamp(min=1e-6)
    near = ((c[:, k] - place).abs() < 0.25 * spread).float()
    return {
        "crowd": bootstrap_mean(near / 0.1974),
        "farther": bootstrap_mean(tight.mahalanobis(there) - tight.mahalanobis(here)),
        "left": bootstrap_mean((~tight.contains(there)).float()),
    }
