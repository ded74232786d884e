"""Loading generators by name or from a checkpoint file."""

from __future__ import annotations

import warnings
from importlib import import_module
from pathlib import Path

import torch

from ganvas.checkpoints import read
from ganvas.errors import unknown
from ganvas.generators import TORCH_DTYPES, check_device, choose_dtype, find_card, has_bfloat16_instructions
from ganvas.generators.base import Generator
from ganvas.precision import leave_inference_mode


@leave_inference_mode()
def load_generator(
    name: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | str = torch.float32
) -> Generator:
    """Load a pretrained generator by its name or from a checkpoint file.

    Args:
        name: A generator such as "ffhq", whose weights are downloaded and verified the first time, or the path of a checkpoint.
            A file is recognised by its content, and no code in it is run; ``ganvas.checkpoints`` lists the formats.
        device: The device of the weights, such as "cpu" or "cuda".
        dtype: The dtype that synthesis computes in, ``torch.float32`` or ``torch.bfloat16``, or the name of one; "auto": bfloat16
            where the device has instructions for it. Pictures are float32 either way.

    Returns:
        The frozen generator.

    Raises:
        GanvasError: The name, device or dtype is unknown, weights can't be downloaded, or the file is damaged or of another kind.
    """
    card, place = find_card(str(name)), check_device(device)
    if isinstance(dtype, str):
        dtype = getattr(torch, choose_dtype(dtype, place))
    if dtype not in TORCH_DTYPES:
        raise unknown("dtype", dtype, map(str, TORCH_DTYPES))
    if dtype == torch.bfloat16 and place.type in ("cpu", "cuda") and not has_bfloat16_instructions(place):
        warnings.warn(f"{place.type} has no instructions for bfloat16 here: float32 is much faster.", stacklevel=2)
    if not card.family:
        return read(name).build_generator(card.name, dtype).to(place)
    return import_module(f"ganvas.generators.{card.family}").load(card, place, dtype)
