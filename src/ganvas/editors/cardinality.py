"""Cardinality: adds and removes objects by z' = z + α·H(z), H linear, taught by a latent classifier of counts.

Perla Doubinsky, Nicolas Audebert, Michel Crucianu and Hervé Le Borgne, *Contrôle de la cardinalité par navigation dans
l'espace latent des GANs*, RFIAP 2022, https://cea.hal.science/cea-04852483. Section 2:

    L = loss(C(z'), y + α) + λ·‖z' - z‖₂        y = C(z);  α = ±1, drawn so that y + α is a count that there is

C is a classifier of codes, trained first; loss is a mean squared error or a cross-entropy. A change of 1 is one object; of
more, successive unit moves; a fraction scales the last of them. ``read`` returns what C expects, in objects. The method
takes any attribute whose scores are whole numbers: a count, or how many there are of one class (add a 7, remove a 3).

Three recipes: "paper" as above, in W or W+ (``space``); "ensemble" adds what the paper lacks or plans (each is an option):
H for adding apart from H for removing, several classifiers, regularised, whose loss is averaged, moves along the leading
principal components only (``pca``), in small successive steps (``pieces``), and gains with which most moves of held-out
codes are right (or, ``gain=reading``, with which the reading moves by 1); "best" has no H: each code is optimised by itself
until such classifiers expect the requested count (``optimization_steps``). λ is per root mean square distance of codes
from their mean, so that it means the same for any generator.
``preserve`` weighs a loss that keeps what was there: where objects are added, the number of none of the ``parts`` (other
counted attributes, like digits of each class) may fall, and where they're removed, none may rise; where the moved
attribute isn't their sum, they stay. ``density`` weighs how much farther from the mean (in Mahalanobis distance over the
coordinates) codes get. ``rows`` of W+ are "free", or those of one "resolution" move together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ganvas.data.dataset import LatentDataset
from ganvas.editors._cardinality_networks import (
    HIDDEN,
    CodeVectors,
    CountClassifier,
    CountDirections,
    CountRanges,
    compute_expected_counts,
    measure_count_accuracy,
)
from ganvas.editors._cardinality_training import (
    CardinalityConfig,
    CodeOptimizer,
    CountObjective,
    CountTraining,
    Preservation,
    StoredCardinality,
    complete_config,
    parse_options,
    prepare_training,
    train_directions,
)
from ganvas.editors._fit import restore_editor, update_options
from ganvas.editors._networks import copy_module
from ganvas.editors.base import Editor, EditorMetadata, build_metadata, format_report
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator
from ganvas.progress import Progress
from ganvas.types import Scores, W, WPlus

NEEDS = "labels that are whole numbers"
"""What the method learns from."""
REPORTS = ()
"""The parts of reports that the method is in beside the full comparison: none."""

METHOD, KINDS = "cardinality", ("count",)
"""The method's name, and the kinds of scores that it learns from unless attributes are named."""
MAX_MOVES = 32
"""The most objects that may be added or removed at once."""
RECIPES: dict[str, dict[str, Any]] = {
    "paper": {},
    "ensemble": {"signs": 2, "classifiers": 3, "dropout": 0.2, "noise": 0.1, "pca": 100, "pieces": 2, "gain": "right"},
    "best": {
        "optimization_steps": 40,
        "rate": 0.1,
        "pca": 64,
        "classifiers": 3,
        "hidden": (256, 256),
        "dropout": 0.2,
        "decay": 0.1,
        "noise": 0.1,
        "classifier_steps": 3000,
        "preserve": 0.5,
    },
}


@final
class CardinalityEditor(Editor):
    """A fitted cardinality editor.

    ``places``: the map from codes to vectors; ``classifiers``: C; ``moves``: H, None with ``optimization_steps``;
    ``keeper``: with these, the classifier of the parts that are to stay. Tensors in files have these modules' names.
    """

    may_fall_short = True

    def __init__(
        self,
        metadata: EditorMetadata,
        places: CodeVectors,
        moves: CountDirections | None,
        classifiers: list[CountClassifier],
        keeper: CountClassifier | None = None,
    ) -> None:
        super().__init__()
        self.set_metadata(metadata)
        self.places, self.moves, self.classifiers, self.keeper = places, moves, nn.ModuleList(classifiers), keeper
        ranges = self.networks[0].ranges
        self.limits = f"It learned {self.attributes[0]} from {ranges.lows[0]} to {ranges.highs[0]}."

    def shift(self, w: W, changes: Scores) -> W:
        """Return what the rows' mean moves by, for codes whose rows are all ``w``."""
        rows = sum(map(len, self.places.groups))
        return self.shift_rows(w[:, None].expand(-1, rows, -1), changes).mean(1)

    def shift_rows(self, ws: WPlus, changes: Scores) -> Float[Tensor, "n rows w_dim"]:
        """Return the sum of successive unit moves. Raises GanvasError for too many, and for codes of another number of rows."""
        if changes.abs().max() > MAX_MOVES:
            raise GanvasError(f"A change of {float(changes.abs().max()):g} objects is too much: {MAX_MOVES} at most.")
        places, codes = self.places, self._vectors(ws)
        if self.moves is None:
            return places.expand_rows(self.optimizer.move(codes, changes))
        return places.expand_rows(places.unproject_move(self.moves.move(places.project(codes), changes)))

    def read(self, ws: WPlus) -> Scores:
        """Return how many objects the classifiers expect, with a fraction where they aren't sure."""
        return compute_expected_counts(self.networks, self._vectors(ws))

    @property
    def networks(self) -> list[CountClassifier]:
        """The classifiers, as their own type."""
        return [network for network in self.classifiers if isinstance(network, CountClassifier)]

    @property
    def optimizer(self) -> CodeOptimizer:
        """The optimiser of codes, with ``optimization_steps``."""
        o = update_options(self.options)
        preservation = Preservation(tuple(o["one_sided"]), tuple(o["part_columns"]))
        costs = (o[name] for name in ("weight", "density", "preserve", "scale"))
        return CodeOptimizer(
            CountObjective(self.places, self.networks, self.keeper, preservation, *costs),
            o["optimization_steps"],
            o["rate"],
        )

    def with_search_steps(self, steps: int) -> Editor:
        """Return the same editor, but optimising each code for ``steps`` steps.

        Raises GanvasError for a number that isn't from 1 to 1000, and for an editor that moves codes by H.
        """
        if self.moves is not None:
            return super().with_search_steps(steps)
        if not 1 <= steps <= 1000:
            raise GanvasError(f"The number of steps is 1 to 1000, not {steps}.")
        other = copy_module(self)
        other.options = {**update_options(self.options), "optimization_steps": steps}
        return other

    def _vectors(self, ws: WPlus) -> Tensor:
        rows = sum(map(len, self.places.groups))
        if len(self.places.groups) > 1 and ws.shape[1] != rows:
            raise GanvasError(f"This editor is for codes of {rows} rows, not of {ws.shape[1]}.")
        return ws.mean(1) if len(self.places.groups) == 1 else self.places.flatten(ws)


def fit(
    data: LatentDataset,
    generator: Generator,
    *,
    recipe: str = "best",
    attributes: tuple[str, ...] | list[str] | None = None,
    progress: Progress = lambda step, steps: None,
    **options: Any,
) -> CardinalityEditor:
    """Train the classifiers and H; ``options`` are the fields of ``CardinalityConfig``, on top of the ``recipe``.

    ``attributes``: only these, in this order; by default all counts. ``progress`` is called after each step of H.
    Measurements on held-out codes are in the editor's ``report``.
    Raises GanvasError for unknown or impossible options, too few codes, and attributes that aren't whole numbers.
    """
    if recipe not in RECIPES:
        raise unknown("recipe", recipe, RECIPES)
    settings = complete_config(parse_options({**RECIPES[recipe], **options}), data, generator)
    if attributes is None:
        attributes = [name for name, kind in zip(data.attributes, data.kinds, strict=True) if kind in KINDS]
        if not attributes:
            raise GanvasError("The labels have no counts: name attributes whose scores are whole numbers.")
    training = prepare_training(data, generator, tuple(attributes), settings)
    moves = None if settings.optimization_steps else train_directions(training, progress)
    metadata = build_metadata(METHOD, data.select(tuple(attributes)), generator, _collect_options(training, recipe), {})
    objective = training.objective
    editor = CardinalityEditor(
        replace(metadata, space=settings.space),
        objective.code_vectors,
        moves,
        objective.classifiers,
        objective.part_classifier if settings.optimization_steps else None,
    )
    editor.to(generator.device).requires_grad_(False)
    editor.report = _measure_report(editor, training)
    return editor


def from_tensors(tensors: Mapping[str, Tensor], metadata: EditorMetadata) -> CardinalityEditor:
    """Build the editor from a file. Raises GanvasError where its tensors and options don't match."""
    return restore_editor(lambda: _build_empty(metadata), tensors, metadata.method)


def _collect_options(training: CountTraining, recipe: str) -> dict[str, Any]:
    """Return what an editor stores: the config, and what was computed from the labels."""
    config, objective = asdict(training.config), training.objective
    options = config | {
        "recipe": recipe,
        "groups": [list(group) for group in objective.code_vectors.groups],
        "coordinates": len(objective.code_vectors.deviations),
        "lows": list(objective.ranges.lows),
        "highs": list(objective.ranges.highs),
        "hidden": list(config["hidden"]),
        "parts": list(config["parts"]),
    }
    if training.config.optimization_steps:
        preservation = objective.preservation
        options |= {"one_sided": list(preservation.one_sided), "part_columns": list(preservation.part_columns)}
        options["scale"] = objective.scale
        if objective.part_classifier is not None:
            kept = objective.part_classifier.ranges
            options |= {"kept_lows": list(kept.lows), "kept_highs": list(kept.highs)}
    return options


def _build_empty(metadata: EditorMetadata) -> CardinalityEditor:
    """Build an editor by ``metadata.options``. Raises KeyError, GanvasError or ValueError where they are damaged."""
    required, options = CardinalityConfig.__dataclass_fields__, update_options(metadata.options)
    names = [each for each in StoredCardinality.__dataclass_fields__ if each in required or each in options]
    o = StoredCardinality(**{name: options[name] for name in names})
    k, numbers = len(metadata.attributes), len(o.groups) * metadata.probe.weight.shape[0]
    ranges, rows = CountRanges(o.lows, o.highs), sorted(row for group in o.groups for row in group)
    if len(o.lows) != k or not rows or rows != list(range(len(rows))) or o.coordinates > numbers:
        raise ValueError
    basis = torch.empty(o.coordinates, numbers) if o.pca else None
    places = CodeVectors(o.groups, torch.empty(numbers), torch.empty(o.coordinates), basis)
    hidden = o.hidden or HIDDEN[o.space]
    networks = [CountClassifier(numbers, ranges, o.loss, hidden) for _ in range(o.classifiers)]
    if not o.optimization_steps:
        return CardinalityEditor(
            metadata, places, CountDirections(k, o.coordinates, o.signs, o.width, o.pieces), networks
        )
    columns, kept = o.part_columns, CountRanges(o.kept_lows, o.kept_highs)
    if len(o.one_sided) != k or len(columns) != k or not all(-1 <= column < len(kept.lows) for column in columns):
        raise ValueError
    part_classifier = CountClassifier(numbers, kept, o.loss, hidden) if kept.lows else None
    return CardinalityEditor(metadata, places, None, networks, part_classifier)


@torch.no_grad()
def _measure_report(editor: CardinalityEditor, training: CountTraining) -> dict[str, Any]:
    """Measure the report: how often classifiers are right, and how often unit moves are, as they judge."""
    training_set, held_out = training.training_set, training.held_out
    parts, first = {"classifier_train": training_set, "classifier_test": held_out}, editor.networks[0]
    tables = {name: measure_count_accuracy(first, part.codes, part.counts) for name, part in parts.items()}
    for sign, name in ((1, "added"), (-1, "removed")):
        rates = [training.measure_moves(editor.moves, held_out, k, sign) for k in range(len(editor.attributes))]
        tables[name], tables[f"length_{name}"] = (torch.stack([rate[i] for rate in rates]) for i in range(2))
    sizes = {"trained_on": len(training_set.codes), "held_out": len(held_out.codes)}
    return sizes | format_report(editor.attributes, **tables)
