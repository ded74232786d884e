"""The DCGAN in the wheel of the PyPI package gan-face-generate, which draws faces of 64×64.

https://pypi.org/project/gan-face-generate/1.1.1/ and https://github.com/chien-liu/DCGAN-PyTorch: ``weights.tar`` is a file of
torch.save with ``netG_state_dict``, whose layers are counted within ``main``; ``assets/generators/faces64.toml`` lists them.
"""

from __future__ import annotations

from torch import Tensor

from ganvas.checkpoints import _torch
from ganvas.checkpoints._budget import ReadBudget
from ganvas.errors import GanvasError

WEIGHTS_NAME, NETWORK_NAME = "weights.tar", "netG_state_dict"


def convert(content: bytes) -> dict[str, Tensor]:
    """Read the generator's weights in ``content``, the bytes of ``weights.tar``. Raises GanvasError for any other file."""
    budget = ReadBudget(WEIGHTS_NAME)
    dicts = dict(_torch.find_state_dicts(_torch.read_save(memoryview(content), budget)))
    if NETWORK_NAME not in dicts:
        raise GanvasError(f"{WEIGHTS_NAME} lacks {NETWORK_NAME}, the generator of gan-face-generate.")
    return _torch.read_tensors(dicts[NETWORK_NAME], budget)
