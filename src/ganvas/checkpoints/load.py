"""Load a generator by its name, or from a checkpoint's file."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import torch

from ganvas.checkpoints import read
from ganvas.errors import unknown
from ganvas.generators import DTYPES, card, check_device
from ganvas.generators.base import Generator
from ganvas.precision import leave_inference_mode


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
        return read(name).generator(found.name, dtype).to(place)
    return import_module(f"ganvas.generators.{found.family}").load(found, place, dtype)
