"""What all protocols of a benchmark share: who judges, on which faces, by which rulers; one value, made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ganvas.bench import Goal, Pool, dtype_name
from ganvas.bench.attributes import goal
from ganvas.bench.memory import Memory
from ganvas.bench.panel import Panel, Ruler, rulers
from ganvas.bench.plan import Plan
from ganvas.control import View
from ganvas.dataset import LatentDataset
from ganvas.distribution import Distribution, fit_distribution
from ganvas.errors import GanvasError
from ganvas.gaussianize import Gaussianize
from ganvas.generator import Generator
from ganvas.types import Scores, WPlus

POOL_STEP = 64
"""Fresh faces that are added at a time."""
FEWEST = 8
"""Faces that a protocol needs, where its plan asks for no fewer."""


@dataclass(frozen=True)
class Stage:
    """Everything but the editors. ``pool`` has the panel's rows of fresh faces; ``rulers[0]`` is the own scorer's."""

    generator: Generator
    panel: Panel
    data: LatentDataset
    plan: Plan
    pool: Pool
    within: Distribution
    rulers: tuple[Ruler, ...]
    gaps: tuple[str, ...]
    out: Path | None
    watch: Callable[[int], object] = lambda rendered: None
    asked: set[bytes] = field(default_factory=set)
    """The pictures that a run looked at, rendered now or before, by their codes' digests."""

    def view(self, *scope: str) -> View:
        """Codes as the panel sees them; what was rendered for ``scope`` before is known."""
        return view_of(self.generator, self.panel, self.plan, self.out, scope, self.watch, self.asked)

    def faces(self, goal: Goal, n: int) -> tuple[torch.Tensor, str]:
        """The first ``n`` faces of the pool that ``goal`` can be tried on, and the reason where they are too few."""
        column = self.panel.column(goal.attribute)
        if self.panel.kinds[column] != "probability":
            return torch.zeros(
                0, dtype=torch.long
            ), f"{goal.attribute} is a {self.panel.kinds[column]}, no probability."
        index = goal.lacking(torch.sigmoid(self.pool.scores[:, column])).nonzero()[:, 0]
        if len(index) < min(n, FEWEST):
            side = "lack" if goal.up else "have"
            needed = f"at least {min(n, FEWEST)} are needed"
            return index[:0], f"Only {len(index)} of {len(self.pool.scores)} faces {side} {goal.attribute}: {needed}."
        return index[:n], ""

    def codes(self, index: torch.Tensor) -> tuple[WPlus, Scores]:
        """Faces of the pool: their codes and the panel's rows."""
        return self.pool.codes(self.generator, index), self.pool.scores[index]

    def normal(self, attribute: str) -> Gaussianize:
        """The normal score of one attribute, as the own scorer's ruler has it. Raises GanvasError where it hasn't."""
        own = self.rulers[0]
        if attribute not in own.attributes:
            raise GanvasError(f"The labels don't know {attribute!r}, or its score is the same for every face.")
        return own.gaussianize.select([own.attributes.index(attribute)])


def set_up(
    generator: Generator,
    panel: Panel,
    data: LatentDataset,
    attributes: Sequence[str],
    plan: Plan,
    out: Path | None,
    watch: Callable[[int], object] = lambda rendered: None,
) -> Stage:
    """Score fresh faces until every attribute has enough that it can be tried on, or ``plan.pool_limit`` were scored."""
    asked: set[bytes] = set()
    view = view_of(generator, panel, plan, out, ("pool",), watch, asked)
    pool = Pool(torch.zeros(0, len(panel.attributes)), plan.seed, plan.psi)
    known = [goal(a) for a in attributes if panel.kinds[panel.column(a)] == "probability"]
    while len(pool.scores) < plan.pool or (
        len(pool.scores) < plan.pool_limit and any(len(pool.lacking(view, g)) < plan.first for g in known)
    ):
        most = plan.pool if len(pool.scores) < plan.pool else plan.pool_limit
        index = torch.arange(len(pool.scores), min(len(pool.scores) + POOL_STEP, most))
        more = view(pool.codes(generator, index)).cpu()
        pool = replace(pool, scores=torch.cat((pool.scores, more)))
    same = data.scorer == f"{panel.own.name}:{panel.own.fingerprint}"
    found, gaps = rulers(panel, pool.scores, data.gaussianize if same else None, data.attributes)
    within = fit_distribution(generator, plan.measured)
    return Stage(generator, panel, data, plan, pool, within, tuple(found), tuple(gaps), out, watch, asked)


def view_of(
    generator: Generator,
    panel: Panel,
    plan: Plan,
    out: Path | None,
    scope: Sequence[str],
    watch: Callable[[int], object],
    asked: set[bytes],
) -> View:
    """A view whose memory lies in ``out``/renders/``scope``."""
    about: dict[str, Any] = {
        "renders": 1,
        "generator": generator.fingerprint,
        "dtype": dtype_name(generator),
        "batch": plan.batch,
        "panel": panel.fingerprint,
    }
    file = out and out.joinpath("renders", *scope[:-1], f"{scope[-1]}.safetensors")
    return View(generator, panel, plan.batch, watch, Memory(file, about, len(panel.attributes), asked))
