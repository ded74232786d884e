"""One file a scorer, each with a function ``load(name)``; a new file is known at once.

``cards.toml`` says where the weights of scorers come from that others published.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import import_module
from importlib.resources import files
from pkgutil import iter_modules

from ganvas.errors import unknown
from ganvas.io.files import load_tensors
from ganvas.io.hub import PublishedWeights
from ganvas.precision import leave_inference_mode
from ganvas.scorers.base import Scorer

FILES = {"count": "count", "examples": "from_examples"}
"""What a file says its scorer is -> the module that reads it; celeba40's reads the others."""

NO_SCORERS = frozenset({"base", "celeba40_reading", "from_examples", "networks"})
"""Public modules of this package that ``load_scorer`` loads nothing from by their name."""


@cache
def scorer_names() -> tuple[str, ...]:
    """The names that ``load_scorer`` knows."""
    names = {module.name for module in iter_modules(__path__) if not module.name.startswith("_")}
    return tuple(sorted(names - NO_SCORERS))


@cache
def cards() -> dict[str, PublishedWeights]:
    """Where the weights of the scorers come from that are fetched, by name."""
    rows = tomllib.loads(files("ganvas.scorers").joinpath("cards.toml").read_text(encoding="utf-8"))
    return {name: PublishedWeights(name=name, **(row | {"files": tuple(row["files"])})) for name, row in rows.items()}


@leave_inference_mode()
def load_scorer(name: str) -> Scorer:
    """The scorer ``name``, or the one in a file, on the CPU: one that ganvas wrote, or a classifier in ONNX with its card.

    Raises GanvasError for a name that no file has, and where published weights can't be had.
    """
    if name.endswith(".safetensors"):
        kind = FILES.get(str(load_tensors(name)[1].get("scorer")), "celeba40")
        return import_module(f"ganvas.scorers.{kind}").read(name)
    if name.endswith(".onnx"):
        return import_module("ganvas.scorers._classifier").read(name)
    if name not in scorer_names():
        raise unknown("scorer", name, [*scorer_names(), "a file of ganvas's (.safetensors), a classifier (.onnx)"])
    return import_module(f"ganvas.scorers.{name}").load(name)
