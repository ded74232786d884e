"""Whether faces drawn by conditions meet them, and how much they still differ: the shipped editor and scorer of ffhq.

    python -m experiments.ffhq.conditional_sampling OUT [-n 256]

Draws n faces for each of Eyeglasses, Male, Smiling and Young, above and below p = 0.5, at psi 1, scores them, and prints the
share that meets its condition beside the base rate, and how much the free dimensions still vary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

import ganvas
from ganvas.control import conditions, sampling
from ganvas.control.search import CodeScorer
from ganvas.editors.compact import CompactEditor
from ganvas.evaluation.context import make_code_scorer
from ganvas.evaluation.faces import PRESENCE_THRESHOLD, FacePool, grow_pool
from ganvas.evaluation.papers import ATTRIBUTES
from ganvas.evaluation.success import FULL_PROTOCOL, SuccessProtocol, check_protocol
from ganvas.generators.base import Generator, sample
from ganvas.io.files import write_json, write_text
from ganvas.progress import show_advance
from ganvas.recipe.files import check_output
from ganvas.scorers.base import Scorer
from ganvas.types import W

UNCONDITIONAL_CODES = 4096
"""Number of codes that the spread is compared with; they are not rendered."""


@dataclass(frozen=True)
class ConditionalResult:
    """Results of ``n`` samples of which an attribute was asked for (p > 0.5) or excluded (p < 0.5).

    ``met``: the share of pictures that do so for the scorer; ``base_rate``: that of unconditional faces. Spreads are mean
    ratios of standard deviations to those of unconditional codes: over the code's dimensions that belong to no attribute,
    over all of its dimensions but the attribute's, and over the principal components beyond the code's.
    """

    attribute: str
    present: bool
    n: int
    met: float
    base_rate: float
    spread_free: float | None
    spread_others: float
    spread_beyond: float | None


def measure_conditional_success(
    generator: Generator,
    scorer: Scorer,
    editor: CompactEditor,
    attributes: Sequence[str] = ATTRIBUTES,
    protocol: SuccessProtocol = FULL_PROTOCOL,
    pool: Path | None = None,
) -> list[ConditionalResult]:
    """Sample ``protocol.n`` codes for each attribute and sign, render and score them; fresh faces give the base rate.

    Raises GanvasError for an attribute that scorer or editor lack, or that has no probability.
    """
    check_protocol(scorer, editor, attributes)
    code_scorer = CodeScorer(generator, scorer, protocol.batch)
    empty = FacePool(torch.zeros(0, len(scorer.attributes)), protocol.seed, protocol.psi)
    with show_advance("Scoring fresh faces") as advance:
        pooled, _ = make_code_scorer(generator, scorer, protocol.batch, pool, advance)
        fresh = grow_pool(pooled, [], protocol.n, empty, protocol.n, protocol.n)
    free = sample(generator, UNCONDITIONAL_CODES, protocol.psi, protocol.seed)[:, 0]
    conditions = []
    for attribute in attributes:
        for present in (True, False):
            with show_advance(f"{attribute} {'>' if present else '<'} {PRESENCE_THRESHOLD}", protocol.n) as advance:
                reporting = replace(code_scorer, on_batch=advance)
                conditions.append(_measure_condition(reporting, editor, attribute, present, protocol, fresh, free))
    return conditions


def _measure_condition(
    code_scorer: CodeScorer,
    editor: CompactEditor,
    attribute: str,
    present: bool,
    protocol: SuccessProtocol,
    fresh: FacePool,
    free: W,
) -> ConditionalResult:
    """Sample, render and score the codes of one condition."""
    low, high = (PRESENCE_THRESHOLD, None) if present else (None, PRESENCE_THRESHOLD)
    where = conditions.compute_condition_ranges([conditions.Condition(attribute, low, high, probability=True)], editor)
    ws = sampling.sample_where(code_scorer.generator, editor, where, protocol.n, protocol.seed, psi=protocol.psi)
    column = code_scorer.scorer.column(attribute)
    met, base = (_compute_share(scores[:, column], present) for scores in (code_scorer(ws), fresh.scores))
    spread, usual = ([codes.std(0) for codes in _split_code(editor, w, attribute)] for w in (ws.mean(1), free))
    ratios = [_mean_ratio(a, b) for a, b in zip(spread, usual, strict=True)]
    return ConditionalResult(attribute, present, protocol.n, met, base, ratios[0], ratios[1] or 0.0, ratios[2])


def _compute_share(logits: Tensor, present: bool) -> float:
    """Return the share of logits whose probability is on the side asked for."""
    probabilities = torch.sigmoid(logits)
    return float(
        ((probabilities > PRESENCE_THRESHOLD) if present else (probabilities < PRESENCE_THRESHOLD)).double().mean()
    )


@torch.no_grad()
def _split_code(editor: CompactEditor, w: W, attribute: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return the code's dimensions without a name, all but the attribute's, and what lies beyond the components."""
    c, k = editor.encode(w), editor.attributes.index(attribute)
    others = torch.arange(c.shape[1], device=c.device) != k
    return c[:, len(editor.attributes) :], c[:, others], w - editor.pca.unproject(editor.pca.project(w))


def _mean_ratio(spread: Tensor, usual: Tensor) -> float | None:
    """Return the mean ratio over dimensions that vary at all; None where none does."""
    varies = usual > 1e-4
    return float((spread[varies] / usual[varies]).mean()) if varies.any() else None


def run_conditional(
    generator: Generator,
    scorer: Scorer,
    editor: CompactEditor,
    out: str | Path,
    attributes: Sequence[str] = ATTRIBUTES,
    protocol: SuccessProtocol = FULL_PROTOCOL,
) -> list[ConditionalResult]:
    """Run ``measure_conditional_success`` and write ``out``/conditional.json and conditional.md; fresh faces' scores are kept.

    Raises GanvasError as that, and where ``out`` can't be written.
    """
    out = Path(out)
    check_output(out / "conditional.json", (".json",))
    conditions = measure_conditional_success(generator, scorer, editor, attributes, protocol, out / "pool")
    write_json(out / "conditional.json", [asdict(condition) for condition in conditions])
    write_text(out / "conditional.md", markdown(conditions))
    return conditions


def markdown(conditions: Sequence[ConditionalResult]) -> str:
    """Format results as a Markdown table."""
    head = ("condition", "met", "base rate", "spread (free)", "spread (others)", "spread (beyond)")
    lines = [
        f"{conditions[0].n} samples a condition; spreads: standard deviations over those of unconditional codes.",
        "",
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
    ]
    for c in conditions:
        sign = ">" if c.present else "<"
        spreads = [f"{s:.2f}" if s is not None else "-" for s in (c.spread_free, c.spread_others, c.spread_beyond)]
        cells = (
            f"p({c.attribute}) {sign} {PRESENCE_THRESHOLD}",
            f"{c.met:.3f}",
            f"{c.base_rate:.3f}",
            *spreads,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(
    out: Annotated[Path, typer.Argument(help="The folder for conditional.json and conditional.md.")],
    n: Annotated[int, typer.Option("-n", help="Faces a condition.")] = 256,
) -> None:
    """Measure conditional sampling with what ships for ffhq."""
    generator = ganvas.load_generator("ffhq", dtype="auto")
    editor, scorer = ganvas.load_editor("ffhq/compact"), ganvas.load_scorer("celeba40")
    if not isinstance(editor, CompactEditor):
        raise TypeError("ffhq/compact is no compact editor.")
    print(markdown(run_conditional(generator, scorer, editor, out, protocol=SuccessProtocol(n=n))))


if __name__ == "__main__":
    typer.run(main)
