"""One file a scorer, each with a function ``load(name)``; a new file is known at once."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from ganvas.errors import unknown
from ganvas.scorer import Scorer


@cache
def scorer_names() -> tuple[str, ...]:
    """The names that ``load_scorer`` knows."""
    return tuple(sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_")))


def load_scorer(name: str) -> Scorer:
    """The scorer ``name``, on the CPU. Raises GanvasError for a name that no file has."""
    if name not in scorer_names():
        raise unknown("scorer", name, scorer_names())
    return import_module(f"ganvas.scorers.{name}").load(name)
