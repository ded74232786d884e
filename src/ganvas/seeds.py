"""Which seeds are for what: no editor learns from a face that a report is made on, and small seeds are for people."""

from __future__ import annotations

LABEL_SEED = 1_000_000
"""The first that is labelled."""
REPORT_SEEDS = range(2_000_000, 3_000_000)
"""Of all reports."""
BENCH_SEED = REPORT_SEEDS.start
"""The first that is edited in reports."""
LATENT_SEED = 2_500_000
"""The first of measures of codes alone, which aren't rendered."""
PROOF_SEED = 2_600_000
"""The first of pictures that counters learn from to show what balancing is worth."""
CONDITIONAL_SEED = 2_700_000
"""The first of pictures that a generator with labels and one without draw."""
DISTRIBUTION_SEED = 3_000_000
"""The first of codes that the distribution of W is measured on."""


def label_seeds(n: int, first: int = LABEL_SEED, start: int = 0) -> list[int]:
    """The seeds of ``n`` labels from number ``start`` on, of those that begin at ``first``: all but those of reports."""
    seeds = range(first + start, first + start + n)
    return [seed + len(REPORT_SEEDS) if first < REPORT_SEEDS.start <= seed else seed for seed in seeds]
