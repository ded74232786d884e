"""Scorers, one module each with a function ``load(name)``; a new module is discovered by its file.

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
"""The metadata entry "scorer" of a file -> the module that reads it; celeba40's reads the others."""

NO_SCORERS = frozenset({"base", "from_examples", "networks"})
"""Public modules of this package that ``load_scorer`` loads nothing from by their name."""


@cache
def list_scorers() -> tuple[str, ...]:
    """List the names that ``load_scorer`` takes."""
    names = {module.name for module in iter_modules(__path__) if not module.name.startswith("_")}
    return tuple(sorted(names - NO_SCORERS))


@cache
def read_cards() -> dict[str, PublishedWeights]:
    """Read ``cards.toml``: where the weights come from of scorers that are fetched, by name."""
    rows = tomllib.loads(files("ganvas.scorers").joinpath("cards.toml").read_text(encoding="utf-8"))
    return {name: PublishedWeights(name=name, **row) for name, row in rows.items()}


@leave_inference_mode()
def load_scorer(name: str) -> Scorer:
    """Load a scorer by its name or from a file.

    Args:
        name: A scorer such as "celeba40", or the path of a file that ganvas wrote (.safetensors) or of a classifier in ONNX
            (.onnx), which needs a card beside it, a small .toml or .json file that names its outputs.

    Returns:
        The scorer, on the CPU.

    Raises:
        GanvasError: There is no such scorer, the file is damaged or holds something else, or weights can't be downloaded.
    """
    if name.endswith(".safetensors"):
        kind = FILES.get(str(load_tensors(name)[1].get("scorer")), "celeba40")
        return import_module(f"ganvas.scorers.{kind}").read(name)
    if name.endswith(".onnx"):
        return import_module("ganvas.scorers._classifier").read(name)
    if name not in list_scorers():
        raise unknown(
            "scorer", name, [*list_scorers(), "a file that ganvas wrote (.safetensors)", "a classifier (.onnx)"]
        )
    return import_module(f"ganvas.scorers.{name}").load(name)


def find_scorer(reference: str) -> Scorer | None:
    """Find the scorer of a reference "name:fingerprint", as labels and editors state it.

    Returns None where ganvas doesn't have it, or has another version of it.
    """
    name, _, fingerprint = reference.rpartition(":")
    if name not in list_scorers():
        return None
    scorer = load_scorer(name)
    return scorer if scorer.fingerprint == fingerprint else None
