"""Methods side by side on one face, each driven until the scorer sees the same change (``control.reach``)."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import torch

from ganvas import generators
from ganvas.app.scene import Scene
from ganvas.app.values import webp
from ganvas.app.workshop import Workshop
from ganvas.control import Ladder, View, reach
from ganvas.dataset import LatentDataset
from ganvas.edit import Editor
from ganvas.errors import GanvasError, unknown
from ganvas.generator import Generator
from ganvas.labels import load_labels, shipped_labels
from ganvas.pictures import shrink

FAST = ("mean_difference", "interfacegan", "balanced")
"""Methods that learn one attribute from the labels that ship while somebody waits."""
LADDER = Ladder(step=0.25, maximum=6.0)
SIDE = 256


@dataclass(frozen=True)
class Compared:
    """What one method did; ``picture`` None where it couldn't be had."""

    name: str
    picture: bytes | None
    told: str


class Methods:
    """Editors by name for one generator at a time: those that are here, and those that are learned when first asked for."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self._learned: dict[tuple[str, str, str], Editor] = {}
        self._labels: dict[str, LatentDataset] = {}
        self._lock = threading.Lock()

    def names(self, generator: str) -> list[str]:
        """What can be compared."""
        return [*self._shop.editors_of(generator), *(FAST if _labelled(generator) else ())]

    def learn(self, network: Generator, name: str, attribute: str) -> Editor:
        """The editor called ``name``, which knows ``attribute``. Called beside the worker: others go on meanwhile.

        Raises GanvasError for unknown names, and where the attribute can't be learned.
        """
        if name in (here := self._shop.editors_of(network.name)):
            return here[name].editor
        if name not in self.names(network.name):
            raise unknown("method", name, self.names(network.name))
        from ganvas import editors

        with self._lock:
            key = (network.name, name, attribute)
            if key not in self._learned:
                if network.name not in self._labels:
                    pack = shipped_labels(network.name, generators.card(network.name).scorer)
                    self._labels = {network.name: load_labels(pack, network)}
                data = self._labels[network.name]
                self._learned[key] = editors.fit(name, data, network, attributes=[attribute])
            return self._learned[key]


def _labelled(generator: str) -> bool:
    if generator not in generators.generator_names():
        return False
    return shipped_labels(generator, generators.card(generator).scorer).exists()


@torch.no_grad()
def compare(shop: Workshop, scene: Scene, name: str, editor: Editor, attribute: str, change: float) -> Compared:
    """Drive one method until the scorer sees the attribute ``change`` σ further than in the face itself."""
    bench, found = shop.bench(scene), shop.choices[scene.editor].editor
    if attribute not in editor.attributes or attribute not in bench.scorer.attributes:
        return Compared(name, None, f"{name}: doesn't know {attribute}")
    tools = shop.tools(scene.plain)
    ws, view = shop.render(scene.plain).ws, View(tools.generator, bench.scorer)
    start = shop.scores(scene.plain)
    normal = found.gaussianize.select([found.attributes.index(attribute)])
    column = bench.scorer.column(attribute)
    goal = normal.inverse(normal(start[:, [column]]) + change)[0, 0]
    target = torch.sigmoid(goal) if bench.scorer.kinds[column] == "probability" else goal
    done = reach(editor, view, ws, attribute, target.to(ws), start=start, ladder=LADDER, within=bench.within)
    picture = webp(shrink(tools.generator.synthesis(done.codes), min(SIDE, tools.generator.resolution)))
    others = _drift(found, bench.scorer.attributes, start, done.scores, attribute)
    there = "" if bool(done.arrived[0]) else ", not there yet"
    return Compared(
        name, picture, f"{name}: {float(done.strengths[0]):+.2f} σ asked{there}, others moved {others:.2f} σ"
    )


def _drift(
    editor: Editor, attributes: tuple[str, ...], before: torch.Tensor, after: torch.Tensor, attribute: str
) -> float:
    names = [name for name in editor.attributes if name in attributes and name != attribute]
    if not names:
        return 0.0
    columns = [attributes.index(name) for name in names]
    normal = editor.gaussianize.select([editor.attributes.index(name) for name in names])
    return float((normal(after[:, columns]) - normal(before[:, columns])).abs().mean())


def check(shop: Workshop, scene: Scene, attribute: str, change: float, names: list[str]) -> None:
    """Raises GanvasError for what can't be compared."""
    if not scene.editor or attribute not in shop.choices[scene.editor].sliders:
        known = shop.choices[scene.editor].sliders if scene.editor else ["none: there is no editor"]
        raise unknown("attribute", attribute, known)
    if not 0.25 <= abs(change) <= 3:
        raise GanvasError(f"Methods are compared at changes of 0.25 to 3 σ either way, not {change:g}.")
    if not names:
        raise GanvasError("Pick the methods to compare.")
