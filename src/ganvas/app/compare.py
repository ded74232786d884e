"""Compare methods on one face, each at the strength at which the scorer reads the same change (``reach_target``)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ganvas import generators
from ganvas.app.attribute_words import get_sign
from ganvas.app.rendering import encode_picture
from ganvas.app.resources import AppResources
from ganvas.app.scene import Scene
from ganvas.control.search import CodeScorer, StrengthLadder, reach_target
from ganvas.data.dataset import LatentDataset
from ganvas.data.examples import label_by_examples
from ganvas.data.label_files import find_shipped_labels, load_labels
from ganvas.editors.base import Editor
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator
from ganvas.io.images import downscale

LADDER = StrengthLadder(step=0.25, maximum=6.0)
PICTURE_SIDE_PIXELS = 256
MIN_COMPARED_CHANGE, MAX_COMPARED_CHANGE = 0.25, 3.0
"""Absolute changes that can be compared, in σ."""
MAX_LEARNED_CODES = 8192
"""Labelled codes that an attribute of the visitor's own is learned from: fewer than there are, since somebody waits."""
MAX_FITTED_EDITORS = 16
"""Fitted editors that are kept in memory."""


@dataclass(frozen=True)
class MethodResult:
    """One method's picture; ``picture`` is None where the method can't be applied, and ``caption`` says why."""

    name: str
    picture: bytes | None
    caption: str


@dataclass(frozen=True)
class ComparisonTarget:
    """The change that each method is brought to: ``change`` σ of the attribute."""

    attribute: str
    change: float


class MethodEditors:
    """Editors by name, for one generator at a time: those that are installed, and those that are fitted when first needed."""

    def __init__(self, resources: AppResources) -> None:
        self._resources = resources
        self._fitted: OrderedDict[tuple[str, str, str], Editor] = OrderedDict()
        self._labels: dict[str, LatentDataset] = {}
        self._lock = threading.Lock()

    def list_methods(self, generator: str) -> list[str]:
        """Return the names of the editors and methods that can be compared."""
        from ganvas import editors

        fast = [method for method in editors.list_methods() if editors.is_fast(method)]
        return [*self._resources.find_editors(generator), *(fast if has_labels(generator) else [])]

    def load_or_fit(self, network: Generator, name: str, attribute: str) -> Editor:
        """Return the editor called ``name``, fitted on ``attribute`` where it isn't installed.

        Any thread may call it; others wait.
        Raises GanvasError for unknown names, and where the attribute can't be learned.
        """
        if name in (installed := self._resources.find_editors(network.name)):
            return installed[name].editor
        if name not in self.list_methods(network.name):
            raise unknown("method", name, self.list_methods(network.name))
        from ganvas import editors

        key = (network.name, name, attribute)
        with self._lock:
            if key not in self._fitted:
                self._fitted[key] = editors.fit(name, self._load_labels(network), network, attributes=[attribute])
                while len(self._fitted) > MAX_FITTED_EDITORS:
                    self._fitted.popitem(last=False)
            self._fitted.move_to_end(key)
            return self._fitted[key]

    def load_labels(self, network: Generator) -> LatentDataset:
        """Load the labels that ship for a generator, once. Any thread may call it; others wait."""
        with self._lock:
            return self._load_labels(network)

    def _load_labels(self, network: Generator) -> LatentDataset:
        if network.name not in self._labels:
            pack = find_shipped_labels(network.name, generators.find_card(network.name).scorer)
            self._labels = {network.name: load_labels(pack, network)}
        return self._labels[network.name]

    def learn_attribute(
        self, network: Generator, base: Editor, name: str, positive: list[int], negative: list[int]
    ) -> tuple[Editor, float]:
        """Learn an attribute from rows of the labels that have it and rows that lack it.

        Returns ``base`` with that attribute, and the cross-validated accuracy on the rows.
        """
        from ganvas import editors

        data = self.load_labels(network)
        few = data.subset(torch.arange(min(len(data), MAX_LEARNED_CODES)))
        labelled, accuracy = label_by_examples(few, name, positive, negative)
        return editors.extend_editor(base, editors.fit("interfacegan", labelled, network)), accuracy


def has_labels(generator: str) -> bool:
    """Return whether labels of a generator ship."""
    if generator not in generators.list_generators():
        return False
    return find_shipped_labels(generator, generators.find_card(generator).scorer).exists()


@torch.no_grad()
def compare_method(
    resources: AppResources,
    scene: Scene,
    name: str,
    editor: Editor,
    target: ComparisonTarget,
    run_with_generator: Callable[[Callable[[], Any]], Any] = lambda run: run(),
) -> MethodResult:
    """Edit the face with one method until the scorer reads the attribute ``change`` σ above the unedited face's.

    ``run_with_generator`` runs a function in the generator's thread: the search for a strength calls it for a few pictures at a
    time, so that other work comes between.
    """
    attribute, scene_editor = target.attribute, resources.require_choice(scene.editor).editor
    loaded, tools, ws, start = run_with_generator(
        lambda: (
            resources.load(scene),
            resources.make_tools(scene.unedited),
            resources.render(scene.unedited).ws,
            resources.score(scene.unedited),
        )
    )
    if attribute not in editor.attributes or attribute not in loaded.scorer.attributes:
        return MethodResult(name, None, f"{name} has no attribute {attribute}")
    code_scorer = CodeScorer(
        tools.generator, loaded.scorer, cache=lambda codes, render: run_with_generator(lambda: render(codes))
    )
    normal = scene_editor.gaussianize.select([scene_editor.attributes.index(attribute)])
    column = loaded.scorer.column(attribute)
    goal = normal.inverse(normal(start[:, [column]]) + target.change)[0, 0]
    goal = torch.sigmoid(goal) if loaded.scorer.kinds[column] == "probability" else goal
    done = reach_target(
        editor, code_scorer, ws, attribute, goal.to(ws), start=start, ladder=LADDER, within=loaded.distribution
    )
    image = run_with_generator(torch.no_grad()(lambda: tools.generator.synthesis(done.codes)))
    picture = encode_picture(downscale(image, min(PICTURE_SIDE_PIXELS, tools.generator.resolution)))
    others = _measure_drift(scene_editor, loaded.scorer.attributes, start, done.scores, attribute)
    reached = "" if bool(done.arrived[0]) else " (target not reached)"
    strength = float(done.strengths[0]) * get_sign(attribute) + 0.0
    caption = f"{name}: strength {strength:+.2f}{reached}, others moved {others:.2f}"
    return MethodResult(name, picture, caption)


def _measure_drift(
    editor: Editor, attributes: tuple[str, ...], before: torch.Tensor, after: torch.Tensor, attribute: str
) -> float:
    """Return the mean absolute change of the other attributes, in σ."""
    names = [name for name in editor.attributes if name in attributes and name != attribute]
    if not names:
        return 0.0
    columns = [attributes.index(name) for name in names]
    normal = editor.gaussianize.select([editor.attributes.index(name) for name in names])
    return float((normal(after[:, columns]) - normal(before[:, columns])).abs().mean())


def check_comparison(resources: AppResources, scene: Scene, attribute: str, change: float, names: list[str]) -> None:
    """Raise GanvasError for an attribute, a change or a list of methods that can't be compared."""
    if not scene.editor or attribute not in resources.require_choice(scene.editor).sliders:
        sliders = resources.require_choice(scene.editor).sliders if scene.editor else ["none: no editor is picked"]
        raise unknown("attribute", attribute, sliders)
    if not MIN_COMPARED_CHANGE <= abs(change) <= MAX_COMPARED_CHANGE:
        raise GanvasError(
            f"Methods are compared at changes of {MIN_COMPARED_CHANGE:g} to {MAX_COMPARED_CHANGE:g} either way,"
            f" not {abs(change):g}."
        )
    if not names:
        raise GanvasError("Pick the methods to compare.")
