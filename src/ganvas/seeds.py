"""Ranges of seeds, so that no editor learns from a face that reports are made on; small seeds are for users."""

from __future__ import annotations

CALIBRATION_SEED = 900_000
"""The first seed of the faces that editors are calibrated on in pictures."""
LABEL_SEED = 1_000_000
"""The first seed of labels."""
REPORT_SEEDS = range(2_000_000, 3_000_000)
"""The seeds of all reports."""
EVALUATION_SEED = REPORT_SEEDS.start
"""The first seed of codes that reports edit."""
LATENT_SEED = 2_500_000
"""The first seed of codes that reports measure without rendering them."""
BALANCING_SEED = 2_600_000
"""The first seed of pictures that counters learn from in the balancing experiment."""
CONDITIONAL_SEED = 2_700_000
"""The first seed of pictures that a conditional and an unconditional generator are compared on."""
DISTRIBUTION_SEED = 3_000_000
"""The first seed of codes that the distribution of W is measured on."""
DISTANCE_SEED = 3_000_000
"""The first seed of samples whose distance from real pictures is measured while a GAN is trained.

They may be those of ``DISTRIBUTION_SEED``: neither learns from what the other measures.
"""
MEAN_CODES_SEED = 4_000_000
"""The first seed of codes that the mean of W of a finished GAN is taken over, after those of measured samples."""
LOCAL_SEED = 5_000_000
"""The first seed of the faces that local moves are learned from."""
SAMPLE_SHEET_SEED = 77
"""The seed, of PyTorch's random numbers, of the sheets of samples that the training of a GAN writes."""


def label_seeds(n: int, first: int = LABEL_SEED, start: int = 0) -> list[int]:
    """Return the seeds of labels ``start`` to ``start + n - 1``, counted from seed ``first`` without the seeds of reports."""
    seeds = range(first + start, first + start + n)
    return [seed + len(REPORT_SEEDS) if first < REPORT_SEEDS.start <= seed else seed for seed in seeds]
