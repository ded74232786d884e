"""Cardinality: adds and removes objects by z' = z + α·H(z), H linear, taught by a latent classifier of counts.

Perla Doubinsky, Nicolas Audebert, Michel Crucianu and Hervé Le Borgne, *Contrôle de la cardinalité par navigation dans
l'espace latent des GANs*, RFIAP 2022, https://cea.hal.science/cea-04852483. Section 2:

    L = loss(C(z'), y + α) + λ·‖z' - z‖₂        y = C(z);  α = ±1, drawn so that y + α is a count that there is

C is a classifier of codes, learned first; loss is a mean squared error or a cross-entropy. A change of 1 is one object; of
more, successive unit moves; a fraction scales the last of them. ``expected_counts`` is what C expects, in objects. It learns from
any attribute whose scores are whole numbers: a count, or how many there are of one class (add a 7, remove a 3).

Three recipes: "paper" as above, in W or W+ (``space``); "ensemble" adds what the paper lacks or plans (each is an option):
H for adding apart from H for removing, several classifiers that must agree, which are kept smooth, moves along the
leading principal components only (``data.pca``), in small successive steps (``pieces``), and gains with which most of held-out
codes' moves are right (or, ``gain=reading``, with which what is read moves by 1); "best" has no H: each code climbs by itself
to where such classifiers see the count that it is to have (``climb``). λ is per root mean square distance of codes from
their mean, so that it means the same for any generator.
``preserve`` weighs a loss that keeps what was there: where objects are added, the number of none of the ``parts`` (other
counted attributes, like digits of each class) may fall, and where they're removed, none may rise; where the moved
attribute isn't their sum, they stay. ``density`` weighs how much farther from the mean (in Mahalanobis distance over the
coordinates) codes get. ``generators.stylegan2.rows`` of W+ are free, or those of one resolution move together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ganvas.data.dataset import LatentDataset
from ganvas.editors._cardinality_config import complete_config, parse_config
from ganvas.editors._cardinality_moves import CodeVectors, CountDirections
from ganvas.editors._cardinality_optimizer import CodeOptimizer, MoveCosts, Preservation
from ganvas.editors._cardinality_training import CountTraining, prepare_training, train_directions
from ganvas.editors._count_classifier import HIDDEN, CountClassifier, CountRanges, expected_counts
from ganvas.editors._fit import FitProgress
from ganvas.editors.base import Editor, EditorMetadata, editor_metadata, load_module
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator
from ganvas.types import Scores, W, WPlus

NEEDS = "labels that are whole numbers"
"""What it learns from."""

METHOD, KINDS = "cardinality", ("count",)
"""Its name, and the kinds of scores that it learns from unless attributes are named."""
MAX_MOVES = 32
"""Objects that may be added or removed at once."""
RECIPES: dict[str, dict[str, Any]] = {
    "paper": {},
    "ensemble": {"signs": 2, "classifiers": 3, "dropout": 0.2, "noise": 0.1, "pca": 100, "pieces": 2, "gain": "right"},
    "best": {
        "climb": 40,
        "rate": 0.1,
        "pca": 64,
        "classifiers": 3,
        "hidden": (256, 256),
        "dropout": 0.2,
        "decay": 0.1,
        "noise": 0.1,
        "knowledge": 3000,
        "preserve": 0.5,
    },
}


@final
class CardinalityEditor(Editor):
    """``classifiers`` say where codes stand, ``moves`` is H (None where codes climb), ``places`` the vectors that both see
    codes as, ``keeper`` a classifier of the parts that are to stay while codes climb."""

    def __init__(
        self,
        about: EditorMetadata,
        places: CodeVectors,
        moves: CountDirections | None,
        classifiers: list[CountClassifier],
        keeper: CountClassifier | None = None,
    ) -> None:
        super().__init__()
        self.describe(about)
        self.places, self.moves, self.classifiers, self.keeper = places, moves, nn.ModuleList(classifiers), keeper

    def shift(self, w: W, changes: Scores) -> W:
        """What the rows' mean moves by, of codes whose rows are all ``w``."""
        rows = sum(map(len, self.places.groups))
        return self.shifts(w[:, None].expand(-1, rows, -1), changes).mean(1)

    def shifts(self, ws: WPlus, changes: Scores) -> Float[Tensor, "n rows w_dim"]:
        """Successive unit moves. Raises GanvasError for too many, and for codes of another number of rows."""
        if changes.abs().max() > MAX_MOVES:
            raise GanvasError(f"A change of {float(changes.abs().max()):g} objects is too much: {MAX_MOVES} at most.")
        places, codes = self.places, self._vectors(ws)
        if self.moves is None:
            return places.spread(self.climber.move(codes, changes))
        return places.spread(places.unproject(self.moves.move(places.project(codes), changes)))

    def read(self, ws: WPlus) -> Scores:
        """How many objects the classifiers expect, with a fraction where they aren't sure."""
        return expected_counts(self.networks, self._vectors(ws))

    @property
    def networks(self) -> list[CountClassifier]:
        """The classifiers."""
        return [network for network in self.classifiers if isinstance(network, CountClassifier)]

    @property
    def climber(self) -> CodeOptimizer:
        """How codes climb."""
        o = self.options
        care = Preservation(tuple(o["one_sided"]), tuple(o["own"]))
        costs = MoveCosts(o["weight"], o["density"], o["preserve"], o["scale"])
        return CodeOptimizer(self.places, self.networks, self.keeper, care, costs, o["climb"], o["rate"])

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
    watch: FitProgress = lambda step, steps: None,
    **options: Any,
) -> CardinalityEditor:
    """Learn to count and to move; ``options`` are the fields of ``Options``, on top of the ``recipe.model``.

    ``attributes``: only these, in this order; by default all counts. ``watch`` hears of each step of H. What was measured
    on held-out codes is the editor's ``report``.
    Raises GanvasError for unknown or impossible options, too few codes, and attributes that aren't whole numbers.
    """
    if recipe not in RECIPES:
        raise unknown("recipe", recipe, RECIPES)
    settings = complete_config(parse_config({**RECIPES[recipe], **options}), data, generator)
    if attributes is None:
        attributes = [name for name, kind in zip(data.attributes, data.kinds, strict=True) if kind in KINDS]
        if not attributes:
            raise GanvasError("The labels have no counts: name attributes whose scores are whole numbers.")
    course = prepare_training(data, generator, tuple(attributes), settings)
    moves = None if settings.climb else train_directions(course, watch)
    known = editor_metadata(METHOD, data.select(tuple(attributes)), generator, _options(course, recipe), {})
    keeper = course.keeper if settings.climb else None
    editor = CardinalityEditor(replace(known, space=settings.space), course.places, moves, course.classifiers, keeper)
    editor.to(generator.device).requires_grad_(False)
    editor.report = _report(editor, course)
    return editor


def from_tensors(tensors: Mapping[str, Tensor], about: EditorMetadata) -> CardinalityEditor:
    """The editor of a file. Raises GanvasError where tensors and options don't belong together."""
    try:
        with torch.device("meta"):
            editor = _unfilled(about)
    except KeyError as error:
        raise GanvasError(f"The editor's file is damaged: its options lack {error}.") from None
    except (TypeError, ValueError, OverflowError, RuntimeError, AttributeError):
        raise GanvasError("The editor's file is damaged: its options aren't a cardinality editor's.") from None
    load_module(editor, tensors)
    return editor.eval()


def _options(course: CountTraining, recipe: str) -> dict[str, Any]:
    settings, heads = asdict(course.options), course.classifiers[0].heads
    sizes = {"groups": [list(group) for group in course.places.groups], "coordinates": len(course.places.deviations)}
    ranges = {"lows": list(heads.lows), "highs": list(heads.highs)}
    climbing: dict[str, Any] = {}
    if course.options.climb:
        climbing = {"one_sided": list(course.care.one_sided), "own": list(course.care.own), "scale": course.scale}
        if course.keeper is not None:
            kept = course.keeper.heads
            climbing |= {"kept_lows": list(kept.lows), "kept_highs": list(kept.highs)}
    return {
        "recipe": recipe,
        **settings,
        **sizes,
        **ranges,
        **climbing,
        "hidden": list(settings["hidden"]),
        "parts": list(settings["parts"]),
    }


def _unfilled(about: EditorMetadata) -> CardinalityEditor:
    """The editor that ``about.options`` tells of. Raises KeyError, TypeError or ValueError where they are damaged."""
    o, k = about.options, len(about.attributes)
    groups, coordinates = tuple(tuple(map(int, group)) for group in o["groups"]), o["coordinates"]
    heads = CountRanges(tuple(map(int, o["lows"])), tuple(map(int, o["highs"])))
    numbers = len(groups) * about.probe.weight.shape[0]
    rows = sorted(row for group in groups for row in group)
    if len(heads.lows) != k or len(heads.highs) != k or not rows or rows != list(range(len(rows))):
        raise ValueError
    if any(high <= low for low, high in zip(heads.lows, heads.highs, strict=True)) or not 1 <= coordinates <= numbers:
        raise ValueError
    if (
        o["signs"] not in (1, 2)
        or not 1 <= o["classifiers"] <= 100
        or not 1 <= o["pieces"] <= 100
        or heads.classes > 300
    ):
        raise ValueError
    basis = torch.empty(coordinates, numbers) if o["pca"] else None
    places = CodeVectors(groups, torch.empty(numbers), torch.empty(coordinates), basis)
    moves = None if o["climb"] else CountDirections(k, coordinates, o["signs"], o["width"], o["pieces"])
    hidden = tuple(map(int, o["hidden"])) or HIDDEN[o["space"]]
    networks = [CountClassifier(numbers, heads, o["loss"], hidden) for _ in range(o["classifiers"])]
    return CardinalityEditor(about, places, moves, networks, _keeper(o, numbers, k, hidden))


def _keeper(o: Mapping[str, Any], numbers: int, attributes: int, hidden: tuple[int, ...]) -> CountClassifier | None:
    """The classifier of what stays while codes climb. Raises KeyError, TypeError or ValueError where ``o`` is damaged."""
    if not o["climb"]:
        return None
    costs = (o["rate"], o["weight"], o["density"], o["preserve"], o["scale"])
    if (
        type(o["climb"]) is not int
        or not 1 <= o["climb"] <= 1000
        or not all(0 <= cost < float("inf") for cost in costs)
        or o["scale"] <= 0
    ):
        raise ValueError
    if len(o["one_sided"]) != attributes or not all(type(flag) is bool for flag in o["one_sided"]):
        raise ValueError
    if len(o["own"]) != attributes or not all(type(own) is int for own in o["own"]):
        raise ValueError
    if "kept_lows" not in o:
        return None
    heads = CountRanges(tuple(map(int, o["kept_lows"])), tuple(map(int, o["kept_highs"])))
    if len(heads.lows) != len(heads.highs) or not all(-1 <= own < len(heads.lows) for own in o["own"]):
        raise ValueError
    if any(high <= low for low, high in zip(heads.lows, heads.highs, strict=True)) or heads.classes > 300:
        raise ValueError
    return CountClassifier(numbers, heads, o["loss"], hidden)


@torch.no_grad()
def _report(editor: CardinalityEditor, course: CountTraining) -> dict[str, Any]:
    """What is said about held-out codes: how often classifiers are right, and how often a unit move is, as they judge."""

    def named(values: Tensor) -> dict[str, float]:
        return {name: round(float(value), 4) for name, value in zip(editor.attributes, values, strict=True)}

    learned, held = course.learned, course.held
    found: dict[str, Any] = {"trained_on": len(learned.codes), "held_out": len(held.codes)}
    found["classifier_train"] = named(course.accuracy(learned))
    found["classifier_test"] = named(course.accuracy(held))
    for sign, name in ((1, "added"), (-1, "removed")):
        rates = [course.judged(editor.moves, held, k, sign) for k in range(len(editor.attributes))]
        found[name] = named(torch.stack([rate[0] for rate in rates]))
        found[f"length_{name}"] = named(torch.stack([rate[1] for rate in rates]))
    return found
