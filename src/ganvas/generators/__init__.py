"""Generators, one module or package a family; ``cards.toml`` lists those that ``load_generator`` loads by name."""

from __future__ import annotations

import platform
import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import cast

import torch

from ganvas.errors import GanvasError, unknown
from ganvas.io.files import check_local_path
from ganvas.io.hub import Card
from ganvas.types import DTYPES, Dtype

TORCH_DTYPES = (torch.float32, torch.bfloat16)


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
    slow = (
        "" if has_bfloat16_instructions("cpu") else "; bfloat16 is slow here: this processor has no instructions for it"
    )
    return text + slow


def has_bfloat16_instructions(device: str | torch.device) -> bool:
    """Return whether a device has instructions for bfloat16; without them it is much slower than float32."""
    place = torch.device(device)
    if place.type == "cuda":
        # Emulated bfloat16 counts as supported, too.
        return torch.cuda.get_device_capability(place) >= (8, 0)
    if place.type != "cpu":
        return False
    if platform.machine().lower() in ("x86_64", "amd64"):
        # Not public; where a later PyTorch lacks it, float32 is the safe choice.
        return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # a build without oneDNN
        return False


def choose_dtype(dtype: str, device: str | torch.device) -> Dtype:
    """Return the name of a dtype; "auto" is bfloat16 where the device has instructions for it, else float32.

    Raises GanvasError for an unknown dtype or device.
    """
    if dtype == "auto":
        return "bfloat16" if has_bfloat16_instructions(check_device(device)) else "float32"
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, ("auto", *DTYPES))
    return cast("Dtype", dtype)


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
