"""One file a family of generators; ``cards.toml`` names the ones that ``load_generator`` knows."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path

import torch

from ganvas.errors import GanvasError, unknown
from ganvas.generator import Generator
from ganvas.hub import Card
from ganvas.precision import leave_inference_mode

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


@leave_inference_mode()
def load_generator(
    name: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Generator:
    """The generator ``name`` with its weights on ``device``, fetched the first time; or the one in a checkpoint's file.

    A file is recognised by its content, and nothing in it is run: ``ganvas.checkpoints`` says which are known.
    ``dtype`` is that of the synthesis; pictures are float32 whatever it is.
    Raises GanvasError for an unknown name, device or dtype, where the weights can't be had, and for any other file.
    """
    found, place = card(str(name)), check_device(device)
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, map(str, DTYPES))
    if not found.family:
        return import_module("ganvas.checkpoints").read(name).generator(found.name, dtype).to(place)
    return import_module(f"ganvas.generators.{found.family}").load(found, place, dtype)


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
