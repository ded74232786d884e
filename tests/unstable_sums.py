"""A processor whose sums differ in their last bits with the shape, strides and alignment of what they are given.

Real ones do so, each in other places: what holds here holds on a processor that nobody tried.
"""

from __future__ import annotations

import zlib
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "convolution", "_convolution")
"""The operations of ATen that add many numbers in an order of their own."""
LAST_BITS = 2.0**-22
"""The largest relative change of a result."""


class UnsteadySums(TorchDispatchMode):
    """Changes float32 results of ``PRODUCTS`` by a fixed pattern for each layout of their inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.noise = 1 + LAST_BITS * (2 * torch.rand(1 << 14, generator=torch.Generator().manual_seed(0)) - 1)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if func._overloadpacket.__name__.removesuffix("_") not in PRODUCTS or not isinstance(found, Tensor):
            return found
        if found.dtype == torch.float32 and found.numel():
            width = found.shape[-1] if found.ndim else 1
            start = zlib.crc32(repr(_layout((args, kwargs))).encode()) % 4096
            places = (start + torch.arange(width)) % len(self.noise)
            found.mul_(self.noise[places].reshape(found.shape[-1:]))
        return found


def _layout(value: Any) -> Any:
    """Everything that a kernel may choose its way by."""
    if isinstance(value, Tensor):
        return tuple(value.shape), value.stride(), value.data_ptr() % 64
    if isinstance(value, list | tuple):
        return [_layout(part) for part in value]
    return {key: _layout(part) for key, part in value.items()} if isinstance(value, dict) else value
