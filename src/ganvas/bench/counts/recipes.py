"""The editors of counts that several sections use: the paper's, in both spaces and with both losses, and the best of ours."""

from __future__ import annotations

from typing import Any

from ganvas.bench.counts.fits import fitted
from ganvas.bench.counts.kept import inverted
from ganvas.bench.counts.stage import Stage
from ganvas.dataset import LatentDataset
from ganvas.edit import Editor

COUNT = ["count"]


def steps(stage: Stage, space: str) -> dict[str, int]:
    """How long networks learn: fewer steps in W+, where they are large."""
    size = stage.size
    if space == "w":
        return {"steps": size.steps, "knowledge": size.knowledge}
    return {"steps": size.plus, "knowledge": min(2 * size.plus, size.knowledge)}


def lessons(stage: Stage, space: str) -> LatentDataset:
    """What the paper learns from: sampled codes in W, inverted real images in W+; sampled ones where no images are there."""
    real = inverted(stage) if space == "w+" else None
    return stage.labels if real is None else real


def paper(stage: Stage, space: str, loss: str) -> Editor:
    """The paper's H."""
    options: dict[str, Any] = {"recipe": "paper", "space": space, "loss": loss, "attributes": COUNT}
    if space == "w+":
        options["hidden"] = list(stage.size.hidden)
    name = f"paper-{space.replace('+', '-plus')}-{loss}"
    return fitted(stage, name, lessons(stage, space), "cardinality", options | steps(stage, space))


def ours(stage: Stage) -> dict[str, Any]:
    """The options of the best of ours."""
    return {"recipe": "best", "classifiers": stage.size.classifiers, "knowledge": 2 * stage.size.knowledge}


def best(stage: Stage) -> Editor:
    """The best of ours. It learns all counts at once: who has to tell digits apart counts them better, too."""
    return fitted(stage, "best", stage.labels, "cardinality", ours(stage))


def ensemble(stage: Stage) -> Editor:
    """Ours with an H for all codes."""
    options = {"recipe": "ensemble", "classifiers": stage.size.classifiers} | steps(stage, "w")
    return fitted(stage, "ensemble", stage.labels, "cardinality", options | {"attributes": COUNT})
