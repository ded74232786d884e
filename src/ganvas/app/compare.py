"""Methods side by side on one face, each driven until the scorer sees the same change (``control.search.reach_target``)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ganvas import generators
from ganvas.app.component_values import encode_webp
from ganvas.app.resources import AppResources
from ganvas.app.scene import Scene
from ganvas.control.search import ScoredView, StrengthLadder, reach_target
from ganvas.data.dataset import LatentDataset
from ganvas.data.label_files import load_labels, shipped_labels_path
from ganvas.editors.base import Editor
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator
from ganvas.io.images import downscale

FAST_METHODS = ("mean_difference", "interfacegan", "balanced")
"""Methods that learn one attribute from the labels that ship while somebody waits."""
LADDER = StrengthLadder(step=0.25, maximum=6.0)
PICTURE_SIDE = 256
LEAST_CHANGE, MOST_CHANGE = 0.25, 3.0
"""σ, either way."""
MAX_FITTED_EDITORS = 16
"""Editors that are kept, of those learned here."""


@dataclass(frozen=True)
class MethodResult:
    """What one method did; ``picture`` None where it couldn't be had."""

    name: str
    picture: bytes | None
    told: str


@dataclass(frozen=True)
class ComparisonTarget:
    """What each method is driven to: ``change`` σ of the attribute."""

    attribute: str
    change: float


class MethodEditors:
    """Editors by name for one generator at a time: those that are here, and those that are learned when first asked for."""

    def __init__(self, shop: AppResources) -> None:
        self._shop = shop
        self._learned: OrderedDict[tuple[str, str, str], Editor] = OrderedDict()
        self._labels: dict[str, LatentDataset] = {}

    def names(self, generator: str) -> list[str]:
        """What can be compared."""
        return [*self._shop.editors_of(generator), *(FAST_METHODS if _labelled(generator) else ())]

    def learn(self, network: Generator, name: str, attribute: str) -> Editor:
        """The editor called ``name``, which knows ``attribute``. Called by one thread beside the worker: others go on meanwhile.

        Raises GanvasError for unknown names, and where the attribute can't be learned.
        """
        if name in (here := self._shop.editors_of(network.name)):
            return here[name].editor
        if name not in self.names(network.name):
            raise unknown("method", name, self.names(network.name))
        from ganvas import editors

        key = (network.name, name, attribute)
        if key not in self._learned:
            if network.name not in self._labels:
                pack = shipped_labels_path(network.name, generators.find_card(network.name).scorer)
                self._labels = {network.name: load_labels(pack, network)}
            data = self._labels[network.name]
            self._learned[key] = editors.fit(name, data, network, attributes=[attribute])
            while len(self._learned) > MAX_FITTED_EDITORS:
                self._learned.popitem(last=False)
        self._learned.move_to_end(key)
        return self._learned[key]


def _labelled(generator: str) -> bool:
    if generator not in generators.list_generators():
        return False
    return shipped_labels_path(generator, generators.find_card(generator).scorer).exists()


@torch.no_grad()
def compare(
    shop: AppResources,
    scene: Scene,
    name: str,
    editor: Editor,
    asked: ComparisonTarget,
    draw: Callable[[Callable[[], Any]], Any] = lambda run: run(),
) -> MethodResult:
    """Drive one method until the scorer sees the attribute ``change`` σ further than in the face itself.

    ``draw`` calls what needs the generator: the search for a strength asks it for a few pictures, others come between.
    """
    attribute, found = asked.attribute, shop.choices[scene.editor].editor
    bench, tools, ws, start = draw(
        lambda: (shop.bench(scene), shop.tools(scene.plain), shop.render(scene.plain).ws, shop.scores(scene.plain))
    )
    if attribute not in editor.attributes or attribute not in bench.scorer.attributes:
        return MethodResult(name, None, f"{name}: doesn't know {attribute}")
    view = ScoredView(tools.generator, bench.scorer, cache=lambda codes, render: draw(lambda: render(codes)))
    normal = found.gaussianize.select([found.attributes.index(attribute)])
    column = bench.scorer.column(attribute)
    goal = normal.inverse(normal(start[:, [column]]) + asked.change)[0, 0]
    target = torch.sigmoid(goal) if bench.scorer.kinds[column] == "probability" else goal
    done = reach_target(editor, view, ws, attribute, target.to(ws), start=start, ladder=LADDER, within=bench.within)
    image = draw(torch.no_grad()(lambda: tools.generator.synthesis(done.codes)))
    picture = encode_webp(downscale(image, min(PICTURE_SIDE, tools.generator.resolution)))
    others = _drift(found, bench.scorer.attributes, start, done.scores, attribute)
    there = "" if bool(done.arrived[0]) else ", not there yet"
    return MethodResult(
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


def check_comparison(shop: AppResources, scene: Scene, attribute: str, change: float, names: list[str]) -> None:
    """Raises GanvasError for what can't be compared."""
    if not scene.editor or attribute not in shop.choices[scene.editor].sliders:
        known = shop.choices[scene.editor].sliders if scene.editor else ["none: there is no editor"]
        raise unknown("attribute", attribute, known)
    if not LEAST_CHANGE <= abs(change) <= MOST_CHANGE:
        raise GanvasError(
            f"Methods are compared at changes of {LEAST_CHANGE:g} to {MOST_CHANGE:g} σ either way, not {change:g}."
        )
    if not names:
        raise GanvasError("Pick the methods to compare.")
