"""ganvas: give any pretrained GAN named, independent controls."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganvas.checkpoints.load import load_generator
    from ganvas.data.dataset import LatentDataset
    from ganvas.data.label import label
    from ganvas.editors import fit, load_editor
    from ganvas.editors.base import Editor
    from ganvas.errors import GanvasError
    from ganvas.generators.base import Generator, sample
    from ganvas.scorers import load_scorer
    from ganvas.scorers.base import Scorer

__version__ = "0.1.0"

__all__ = [
    "Editor",
    "GanvasError",
    "Generator",
    "LatentDataset",
    "Scorer",
    "fit",
    "label",
    "load_editor",
    "load_generator",
    "load_scorer",
    "sample",
]

# Where each public name lives: imported when it's first used, since torch alone takes a second.
_HOMES = {
    "Editor": "editors.base",
    "GanvasError": "errors",
    "Generator": "generators.base",
    "LatentDataset": "data.dataset",
    "Scorer": "scorers.base",
    "fit": "editors",
    "label": "data.label",
    "load_editor": "editors",
    "load_generator": "checkpoints.load",
    "load_scorer": "scorers",
    "sample": "generators.base",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ganvas' has no attribute {name!r}")
    return getattr(import_module(f"ganvas.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
