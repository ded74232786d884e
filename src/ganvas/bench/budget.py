"""How many pictures a benchmark will render, and how long that takes: said before the first one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path

from ganvas.bench.methods import Entry
from ganvas.bench.panel import Panel
from ganvas.bench.plan import Plan
from ganvas.control import View
from ganvas.dataset import LatentDataset
from ganvas.generator import Generator, sample

CLIMB = 2.6
"""Pictures that the paper's protocol takes for an edit of ffhq, about: it depends on the method."""
SETTLE = 1.3
"""More pictures that an equal change takes for an edit that was climbed."""
ALONE = 2.2
"""The same for one that wasn't."""
MEASURED = 2
"""Pictures that time is measured on, after as many to warm up."""


@dataclass(frozen=True)
class Budget:
    """Pictures by part, and seconds a picture, all judges' time included."""

    parts: dict[str, int]
    seconds: float
    known: int
    """Pictures that an earlier run rendered."""

    @property
    def pictures(self) -> int:
        """All parts'."""
        return sum(self.parts.values())

    def lines(self) -> list[str]:
        """What is told before work begins."""
        parts = ", ".join(f"{count:,} {part}" for part, count in self.parts.items() if count)
        left = max(self.pictures - self.known, 0)
        known = f" {self.known:,} are there from before, maybe of other methods." if self.known else ""
        minutes, more = left * self.seconds / 60, " or more" if self.known else ""
        took = f"{minutes:.0f} minutes" if minutes >= 2 else f"{60 * minutes:.0f} seconds"
        return [
            f"About {self.pictures:,} pictures will be rendered: {parts}.{known}",
            f"One takes {self.seconds:.3f} s with all judges here: about {took}{more}, besides learning.",
        ]


def budget(
    generator: Generator,
    panel: Panel,
    data: LatentDataset,
    entries: Sequence[Entry],
    attributes: Sequence[str],
    plan: Plan,
    work: Path | None,
) -> Budget:
    """Counted from the plan, with the means that were measured of pictures an edit; timed on a few faces of no use."""
    many, names = len(attributes), len(panel.own.attributes)
    first = [e for e in entries if e.group == "first"]
    shown = [e for e in entries if e.group != "ablation"]
    faces = [plan.faces(e.group) for e in entries]
    climbed = sum(n for n, _ in faces) * many
    settled = sum(m * (len(plan.targets) * SETTLE + (not n) * (ALONE - SETTLE)) for n, m in faces) * many
    wide = sum(e.everywhere for e in entries) * plan.everywhere * max(min(names, len(data.attributes)) - many, 0)
    combined = (comb(many, 2) + comb(many, 3)) * plan.together * len(first)
    parts = {
        "fresh faces": max(plan.pool, min(plan.pool_limit, 4 * plan.first)),
        "for the paper's protocol": round(CLIMB * climbed),
        "at equal changes": round(settled),
        "of other attributes": round(ALONE * wide),
        "of random moves": plan.floor * many * len(plan.targets),
        "of several attributes at once": combined,
        "for the sheets": many * plan.pictures * (1 + len(shown)) + 8 * many * (plan.pictures > 0),
    }
    return Budget(parts, seconds_a_picture(generator, panel), rendered(work))


def seconds_a_picture(generator: Generator, panel: Panel) -> float:
    """The time of one picture with its scores, on average over ``MEASURED``."""
    view, codes = View(generator, panel), sample(generator, 2 * MEASURED, 1.0, 0)
    view(codes[:MEASURED])
    began = time.perf_counter()
    view(codes[MEASURED:])
    return (time.perf_counter() - began) / MEASURED


def rendered(work: Path | None) -> int:
    """How many pictures an earlier run kept."""
    from safetensors import SafetensorError, safe_open

    count = 0
    for file in sorted((work / "renders").rglob("*.safetensors")) if work else ():
        try:
            with safe_open(file, "pt") as opened:
                count += opened.get_slice("rows").get_shape()[0]
        except (OSError, SafetensorError):
            continue
    return count
