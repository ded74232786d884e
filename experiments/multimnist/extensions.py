"""Beyond the paper: what makes W+ work, classes of one's own choice, keeping what was there, and the compact space.

The paper's hypotheses of why nothing could be learned in W+ are its section 3: clusters on manifolds too far apart, and a W+
too large for so simple a data set. The rest is its section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.multimnist import editors
from experiments.multimnist.context import CountContext
from experiments.multimnist.fits import fit_or_load
from experiments.multimnist.section import ReportSection, SectionTable
from experiments.multimnist.trials import (
    Move,
    MoveTrial,
    TrialCodes,
    estimate_rate,
    format_rate,
    join_trials,
    make_editor_move,
    make_random_move,
    measure_row_spread,
    run_move,
    sample_sure_codes,
    summarise_trials,
)
from ganvas.editors.base import Editor
from ganvas.stats import Estimate
from ganvas.types import WPlus

NAME, TITLE = "ways", "Beyond the paper"
MIXED_CODES = "ours: each code climbs, rows tied, learned from sampled codes and all counts, too"
W_PLUS_VARIANTS: dict[str, dict[str, Any]] = {
    "as the paper": {},
    "100 principal components": {"pca": 100},
    "100 components, density term": {"pca": 100, "density": 1.0},
    "100 components, four small steps": {"pca": 100, "pieces": 4},
    "rows tied by resolution": {"rows": "resolution"},
    "rows tied, 100 components, apart signs, three classifiers that are kept smooth": {
        "rows": "resolution",
        "pca": 100,
        "signs": 2,
        "classifiers": 3,
        "dropout": 0.2,
        "noise": 0.1,
        "gain": "right",
    },
    "ours: each code climbs": {"recipe": "best"},
    "ours: each code climbs, rows tied by resolution": {"recipe": "best", "rows": "resolution"},
    MIXED_CODES: {"recipe": "best", "rows": "resolution", "attributes": None},
}
"""Row of the table on W+ -> the options that it changes in the paper's recipe with cross-entropy."""
W_PLUS_AIM, CLASS_AIM = 0.7, 0.6
PRESERVE_WEIGHT = 1.0
"""The weight of the loss that preserves the objects of a picture."""
SHAPES = ("place_x", "place_y", "stroke", "slant")
"""Attributes that the compact space learns, too, and that a move of the count should leave alone."""


def run(context: CountContext) -> ReportSection:
    """Make all four tables."""
    cases = sample_sure_codes(context, context.config.others)
    tables, data = [], {}
    for name, part in (
        ("plus", compare_w_plus),
        ("classes", measure_classes),
        ("keeping", compare_preservation),
        ("best", compare_editors),
    ):
        table, rows = part(context, cases)
        tables.append(table)
        data[name] = rows
    best = max(data["plus"][: len(W_PLUS_VARIANTS)], key=lambda row: row["both"].mean)
    aims = [describe_aim("count right after ±1, the best in W+ (chosen on these codes)", W_PLUS_AIM, best["both"])]
    if data["classes"]:
        aims.append(describe_aim("a chosen class right after ±1, all classes", CLASS_AIM, data["classes"][-1]["both"]))
    intro = (
        f"Each way moved the same {len(cases.ws):,} fresh codes whose count the counter is sure of, and was judged by the counter"
        " on the pictures, as above."
    )
    return ReportSection(NAME, TITLE, intro, tuple(tables), {}, {"aims": aims, **data})


def compare_w_plus(context: CountContext, cases: TrialCodes) -> tuple[SectionTable, list[dict[str, Any]]]:
    """Compare editors in W+ by the paper's hypotheses; all train for as many steps as in W."""
    (data, inverted), rows = editors.choose_training_codes(context, "w+"), []
    base: dict[str, Any] = {"recipe": "paper", "space": "w+", "loss": "ce", "attributes": editors.COUNT}
    base |= {"hidden": list(context.config.hidden)} | editors.get_training_steps(context)
    for name, change in W_PLUS_VARIANTS.items():
        options = base | change
        if change.get("recipe") == "best":
            options = (
                editors.get_best_options(context)
                | {"space": "w+", "attributes": editors.COUNT, "hidden": [256, 256]}
                | change
            )
        source = editors.mix_training_codes(context) if name == MIXED_CODES else data
        if change:
            editor = fit_or_load(context, f"plus-{len(rows)}", source, "cardinality", options)
        else:
            editor = editors.fit_paper(context, "w+", "ce")
        reads = estimate_rate(find_correct_readings(context, cases, editor))
        rows.append(try_move(context, cases, name, make_editor_move(editor)) | {"reads": reads})
    random = make_random_move(context, make_editor_move(editor))
    rows.append(try_move(context, cases, "random, as long as the last", random) | {"reads": None})
    if inverted:
        same = editors.fit_paper(context, "w", "ce", inverted=True)
        row = try_move(context, cases, "the same images in W, as the paper", make_editor_move(same))
        rows.append(row | {"reads": estimate_rate(find_correct_readings(context, cases, same))})
    head = ("W+", "right", "+1", "−1", "kept", "sure", "beyond", "rows apart", "reads fresh codes")
    cells = [(row["name"], *map(format_rate, (row[k] for k in (*COLUMNS_SHOWN, "apart", "reads")))) for row in rows]
    learned = "codes of real images, inverted" if inverted else "sampled codes, whose rows are equal"
    note = (
        f"Learned from {len(data):,} {learned}; one of ours also from sampled ones,"
        f" {editors.MAX_SAMPLED_PER_INVERTED} to one at most. Rows apart: the distance of a moved code's rows from their mean, in"
        " those of codes from theirs. Reads fresh codes: the share of the codes to be moved whose count the latent"
        f" classifiers know. An H learned for {base['steps']:,} steps, as in W, and classifiers for"
        f" {base['classifier_steps']:,}, ours for {2 * context.config.classifier_steps:,}."
    )
    return SectionTable("W+: the paper's hypotheses", head, cells, note), rows


def measure_classes(context: CountContext, cases: TrialCodes) -> tuple[SectionTable, list[dict[str, Any]]]:
    """Measure changes of the count of one class, by one."""
    classes = [name for name in context.classes if name in context.labels.attributes]
    head = ("class", "right", "one more", "one less", "kept of the others", "sure", "beyond")
    if not classes:
        return SectionTable("A chosen class", head, [], "The counter tells no classes apart."), []
    editor = editors.fit_best(context)
    trials: dict[int, list[MoveTrial]] = {1: [], -1: []}
    rows = []
    for name in classes:
        pair = {alpha: run_move(context, cases, make_editor_move(editor, name), alpha, name) for alpha in (1, -1)}
        rows.append(summarise_unit_moves(context, name, pair))
        for alpha, trial in pair.items():
            trials[alpha].append(trial)
    rows.append(summarise_trials(context, "all", trials[1], trials[-1]))
    cells = [(row["name"], *map(format_rate, (row[k] for k in COLUMNS_SHOWN))) for row in rows]
    note = "Right: one more, or one less, of the class, by the counter's class counts; the whole count stays within its range."
    return SectionTable("A chosen class: add a 7, remove a 3", head, cells, note), rows


def compare_preservation(context: CountContext, cases: TrialCodes) -> tuple[SectionTable, list[dict[str, Any]]]:
    """Compare the paper's H and ours with a loss that preserves the objects of a picture, and without."""
    options = {"recipe": "paper", "space": "w", "loss": "ce", "attributes": editors.COUNT, "preserve": PRESERVE_WEIGHT}
    preserving = fit_or_load(
        context, "keeping", context.labels, "cardinality", options | editors.get_training_steps(context)
    )
    loose = editors.get_best_options(context) | {"preserve": 0.0}
    free = fit_or_load(context, "free", context.labels, "cardinality", loose)
    ways = {
        "the paper's H, without": editors.fit_paper(context, "w", "ce"),
        f"the paper's H, with, weight {PRESERVE_WEIGHT:g}": preserving,
        "ours, without": free,
        "ours, with": editors.fit_best(context),
    }
    rows = [try_move(context, cases, name, make_editor_move(editor)) for name, editor in ways.items()]
    cells = [(row["name"], *map(format_rate, (row[k] for k in COLUMNS_SHOWN))) for row in rows]
    note = "The loss punishes every class of which there are fewer after an addition, or more after a removal."
    return SectionTable("A loss that keeps what was there", ("way, and loss", *HEAD), cells, note), rows


def compare_editors(context: CountContext, cases: TrialCodes) -> tuple[SectionTable, list[dict[str, Any]]]:
    """Compare H, ours and the compact space."""
    names = [n for n in ("count", *context.classes, *SHAPES) if n in context.labels.attributes]
    compact = fit_or_load(context, "compact", context.labels, "compact", {"attributes": names})
    ways: dict[str, Move] = {
        "the paper's H (W, cross-entropy)": make_editor_move(editors.fit_paper(context, "w", "ce")),
        "ours": make_editor_move(editors.fit_best(context)),
        "ours, with an H for all codes": make_editor_move(editors.fit_ensemble(context)),
        "the compact space": make_normal_score_move(compact, context),
    }
    rows = [try_move(context, cases, name, move) for name, move in ways.items()]
    shapes = [name for name in SHAPES if name in context.labels.attributes]
    head = ("way", *HEAD, *(f"moves {name}" for name in shapes))
    cells = [(row["name"], *map(format_rate, (row[k] for k in (*COLUMNS_SHOWN, *shapes)))) for row in rows]
    first = max(rows, key=lambda row: row["both"].mean)
    note = (
        f"{first['name'].capitalize()} is right most often ({first['both'].mean:.2f}). The compact space learned"
        f" {', '.join(names)} together. Moves …: the mean |change| in standard deviations of sampled codes."
    )
    return SectionTable("Which way to count is best", head, cells, note), rows


COLUMNS_SHOWN = ("both", "more", "less", "kept", "sure", "beyond")
HEAD = ("right", "+1", "−1", "kept", "sure", "beyond")


def make_normal_score_move(editor: Editor, context: CountContext, attribute: str = "count") -> Move:
    """Return the moves of an editor whose changes are of normal scores: from the count nearest to its reading, to the next."""
    column = editor.attributes.index(attribute)
    normal = editor.gaussianize.select([column])

    def move(ws: WPlus, alpha: Any) -> WPlus:
        counts = context.labels.scores[:, context.labels.attributes.index(attribute)]
        values, readings = counts.unique(), editor.read(ws)[:, column].cpu()
        near = (normal(values[:, None])[:, 0] - readings[:, None]).abs().argmin(1)
        goal = (values[near] + alpha).clamp(values.min(), values.max())
        return editor.edit(ws, {attribute: (normal(goal[:, None])[:, 0] - readings).to(ws)})

    return move


def try_move(context: CountContext, cases: TrialCodes, name: str, move: Move) -> dict[str, Any]:
    """Return a move's estimates for changes by one."""
    context.log(f"Moving {len(cases.ws):,} codes: {name} …")
    return summarise_unit_moves(context, name, {alpha: run_move(context, cases, move, alpha) for alpha in (1, -1)})


def summarise_unit_moves(context: CountContext, name: str, trials: Mapping[int, MoveTrial]) -> dict[str, Any]:
    """Return estimates of a trial that asked for one object more, and of one for one less."""
    both = join_trials(list(trials.values()))
    scores, labels = context.labels.scores, context.labels.attributes
    moved = {
        shape: estimate_rate(
            (both.column(both.after, shape) - both.column(both.before, shape)).abs()
            / scores[:, labels.index(shape)].std()
        )
        for shape in SHAPES
        if shape in labels
    }
    return (
        summarise_trials(context, name, [trials[1]], [trials[-1]])
        | moved
        | {"apart": estimate_rate(measure_row_spread(context, both))}
    )


def find_correct_readings(context: CountContext, cases: TrialCodes, editor: Editor) -> Any:
    """Return 1 where an editor reads the count that the counter sees, else 0; (n,)."""
    return (
        editor.read(cases.ws)[:, editor.attributes.index("count")].round().cpu()
        == cases.scores[:, context.counter.column("count")]
    ).float()


def describe_aim(what: str, aim: float, estimate: Estimate) -> dict[str, Any]:
    """Return an aim and its result, as JSON."""
    return {"what": what, "aim": aim, "found": estimate, "holds": estimate.mean >= aim}
