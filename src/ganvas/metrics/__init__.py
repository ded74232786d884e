"""Metrics of edits: registered functions that give one value a code, ``Trial -> (n,)``; new modules here are discovered.

A report shows every registered metric. ``ganvas.stats`` turns values into estimates with intervals; nan marks a code that
doesn't count.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from ganvas.metrics.base import METRICS, Metric, Trial, metric, to_readable

__all__ = ["Metric", "Trial", "list_metrics", "metric", "to_readable"]


def list_metrics() -> dict[str, Metric]:
    """Return every registered metric by its name, in the order of names."""
    _import_modules()
    return dict(sorted(METRICS.items()))


@cache
def _import_modules() -> None:
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
