"""How much of the changes that are asked of an editor is reached."""

from __future__ import annotations

import torch

from ganvas.types import Scores

MIN_REACH = 0.8
"""The share of a change below which an edit is reported as shortened."""
MIN_REPORTED_CHANGE = 0.1
"""σ: of smaller changes nobody sees how much is reached."""


def measure_reach(changed: Scores, asked: Scores) -> Scores:
    """Measure the shares, from 0 to 1, of the changes ``asked`` that were reached; 1 where nothing is asked."""
    return torch.where(asked == 0, 1.0, (changed / asked).clamp(0, 1))


def find_shortfall(attributes: tuple[str, ...], asked: Scores, reached: Scores) -> tuple[float, str] | None:
    """Find the attribute that reaches the least share of its changes, as a mean over codes.

    Returns the share and a line about it; None where all attributes reach ``MIN_REACH``.
    """
    is_visible = asked.abs() >= MIN_REPORTED_CHANGE
    shares = torch.where(is_visible, reached, 0).sum(0) / is_visible.sum(0)  # NaN for an attribute without a change
    k = int(shares.nan_to_num(nan=1.0).argmin())
    share = float(shares[k])
    if not share < MIN_REACH:
        return None
    rows = asked[is_visible[:, k]]
    fewer = ", or for fewer changes at once" if (rows.ne(0).sum(1) > 1).any() else ""
    mean = float(rows[:, k].mean())
    text = f"{attributes[k]} {mean:+.2g} was shortened to {100 * share:.2g} % ({share * mean:+.2g})"
    return share, f"{text}, as the editor reads it: ask for less{fewer}."
