"""Fingerprints of weights: equal weights have equal ones on any machine, in any storage."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor


def hash_weights(named: Iterable[tuple[str, Tensor]]) -> str:
    """sha256 over names, shapes and float32 values, sorted by name; independent of device, dtype and storage order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(named):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()
