"""Estimate of an evaluation's pictures and time, before the first picture is rendered."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path

from ganvas.control.search import ScoredView
from ganvas.data.dataset import LatentDataset
from ganvas.evaluation.config import EvaluationConfig
from ganvas.evaluation.judges import JudgePanel
from ganvas.evaluation.methods import MethodEntry
from ganvas.generators.base import Generator, sample

SEARCH_PICTURES = 2.6
"""Pictures for one edit of ffhq by the paper's protocol, on average over methods."""
REFINE_PICTURES = 1.3
"""Further pictures that an equal change takes for an edit that was climbed."""
SINGLE_PICTURES = 2.2
"""Pictures that an equal change takes for an edit that wasn't climbed."""
TIMED_PICTURES = 2
"""Pictures that time is measured on, after as many to warm up."""


@dataclass(frozen=True)
class RenderCost:
    """Pictures by part, and seconds a picture, all judges' time included."""

    parts: dict[str, int]
    seconds: float
    rendered: int
    """Pictures that an earlier run rendered."""

    @property
    def pictures(self) -> int:
        """The number of pictures of all parts."""
        return sum(self.parts.values())

    def format_lines(self) -> list[str]:
        """Format the cost as lines for people."""
        parts = ", ".join(f"{count:,} {part}" for part, count in self.parts.items() if count)
        left = max(self.pictures - self.rendered, 0)
        known = f" {self.rendered:,} are there from before, maybe of other methods." if self.rendered else ""
        minutes, more = left * self.seconds / 60, " or more" if self.rendered else ""
        took = f"{minutes:.0f} minutes" if minutes >= 2 else f"{60 * minutes:.0f} seconds"
        return [
            f"About {self.pictures:,} pictures will be rendered: {parts}.{known}",
            f"One takes {self.seconds:.3f} s with all judges here: about {took}{more}, besides learning.",
        ]


def estimate_cost(
    generator: Generator,
    panel: JudgePanel,
    data: LatentDataset,
    entries: Sequence[MethodEntry],
    attributes: Sequence[str],
    config: EvaluationConfig,
    work: Path | None,
) -> RenderCost:
    """Count pictures from the config and the mean pictures an edit, and time a few pictures of other faces."""
    n_attributes, n_names = len(attributes), len(panel.own.attributes)
    first = [e for e in entries if e.group == "first"]
    shown = [e for e in entries if e.group != "ablation"]
    faces = [config.count_faces(e.group) for e in entries]
    climbed = sum(n for n, _ in faces) * n_attributes
    settled = (
        sum(
            m * (len(config.targets) * REFINE_PICTURES + (not n) * (SINGLE_PICTURES - REFINE_PICTURES))
            for n, m in faces
        )
        * n_attributes
    )
    wide = (
        sum(e.everywhere for e in entries)
        * config.everywhere
        * max(min(n_names, len(data.attributes)) - n_attributes, 0)
    )
    combined = (comb(n_attributes, 2) + comb(n_attributes, 3)) * config.together * len(first)
    parts = {
        "fresh faces": max(config.pool, min(config.pool_limit, 4 * config.first)),
        "for the paper's protocol": round(SEARCH_PICTURES * climbed),
        "at equal changes": round(settled),
        "of other attributes": round(SINGLE_PICTURES * wide),
        "of random moves": config.floor * n_attributes * len(config.targets),
        "of several attributes at once": combined,
        "for the sheets": n_attributes * config.pictures * (1 + len(shown)) + 8 * n_attributes * (config.pictures > 0),
    }
    return RenderCost(parts, measure_seconds(generator, panel), count_rendered(work))


def measure_seconds(generator: Generator, panel: JudgePanel) -> float:
    """Measure the mean time of one picture with its scores, in seconds, over ``TIMED_PICTURES``."""
    view, codes = ScoredView(generator, panel), sample(generator, 2 * TIMED_PICTURES, 1.0, 0)
    view(codes[:TIMED_PICTURES])
    start = time.perf_counter()
    view(codes[TIMED_PICTURES:])
    return (time.perf_counter() - start) / TIMED_PICTURES


def count_rendered(work: Path | None) -> int:
    """Count the pictures whose scores an earlier run kept."""
    from safetensors import SafetensorError, safe_open

    count = 0
    for file in sorted((work / "renders").rglob("*.safetensors")) if work else ():
        try:
            with safe_open(file, "pt") as opened:
                count += opened.get_slice("rows").get_shape()[0]
        except (OSError, SafetensorError):
            continue
    return count
