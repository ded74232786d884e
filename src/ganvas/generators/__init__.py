"""One file a family of generators; ``cards.toml`` names the ones that ``load_generator`` knows."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import import_module
from importlib.resources import files

import torch

from ganvas.errors import GanvasError, unknown
from ganvas.generator import Generator
from ganvas.hub import Card

DTYPES = (torch.float32, torch.bfloat16)


@cache
def _cards() -> dict[str, Card]:
    rows = tomllib.loads(files("ganvas.generators").joinpath("cards.toml").read_text(encoding="utf-8"))
    return {name: Card(name=name, **(row | {"files": tuple(row.get("files", ()))})) for name, row in rows.items()}


def generator_names() -> tuple[str, ...]:
    """The names that ``load_generator`` knows."""
    return tuple(_cards())


def card(name: str) -> Card:
    """What is known about a generator without loading it. Raises GanvasError for a name that no card has."""
    if name not in _cards():
        raise unknown("generator", name, generator_names())
    return _cards()[name]


def load_generator(name: str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Generator:
    """The generator ``name`` with its weights on ``device``; they are fetched the first time.

    ``dtype`` is that of the synthesis; codes and pictures are float32 whatever it is.
    Raises GanvasError for an unknown name, device or dtype, and where the weights can't be had.
    """
    found, place = card(name), check_device(device)
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, map(str, DTYPES))
    return import_module(f"ganvas.generators.{found.family}").load(found, place, dtype)


def check_device(device: str | torch.device) -> torch.device:
    """``device`` as torch's own, known to work here. Raises GanvasError where it isn't."""
    here = [
        "cpu",
        *(["cuda"] if torch.cuda.is_available() else []),
        *(["mps"] if torch.backends.mps.is_available() else []),
    ]
    try:
        place = torch.device(device)
    except RuntimeError:
        raise unknown("device", device, here) from None
    if place.type not in here:
        raise GanvasError(f"Device {str(device)!r} isn't available on this machine: pick one of {', '.join(here)}.")
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise GanvasError(f"Device {str(device)!r} isn't there: this machine has {torch.cuda.device_count()} of them.")
    return place
