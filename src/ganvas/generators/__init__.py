"""One file a family of generators; ``cards.toml`` names the ones that ``load_generator`` knows."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path

import torch

from ganvas.errors import GanvasError, unknown
from ganvas.io.hub import Card

DTYPES = (torch.float32, torch.bfloat16)


@cache
def _cards() -> dict[str, Card]:
    rows = tomllib.loads(files("ganvas.generators").joinpath("cards.toml").read_text(encoding="utf-8"))
    return {name: Card(name=name, **(row | {"files": tuple(row.get("files", ()))})) for name, row in rows.items()}


def generator_names() -> tuple[str, ...]:
    """The names that ``load_generator`` knows."""
    return tuple(_cards())


def card(name: str) -> Card:
    """What is known about a generator without loading it; nothing, of a file. Raises GanvasError for any other name."""
    if name in _cards():
        return _cards()[name]
    if not Path(name).is_file():
        raise unknown("generator", name, [*generator_names(), "the path of a checkpoint"])
    return Card(name=Path(name).stem, licence="", source=str(name), family="", about="", scorer="")


def describe_torch() -> str:
    """Describe what computes on this processor: PyTorch's version and build, its instruction set, its threads."""
    capability, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    text = f"torch {torch.__version__}, {capability}, {threads} thread{'s' * (threads != 1)}"
    # PyTorch gives bfloat16 convolutions to oneDNN only where the processor has instructions for them.
    return text + ("; bfloat16 is usually slow without AVX-512: prefer float32" if capability == "AVX2" else "")


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
