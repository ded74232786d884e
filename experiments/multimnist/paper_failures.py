"""Where the paper's H fails in W: by the classifier, by leaving W, or by being one linear layer.

    python -m experiments.multimnist.paper_failures

Fits the paper's recipe (Doubinsky et al., RFIAP 2022, https://cea.hal.science/cea-04852483) in W with cross-entropy, then the
same with one thing changed at a time, on the labels that ship. Prints, for fresh codes whose count the counter is sure of,
asked for one digit more and one fewer: how many are right by the classifier that H learned from, how many by the counter in
pictures, how many left W, and how many are right by the counter among those of which the classifier is, with intervals by code.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import torch
import typer

from experiments.multimnist.keeping import LABELS, PAPER_OPTIONS, JudgedCodes, MoveJudges
from experiments.multimnist.trials import MAX_COUNT, MIN_COUNT
from ganvas import editors
from ganvas.checkpoints.load import load_generator
from ganvas.data.dataset import LatentDataset
from ganvas.data.distribution import fit_distribution
from ganvas.data.label_files import load_labels
from ganvas.editors.cardinality import CardinalityEditor
from ganvas.errors import GanvasError
from ganvas.evaluation.pages import format_estimate
from ganvas.scorers import load_scorer
from ganvas.scorers.count import Counter
from ganvas.seeds import EVALUATION_SEED
from ganvas.stats import estimate_proportion

VARIANTS: dict[str, dict[str, Any]] = {
    "the paper's H": {},
    "H with a hidden layer": {"width": 256},
    "one H that adds, one that removes": {"signs": 2},
    "along 64 principal components": {"pca": 64},
    "both of these": {"signs": 2, "pca": 64},
    "both, and a smoother classifier": {"signs": 2, "pca": 64, "dropout": 0.2, "noise": 0.1},
}


def judge_variant(
    options: dict[str, Any], labels: LatentDataset, judges: MoveJudges, cases: JudgedCodes
) -> dict[str, torch.Tensor]:
    """Fit a variant, and return 1 or 0 for each move by each measure, with the codes' numbers as "code"."""
    editor = editors.fit("cardinality", labels, judges.generator, **PAPER_OPTIONS, **options)
    if not isinstance(editor, CardinalityEditor):
        raise GanvasError("The method 'cardinality' gave another editor.")
    distribution, count = fit_distribution(judges.generator), cases.scores[:, 0]
    columns: dict[str, list[torch.Tensor]] = {}
    for alpha in (1.0, -1.0):
        rows = ((count + alpha >= MIN_COUNT) & (count + alpha <= MAX_COUNT)).nonzero()[:, 0]
        moved = editor.edit_quietly(cases.ws[rows], {"count": alpha})
        goal, drawn = count[rows] + alpha, judges.judge(moved)
        # Rows of W+ are equal in W.
        classified = editor.networks[0].classify_counts(moved[:, 0])[:, 0].float()
        found = {
            "code": rows,
            "classifier": (classified == goal).float(),
            "counter": (drawn.scores[:, 0] == goal).float(),
            "left W": (~distribution.contains(moved)).float(),
        }
        for name, values in found.items():
            columns.setdefault(name, []).append(values)
    return {name: torch.cat(parts) for name, parts in columns.items()}


def main(
    n: Annotated[int, typer.Option("-n", help="Codes.")] = 400,
    seed: Annotated[int, typer.Option(help="The first seed.")] = EVALUATION_SEED,
) -> None:
    """Show where the paper's H fails."""
    generator, counter = load_generator("multimnist"), load_scorer("count")
    if not isinstance(counter, Counter):
        raise GanvasError("The scorer 'count' isn't a counter of digits.")
    judges, labels = MoveJudges(generator, counter, {}), load_labels(LABELS, generator)
    cases = judges.sample_sure(n, seed)
    for name, options in VARIANTS.items():
        found = judge_variant(options, labels, judges, cases)
        agreed = found["classifier"] == 1
        print(f"\n{name}")
        for measure in ("classifier", "counter", "left W"):
            print(f"  {measure:32} {format_estimate(vars(estimate_proportion(found[measure], found['code'])), 3)}")
        both = estimate_proportion(found["counter"][agreed], found["code"][agreed])
        print(f"  {'counter, where the classifier is':32} {format_estimate(vars(both), 3)}", flush=True)


if __name__ == "__main__":
    try:
        typer.run(main)
    except GanvasError as error:
        sys.exit(f"Error: {error}")
