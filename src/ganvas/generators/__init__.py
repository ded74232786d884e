"""Generators, one module or package a family; ``cards.toml`` lists those that ``load_generator`` loads by name."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path

import torch

from ganvas.errors import GanvasError, unknown
from ganvas.io.files import check_local_path
from ganvas.io.hub import Card

DTYPES = (torch.float32, torch.bfloat16)


@cache
def _read_cards() -> dict[str, Card]:
    rows = tomllib.loads(files("ganvas.generators").joinpath("cards.toml").read_text(encoding="utf-8"))
    return {name: Card(name=name, **row) for name, row in rows.items()}


def list_generators() -> tuple[str, ...]:
    """List the names that ``load_generator`` takes."""
    return tuple(_read_cards())


def find_card(name: str) -> Card:
    """Return the card of a generator by its name; an almost empty one for the path of a file or of a folder with weights.

    Raises GanvasError for a name that is neither.
    """
    if name in _read_cards():
        return _read_cards()[name]
    check_local_path(name)
    if (Path(name) / "pytorch_model.bin").is_file():  # a folder of huggingface's
        return Card(name=Path(name).stem, licence="", source=str(name))
    if Path(name).is_dir():
        raise GanvasError(f"{name} is a folder: give the checkpoint in it.")
    if not Path(name).is_file():
        raise unknown("generator", name, [*list_generators(), "the path of a checkpoint"])
    return Card(name=Path(name).stem, licence="", source=str(name))


def has_faces(generator: str) -> bool:
    """Return whether a generator draws faces, as its card says; one from a file is taken to."""
    return generator not in list_generators() or find_card(generator).faces


def describe_torch() -> str:
    """Describe PyTorch on this processor: its version and build, its instruction set, its threads."""
    capability, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    text = f"torch {torch.__version__}, {capability}, {threads} thread{'s' * (threads != 1)}"
    # PyTorch gives bfloat16 convolutions to oneDNN only where the processor has instructions for them.
    return text + ("; bfloat16 is usually slow without AVX-512: prefer float32" if capability == "AVX2" else "")


def check_device(device: str | torch.device) -> torch.device:
    """Convert ``device`` to a ``torch.device``. Raises GanvasError where this machine doesn't have it."""
    available = [
        "cpu",
        *(["cuda"] if torch.cuda.is_available() else []),
        *(["mps"] if torch.backends.mps.is_available() else []),
    ]
    try:
        place = torch.device(device)
    except RuntimeError:
        raise unknown("device", device, available) from None
    if place.type not in available:
        raise GanvasError(
            f"Device {str(device)!r} isn't available on this machine: pick one of {', '.join(available)}."
        )
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise GanvasError(f"Device {str(device)!r} isn't available: this machine has {torch.cuda.device_count()} GPUs.")
    return place
