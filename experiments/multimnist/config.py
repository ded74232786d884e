"""The sizes of a count report: the full one and a quick one."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ganvas.errors import GanvasError


@dataclass(frozen=True)
class CountReportConfig:
    """How much of everything a count report does; the defaults are the full report."""

    labels: int = 60_000
    """Sampled codes that are labelled through pictures."""
    moves: int = 1_000
    """Fresh codes, of a count that the counter is sure of, that each editor is judged on."""
    others: int = 400
    """The same, for the extensions of the paper and for each class of object."""
    images: int = 8_000
    """Real images that are inverted to learn from."""
    held_out: int = 500
    """Real images, held out, that are inverted, edited and judged."""
    encoder: int = 300
    """Steps that each encoder is trained for, after twice as many that they share."""
    classifier_steps: int = 1_500
    """Steps that a latent classifier is trained for, in W and in W+."""
    steps: int = 1_500
    """Steps that an H is trained for, in W and in W+."""
    hidden: tuple[int, ...] = (2048, 512)
    """Hidden layers of the latent classifiers of inverted images: the paper's in W+."""
    umap: int = 3_000
    """Codes that the UMAP shows."""
    counters: int = 800
    """Steps that each counter of the balancing proof is trained for."""
    repeats: int = 3
    """Counters, with seeds of their own, that the balancing proof trains on each set."""
    rows: int = 6
    """Rows of pictures."""
    classifiers: int = 3
    """Latent classifiers that must agree, in the recipe "best"."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if min(value if isinstance(value, tuple) else (value,)) < 1:
                raise GanvasError(f"{field.name} must be at least 1, not {value}.")


FULL = CountReportConfig()
"""The report that ``docs/results`` holds."""
QUICK = CountReportConfig(
    labels=1_500,
    moves=100,
    others=60,
    images=400,
    held_out=60,
    encoder=6,
    classifier_steps=200,
    steps=150,
    hidden=(256, 128),
    umap=600,
    counters=60,
    repeats=1,
    rows=3,
    classifiers=2,
)
"""All sections, small."""
